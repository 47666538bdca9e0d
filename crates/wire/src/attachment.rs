//! The 33 bytes that go with every message: who sent it, as which of its messages, and when.

/// Length of an attachment on the wire.
pub const ATTACHMENT_LENGTH: usize = 33;
const GID_LENGTH: u8 = 16;

/// A sender: 16 random bytes.
pub type Gid = [u8; GID_LENGTH as usize];

/// What goes with every message (the layout of rmw_zenoh): i64 sequence, i64 source time, `0x10`, 16 bytes of gid,
/// all little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// From 1 in a new process.
    pub sequence: i64,
    /// The sender's clock in ns since the Unix epoch; for skew checks only, never for freshness.
    pub source_time_ns: i64,
    pub gid: Gid,
}

/// Why an attachment is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    #[error("it is {0} bytes long and not {ATTACHMENT_LENGTH}")]
    Length(usize),
    #[error("its gid is {0} bytes long and not {GID_LENGTH}")]
    GidLength(u8),
    #[error("its sequence is {0}, and sequences begin at 1")]
    Sequence(i64),
}

impl Attachment {
    /// Reads the bytes attached to a message.
    ///
    /// # Errors
    /// When the length, the gid's length, or the sequence cannot be.
    pub fn decode(bytes: &[u8]) -> Result<Self, AttachmentError> {
        let Ok(bytes) = <&[u8; ATTACHMENT_LENGTH]>::try_from(bytes) else {
            return Err(AttachmentError::Length(bytes.len()));
        };
        let i64_at = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            i64::from_le_bytes(number)
        };
        if bytes[16] != GID_LENGTH {
            return Err(AttachmentError::GidLength(bytes[16]));
        }
        let sequence = i64_at(0);
        if sequence < 1 {
            return Err(AttachmentError::Sequence(sequence));
        }
        let mut gid = Gid::default();
        gid.copy_from_slice(&bytes[17..]);
        Ok(Self { sequence, source_time_ns: i64_at(8), gid })
    }

    /// The bytes to attach.
    pub fn encode(&self) -> [u8; ATTACHMENT_LENGTH] {
        let mut bytes = [0; ATTACHMENT_LENGTH];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.source_time_ns.to_le_bytes());
        bytes[16] = GID_LENGTH;
        bytes[17..].copy_from_slice(&self.gid);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_lie_where_rmw_zenoh_puts_them() {
        let attachment = Attachment { sequence: 1, source_time_ns: 0x0102_0304_0506_0708, gid: [7; 16] };
        let mut expected = vec![1, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0x10];
        expected.extend([7; 16]);
        assert_eq!(attachment.encode().to_vec(), expected);
        assert_eq!(Attachment::decode(&expected), Ok(attachment));
    }

    #[test]
    fn every_other_length_is_refused() {
        let bytes = [16; 80];
        for length in (0..80).filter(|length| *length != ATTACHMENT_LENGTH) {
            assert_eq!(Attachment::decode(&bytes[..length]), Err(AttachmentError::Length(length)));
        }
    }

    #[test]
    fn a_wrong_gid_length_and_a_sequence_before_1_are_refused() {
        let good = Attachment { sequence: 1, source_time_ns: -5, gid: [0; 16] };
        for length in (0..=255).filter(|length| *length != GID_LENGTH) {
            let mut bytes = good.encode();
            bytes[16] = length;
            assert_eq!(Attachment::decode(&bytes), Err(AttachmentError::GidLength(length)));
        }
        for sequence in [0, -1, i64::MIN] {
            let bytes = Attachment { sequence, ..good }.encode();
            assert_eq!(Attachment::decode(&bytes), Err(AttachmentError::Sequence(sequence)));
        }
    }
}
