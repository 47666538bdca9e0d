//! Where messages go on zenoh.

use crate::MessageType;

/// The key of a topic's messages under rmw_zenoh: `<domain>/<topic>/<DDS type>/<hash>`.
pub fn data_key(domain: u32, topic: &str, message: MessageType) -> String {
    format!("{domain}/{}/{}/{}", topic.trim_matches('/'), message.dds_name(), message.hash())
}

/// The key of a topic's messages under zenoh-bridge-ros2dds: `[<namespace>/]<topic>`.
pub fn bridge_key(namespace: &str, topic: &str) -> String {
    let (namespace, topic) = (namespace.trim_matches('/'), topic.trim_matches('/'));
    if namespace.is_empty() { topic.to_owned() } else { format!("{namespace}/{topic}") }
}

/// Whether `topic` is the whole name of a ROS 2 topic, such as `/arm/joint_states`.
///
/// # Errors
/// What is wrong with it.
pub fn check_topic(topic: &str) -> Result<(), &'static str> {
    let Some(names) = topic.strip_prefix('/') else { return Err("it does not begin with /") };
    for name in names.split('/') {
        let mut bytes = name.bytes();
        match bytes.next() {
            None => return Err("a name between two / is empty"),
            Some(first) if first.is_ascii_digit() => return Err("a name begins with a digit"),
            Some(_) => {}
        }
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err("a name is made of A-Z a-z 0-9 _");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_bridges() {
        assert_eq!(
            data_key(7, "/arm/joint_states", MessageType::JointState),
            "7/arm/joint_states/sensor_msgs::msg::dds_::JointState_/\
             RIHS01_a13ee3a330e346c9d87b5aa18d24e11690752bd33a0350f11c5882bc9179260e"
        );
        assert_eq!(bridge_key("/", "/joint_states"), "joint_states");
        assert_eq!(bridge_key("/bot1", "/arm/joint_states"), "bot1/arm/joint_states");
    }

    #[test]
    fn what_is_no_topic_is_told() {
        for good in ["/a", "/joint_states", "/arm_1/_x/Commands2"] {
            assert_eq!(check_topic(good), Ok(()), "{good}");
        }
        for bad in
            ["", "/", "joint_states", "/a/", "/a//b", "/1a", "/a b", "/a/*", "/a/**", "/a-b", "/a$", "/ä"]
        {
            assert!(check_topic(bad).is_err(), "{bad}");
        }
    }
}
