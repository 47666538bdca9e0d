//! `std_msgs/msg/Header` and the times in it.

use crate::cdr::{CdrError, Fields, Reader, Writer};

const NS_PER_SEC: i64 = 1_000_000_000;

/// `builtin_interfaces/msg/Time` and `Duration`, which are written alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Since the Unix epoch, or of the duration.
    pub sec: i32,
    /// On top of `sec`, also where that is negative.
    pub nanosec: u32,
}

impl Time {
    /// What lies beyond the seconds that fit in 32 bits is the last that does.
    pub fn from_ns(ns: i64) -> Self {
        let sec = ns.div_euclid(NS_PER_SEC).clamp(i32::MIN.into(), i32::MAX.into());
        Self { sec: sec as i32, nanosec: ns.rem_euclid(NS_PER_SEC) as u32 }
    }

    /// In nanoseconds; exact.
    pub fn to_ns(self) -> i64 {
        i64::from(self.sec) * NS_PER_SEC + i64::from(self.nanosec)
    }
}

impl Fields for Time {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self { sec: reader.i32()?, nanosec: reader.u32()? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.i32(self.sec);
        writer.u32(self.nanosec);
    }
}

/// `std_msgs/msg/Header`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// When what the message says was so, by the sender's clock.
    pub stamp: Time,
    /// The frame that its numbers are in; empty for none.
    pub frame_id: String,
}

impl Header {
    /// Stamped `stamp_ns` after the Unix epoch, in `frame_id`.
    pub fn new(stamp_ns: i64, frame_id: &str) -> Self {
        Self { stamp: Time::from_ns(stamp_ns), frame_id: frame_id.to_owned() }
    }
}

impl Fields for Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError> {
        Ok(Self { stamp: Time::read(reader)?, frame_id: reader.string("header.frame_id")? })
    }

    fn write(&self, writer: &mut Writer) {
        self.stamp.write(writer);
        writer.string(&self.frame_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nanoseconds_go_there_and_back() {
        for ns in [0, 1, -1, 1_700_000_000_123_456_789, -NS_PER_SEC, NS_PER_SEC - 1] {
            let time = Time::from_ns(ns);
            assert_eq!(time.to_ns(), ns);
            assert!(time.nanosec < 1_000_000_000);
        }
        assert_eq!(Time::from_ns(i64::MAX).sec, i32::MAX);
        assert_eq!(Time::from_ns(i64::MIN).sec, i32::MIN);
    }
}
