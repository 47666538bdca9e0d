//! Liveliness tokens of rmw_zenoh: how nodes, publishers and subscribers know of each other.

use crate::{MessageType, Qos};

/// Before every token.
const TOKENS: &str = "@ros2_lv";

/// What selects every token of a domain.
pub fn tokens_of_domain(domain: u32) -> String {
    format!("{TOKENS}/{domain}/**")
}

/// A node: what `ros2 node list` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub domain: u32,
    /// The zenoh session that it lives in, in hexadecimal.
    pub zid: String,
    /// Of the node, within its session.
    pub id: u32,
    /// `/` for none.
    pub namespace: String,
    pub name: String,
}

impl Node {
    /// The token of the node itself.
    pub fn token(&self) -> String {
        self.entity(self.id, "NN")
    }

    fn entity(&self, id: u32, kind: &str) -> String {
        let Self { domain, zid, id: node, namespace, name } = self;
        let namespace = mangle(if namespace.is_empty() { "/" } else { namespace });
        format!("{TOKENS}/{domain}/{zid}/{node}/{id}/{kind}/%/{namespace}/{name}")
    }
}

/// What an endpoint does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind {
    Publisher,
    Subscriber,
    Service,
    Client,
}

const KINDS: [(EndpointKind, &str); 4] = [
    (EndpointKind::Publisher, "MP"),
    (EndpointKind::Subscriber, "MS"),
    (EndpointKind::Service, "SS"),
    (EndpointKind::Client, "SC"),
];

/// A publisher, subscriber, service or client of a node: what `ros2 topic list` shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub node: Node,
    /// Of the endpoint, within its session.
    pub id: u32,
    pub kind: EndpointKind,
    /// The whole name.
    pub topic: String,
    /// As DDS names it.
    pub type_name: String,
    pub hash: String,
    /// As [`Qos::key`] gives it.
    pub qos: String,
}

impl Endpoint {
    /// An endpoint that speaks `message`.
    pub fn new(
        node: &Node,
        id: u32,
        kind: EndpointKind,
        topic: &str,
        message: MessageType,
        qos: Qos,
    ) -> Self {
        Self {
            node: node.clone(),
            id,
            kind,
            topic: topic.to_owned(),
            type_name: message.dds_name().to_owned(),
            hash: message.hash().to_owned(),
            qos: qos.key(),
        }
    }

    pub fn token(&self) -> String {
        let kind = KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, code)| code);
        let Self { topic, type_name, hash, qos, .. } = self;
        format!("{}/{}/{type_name}/{hash}/{qos}", self.node.entity(self.id, kind), mangle(topic))
    }
}

/// The endpoint of a token; `None` for that of a node, and for what is none.
pub fn parse_endpoint(token: &str) -> Option<Endpoint> {
    let parts: Vec<&str> = token.split('/').collect();
    let [TOKENS, domain, zid, node, id, kind, _enclave, namespace, name, topic, type_name, hash, qos] =
        parts[..]
    else {
        return None;
    };
    let (kind, _) = KINDS.iter().find(|(_, code)| *code == kind)?;
    let node = Node {
        domain: domain.parse().ok()?,
        zid: zid.to_owned(),
        id: node.parse().ok()?,
        namespace: unmangle(namespace),
        name: unmangle(name),
    };
    Some(Endpoint {
        node,
        id: id.parse().ok()?,
        kind: *kind,
        topic: unmangle(topic),
        type_name: unmangle(type_name),
        hash: hash.to_owned(),
        qos: qos.to_owned(),
    })
}

fn mangle(name: &str) -> String {
    name.replace('/', "%")
}

fn unmangle(name: &str) -> String {
    name.replace('%', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        let namespace = "/cell/left".to_owned();
        Node { domain: 3, zid: "aac3178e146ba6f1".into(), id: 0, namespace, name: "nudge".into() }
    }

    /// The two examples of the design document of rmw_zenoh (`docs/design.md`, "Graph Cache").
    #[test]
    fn tokens_are_those_of_the_design() {
        let listener = Node {
            domain: 2,
            zid: "aac3178e146ba6f1fc6e6a4085e77f21".into(),
            id: 0,
            namespace: "/".into(),
            name: "listener".into(),
        };
        let token = "@ros2_lv/2/aac3178e146ba6f1fc6e6a4085e77f21/0/0/NN/%/%/listener";
        assert_eq!(listener.token(), token);
        assert_eq!(Node { namespace: String::new(), ..listener.clone() }.token(), token);
        let qos = Qos { reliable: true, transient_local: false, depth: 10 };
        let chatter =
            Endpoint::new(&listener, 10, EndpointKind::Subscriber, "/chatter", MessageType::String, qos);
        assert_eq!(
            chatter.token(),
            "@ros2_lv/2/aac3178e146ba6f1fc6e6a4085e77f21/0/10/MS/%/%/listener/%chatter/std_msgs::msg::dds_::String_/\
             RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18/::,10:,:,:,,"
        );
    }

    #[test]
    fn endpoints_are_read_back_from_their_tokens() {
        for (index, (kind, _)) in KINDS.into_iter().enumerate() {
            for message in MessageType::ALL {
                let id = index as u32 + 1;
                let endpoint = Endpoint::new(&node(), id, kind, "/a/b_c", message, Qos::default());
                assert_eq!(parse_endpoint(&endpoint.token()), Some(endpoint));
            }
        }
    }

    #[test]
    fn what_is_no_endpoint_is_not_read_as_one() {
        let endpoint =
            Endpoint::new(&node(), 1, EndpointKind::Publisher, "/a", MessageType::Bool, Qos::default());
        let token = endpoint.token();
        for length in 0..token.len() {
            // A token cut within its last part is one with other qualities of service.
            let whole = parse_endpoint(&token[..length]).is_none_or(|cut| cut.hash == endpoint.hash);
            assert!(whole, "{}", &token[..length]);
        }
        for other in
            [&node().token(), "", "////////////", &token.replace("/MP/", "/XX/"), &format!("{token}/x")]
        {
            assert_eq!(parse_endpoint(other), None, "{other}");
        }
        assert_eq!(parse_endpoint(&token.replace("@ros2_lv/3", "@ros2_lv/three")), None);
    }
}
