//! The ROS 2 wire format, as far as the bus needs it: XCDR1, little endian, every length checked before it is believed.
//!
//! Layout from the OMG DDS-XTypes specification (encapsulation CDR_LE): a 4-byte header `00 01` and two option bytes,
//! then the fields, each aligned to its own size counted from behind the header. A string is its length with the NUL, the
//! bytes, and the NUL; a sequence is its length and its elements, and an empty one is its length alone.

/// Most elements of a sequence.
pub const MAX_ELEMENTS: usize = 1 << 20;
/// Most dimensions in the layout of an array.
pub const MAX_DIMENSIONS: usize = 64;
/// Most zero bytes tolerated behind a message: what a writer pads its buffer with.
const MAX_TRAILING: usize = 3;
const HEADER: [u8; 4] = [0, 1, 0, 0];

/// Why a payload is not the message that it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CdrError {
    #[error("the message ends at byte {at}, where {need} more bytes are due")]
    Truncated { at: usize, need: usize },
    #[error("it is not little-endian CDR: the header begins {0:02x} {1:02x} and not 00 01")]
    NotLittleEndian(u8, u8),
    #[error("{what} has {length} elements, and at most {max} are taken")]
    TooLong { what: &'static str, length: usize, max: usize },
    #[error("{what} is not a string: {problem}")]
    BadString { what: &'static str, problem: &'static str },
    #[error("a truth value is the byte {0}")]
    BadBool(u8),
    #[error("the layout has data_offset {0}, and only 0 is taken")]
    DataOffset(u32),
    #[error("{0} bytes lie behind the end of the message")]
    Trailing(usize),
}

/// One dimension of an array's layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimension {
    pub label: &'static str,
    pub size: usize,
    pub stride: usize,
}

/// `sensor_msgs/msg/JointState` without its header, which the attachment supersedes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JointState {
    pub name: Vec<String>,
    pub position: Vec<f64>,
    pub velocity: Vec<f64>,
    pub effort: Vec<f64>,
}

/// Reads the numbers of a `std_msgs/msg/Float64MultiArray`; its layout is read and ignored.
///
/// # Errors
/// When the payload is anything else, at whatever byte that shows.
pub fn decode_f64_array(payload: &[u8]) -> Result<Vec<f64>, CdrError> {
    let mut reader = Reader::new(payload)?;
    let dimensions = reader.length("layout.dim", MAX_DIMENSIONS)?;
    for _ in 0..dimensions {
        reader.string("layout.dim.label")?;
        reader.u32()?;
        reader.u32()?;
    }
    let data_offset = reader.u32()?;
    if data_offset != 0 {
        return Err(CdrError::DataOffset(data_offset));
    }
    let data = reader.f64_sequence("data")?;
    reader.finish(data)
}

/// Writes a `std_msgs/msg/Float64MultiArray`.
pub fn encode_f64_array(layout: &[Dimension], data: impl ExactSizeIterator<Item = f64>) -> Vec<u8> {
    let mut writer = Writer::new(32 + layout.len() * 32 + data.len() * 8);
    writer.u32(layout.len());
    for dimension in layout {
        writer.string(dimension.label);
        writer.u32(dimension.size);
        writer.u32(dimension.stride);
    }
    writer.u32(0);
    writer.f64_sequence(data);
    writer.bytes
}

/// Reads a `sensor_msgs/msg/JointState`.
///
/// # Errors
/// When the payload is anything else, at whatever byte that shows.
pub fn decode_joint_state(payload: &[u8]) -> Result<JointState, CdrError> {
    let mut reader = Reader::new(payload)?;
    reader.u32()?;
    reader.u32()?;
    reader.string("header.frame_id")?;
    let count = reader.length("name", MAX_ELEMENTS)?;
    // Nothing is reserved: each name must first show its bytes.
    let mut name = Vec::new();
    for _ in 0..count {
        name.push(reader.string("name")?.to_owned());
    }
    let position = reader.f64_sequence("position")?;
    let velocity = reader.f64_sequence("velocity")?;
    let effort = reader.f64_sequence("effort")?;
    reader.finish(JointState { name, position, velocity, effort })
}

/// Writes a `sensor_msgs/msg/JointState` whose header is stamped `stamp_ns` after the Unix epoch, in no frame.
pub fn encode_joint_state(stamp_ns: i64, joints: &JointState) -> Vec<u8> {
    let mut writer = Writer::new(64 + joints.name.len() * 48);
    writer.bytes.extend(((stamp_ns.div_euclid(1_000_000_000)) as i32).to_le_bytes());
    writer.bytes.extend(((stamp_ns.rem_euclid(1_000_000_000)) as u32).to_le_bytes());
    writer.string("");
    writer.u32(joints.name.len());
    for name in &joints.name {
        writer.string(name);
    }
    for numbers in [&joints.position, &joints.velocity, &joints.effort] {
        writer.f64_sequence(numbers.iter().copied());
    }
    writer.bytes
}

