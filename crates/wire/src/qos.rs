//! Qualities of service, as rmw_zenoh tells them in liveliness tokens.

/// How messages of a topic are delivered, as far as it is chosen here; everything else is rmw_zenoh's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qos {
    /// `reliable`, or else `best effort`.
    pub reliable: bool,
    /// `transient local`: who comes late gets the last messages; or else `volatile`.
    pub transient_local: bool,
    /// Messages kept for a slow reader.
    pub depth: u32,
}

impl Default for Qos {
    /// What ROS 2 programs ask for when they do not ask: reliable, volatile, the last 10.
    fn default() -> Self {
        Self { reliable: true, transient_local: false, depth: 10 }
    }
}

/// Of rmw_zenoh, where no depth is told.
const DEFAULT_DEPTH: u32 = 42;

impl Qos {
    /// The last part of an endpoint's token: `reliability:durability:history,depth:deadline:lifespan:liveliness`, each
    /// blank where it is the default.
    pub fn key(&self) -> String {
        let reliability = if self.reliable { "" } else { "2" };
        let durability = if self.transient_local { "1" } else { "" };
        let depth = if self.depth == DEFAULT_DEPTH { String::new() } else { self.depth.to_string() };
        format!("{reliability}:{durability}:,{depth}:,:,:,,")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_default_is_left_blank() {
        assert_eq!(Qos::default().key(), "::,10:,:,:,,");
        assert_eq!(Qos { reliable: false, transient_local: true, depth: 42 }.key(), "2:1:,:,:,:,,");
    }
}