/// Reads a `std_msgs/msg/Bool`.
///
/// # Errors
/// When the payload is anything else; a byte that is neither 0 nor 1 is not a truth value.
pub fn decode_bool(payload: &[u8]) -> Result<bool, CdrError> {
    let mut reader = Reader::new(payload)?;
    let value = match reader.take(1, 1)?[0] {
        0 => false,
        1 => true,
        other => return Err(CdrError::BadBool(other)),
    };
    reader.finish(value)
}

/// Reads a `std_msgs/msg/String`.
///
/// # Errors
/// When the payload is anything else.
pub fn decode_string(payload: &[u8]) -> Result<String, CdrError> {
    let mut reader = Reader::new(payload)?;
    let text = reader.string("data")?.to_owned();
    reader.finish(text)
}

/// Writes a `std_msgs/msg/String`.
pub fn encode_string(text: &str) -> Vec<u8> {
    let mut writer = Writer::new(16 + text.len());
    writer.string(text);
    writer.bytes
}

/// The fields behind the header, and how far they are read.
struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(payload: &'a [u8]) -> Result<Self, CdrError> {
        let Some((header, body)) = payload.split_at_checked(HEADER.len()) else {
            return Err(CdrError::Truncated { at: payload.len(), need: HEADER.len() - payload.len() });
        };
        if header[..2] != HEADER[..2] {
            return Err(CdrError::NotLittleEndian(header[0], header[1]));
        }
        Ok(Self { body, at: 0 })
    }

    /// The next `count` bytes, behind padding to `alignment`.
    fn take(&mut self, count: usize, alignment: usize) -> Result<&'a [u8], CdrError> {
        let start = self.at.next_multiple_of(alignment);
        let taken = start.checked_add(count).and_then(|end| self.body.get(start..end));
        let Some(bytes) = taken else {
            let need = start.saturating_add(count).saturating_sub(self.body.len());
            return Err(CdrError::Truncated { at: HEADER.len() + self.body.len(), need });
        };
        self.at = start + count;
        Ok(bytes)
    }

    fn u32(&mut self) -> Result<u32, CdrError> {
        let bytes = self.take(4, 4)?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn length(&mut self, what: &'static str, max: usize) -> Result<usize, CdrError> {
        let length = self.u32()? as usize;
        if length > max { Err(CdrError::TooLong { what, length, max }) } else { Ok(length) }
    }

    fn string(&mut self, what: &'static str) -> Result<&'a str, CdrError> {
        let length = self.length(what, MAX_ELEMENTS)?;
        let bytes = self.take(length, 1)?;
        let Some((0, text)) = bytes.split_last() else {
            return Err(CdrError::BadString { what, problem: "it has no NUL at its end" });
        };
        std::str::from_utf8(text).map_err(|_| CdrError::BadString { what, problem: "it is not UTF-8" })
    }

    fn f64_sequence(&mut self, what: &'static str) -> Result<Vec<f64>, CdrError> {
        let length = self.length(what, MAX_ELEMENTS)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.take(length * 8, 8)?;
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
        Ok(bytes.chunks_exact(8).map(number).collect())
    }

    /// `value`, when nothing but a little padding lies behind it.
    fn finish<T>(self, value: T) -> Result<T, CdrError> {
        let rest = &self.body[self.at..];
        if rest.len() > MAX_TRAILING || rest.iter().any(|byte| *byte != 0) {
            return Err(CdrError::Trailing(rest.len()));
        }
        Ok(value)
    }
}

struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend(HEADER);
        Self { bytes }
    }

    fn align(&mut self, alignment: usize) {
        let body = self.bytes.len() - HEADER.len();
        self.bytes.resize(HEADER.len() + body.next_multiple_of(alignment), 0);
    }

    /// A length; every caller's is far below 2^32.
    fn u32(&mut self, value: usize) {
        self.align(4);
        self.bytes.extend((value as u32).to_le_bytes());
    }

    fn string(&mut self, text: &str) {
        self.u32(text.len() + 1);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn f64_sequence(&mut self, numbers: impl ExactSizeIterator<Item = f64>) {
        self.u32(numbers.len());
        if numbers.len() > 0 {
            self.align(8);
        }
        numbers.for_each(|number| self.bytes.extend(number.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARRAY: &str =
        "00010000000000000000000003000000000000009a9999999999b93f9a9999999999c93f333333333333d33f";

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn joints() -> JointState {
        JointState {
            name: vec!["j1".into(), "joint22".into()],
            position: vec![1.0, 2.0],
            velocity: vec![],
            effort: vec![3.0],
        }
    }

    fn layout() -> [Dimension; 2] {
        let step = Dimension { label: "step", size: 2, stride: 6 };
        [step, Dimension { label: "action", size: 3, stride: 3 }]
    }

    #[test]
    fn the_known_array_is_read_and_written_to_the_byte() {
        assert_eq!(decode_f64_array(&bytes(ARRAY)), Ok(vec![0.1, 0.2, 0.3]));
        assert_eq!(encode_f64_array(&[], [0.1, 0.2, 0.3].into_iter()), bytes(ARRAY));
    }

    #[test]
    fn golden_messages_of_other_writers_are_read_and_written_to_the_byte() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/golden/cdr.json");
        let Ok(text) = std::fs::read_to_string(path) else {
            println!("skipped: {path} is not here");
            return;
        };
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        let payload = |name: &str| bytes(golden[name]["cdr_le"].as_str().unwrap());
        let array = payload("std_msgs/msg/Float64MultiArray");
        assert_eq!(decode_f64_array(&array), Ok(vec![0.1, 0.2, 0.3]));

        let message = payload("sensor_msgs/msg/JointState");
        assert_eq!(decode_joint_state(&message), Ok(joints()));
        // Ours has no frame: apart from the header's stamp and frame it is the same message.
        let ours = encode_joint_state(5_000_000_007, &joints());
        assert_eq!(ours[..12], message[..12]);
        assert_eq!(decode_joint_state(&ours), Ok(joints()));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let numbers = [1.5, f64::NAN, f64::INFINITY, -0.0, f64::MIN_POSITIVE, 6.0];
        let read = decode_f64_array(&encode_f64_array(&layout(), numbers.into_iter())).unwrap();
        assert_eq!(read.map_bits(), numbers.to_vec().map_bits());
        assert_eq!(decode_f64_array(&encode_f64_array(&[], [].into_iter())), Ok(vec![]));
        for text in ["", "controller", "ä 本"] {
            assert_eq!(decode_string(&encode_string(text)).unwrap(), text);
        }
    }

    trait MapBits {
        fn map_bits(self) -> Vec<u64>;
    }

    impl MapBits for Vec<f64> {
        fn map_bits(self) -> Vec<u64> {
            self.into_iter().map(f64::to_bits).collect()
        }
    }

    type Accepts = fn(&[u8]) -> bool;

    fn every_decoder() -> [(Vec<u8>, Accepts); 4] {
        [
            (encode_f64_array(&layout(), (0..6).map(f64::from)), |bytes| decode_f64_array(bytes).is_ok()),
            (encode_joint_state(7, &joints()), |bytes| decode_joint_state(bytes).is_ok()),
            (vec![0, 1, 0, 0, 1], |bytes| decode_bool(bytes).is_ok()),
            (encode_string("robot"), |bytes| decode_string(bytes).is_ok()),
        ]
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error() {
        for (whole, accepts) in every_decoder() {
            assert!(accepts(&whole));
            for length in 0..whole.len() {
                assert!(!accepts(&whole[..length]), "{length} of {} bytes", whole.len());
            }
        }
    }

    #[test]
    fn up_to_three_zero_bytes_may_follow_and_nothing_else() {
        for (whole, accepts) in every_decoder() {
            for count in 0..=4 {
                let padded = [whole.clone(), vec![0; count]].concat();
                assert_eq!(accepts(&padded), count <= 3);
            }
            assert!(!accepts(&[whole, vec![1]].concat()));
        }
    }

    #[test]
    fn option_bytes_are_ignored_and_other_encapsulations_refused() {
        for (whole, accepts) in every_decoder() {
            let with = |at: usize, value: u8| {
                let mut changed = whole.clone();
                changed[at] = value;
                accepts(&changed)
            };
            assert!(with(2, 0xff) && with(3, 3));
            assert!(!with(0, 1) && [0, 2, 3, 7, 9].iter().all(|kind| !with(1, *kind)));
        }
    }

    #[test]
    fn a_truth_value_is_0_or_1() {
        assert_eq!(decode_bool(&[0, 1, 0, 0, 0]), Ok(false));
        assert_eq!(decode_bool(&[0, 1, 0, 0, 1]), Ok(true));
        assert_eq!(decode_bool(&[0, 1, 0, 0, 2]), Err(CdrError::BadBool(2)));
    }

    #[test]
    fn lengths_that_lie_are_refused_before_anything_is_reserved() {
        let mut array = bytes(ARRAY);
        array[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(decode_f64_array(&array), Err(CdrError::TooLong { what: "data", .. })));
        array[12..16].copy_from_slice(&(MAX_ELEMENTS as u32).to_le_bytes());
        assert!(matches!(decode_f64_array(&array), Err(CdrError::Truncated { .. })));
        array[4..8].copy_from_slice(&65_u32.to_le_bytes());
        assert!(matches!(decode_f64_array(&array), Err(CdrError::TooLong { what: "layout.dim", .. })));
        let mut offset = bytes(ARRAY);
        offset[8] = 1;
        assert_eq!(decode_f64_array(&offset), Err(CdrError::DataOffset(1)));
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut state = 1_u64;
        for (whole, accepts) in every_decoder() {
            for _ in 0..200_000 {
                let mut fuzzed = whole.clone();
                for _ in 0..3 {
                    state = nudge_control::split_mix_64(state);
                    let at = state as usize % fuzzed.len();
                    fuzzed[at] = (state >> 32) as u8;
                }
                fuzzed.truncate((state >> 40) as usize % (whole.len() + 1));
                accepts(&fuzzed);
            }
        }
    }
}
