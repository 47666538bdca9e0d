//! XCDR1, little endian, every length checked before it is believed.
//!
//! Layout from the OMG DDS-XTypes specification (encapsulation CDR_LE): a 4-byte header `00 01` and two option bytes,
//! then the fields, each aligned to its own size counted from behind the header. A string is its length with the NUL, the
//! bytes, and the NUL; a sequence is its length and its elements, and an empty one is its length alone.

/// Most elements of a sequence, and most bytes of a string.
pub const MAX_ELEMENTS: usize = 1 << 20;
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

/// What is written in fields.
pub trait Fields: Sized {
    /// # Errors
    /// Where the bytes are not these fields.
    fn read(reader: &mut Reader<'_>) -> Result<Self, CdrError>;

    fn write(&self, writer: &mut Writer);
}

/// Reads a whole payload.
pub fn decode<T: Fields>(payload: &[u8]) -> Result<T, CdrError> {
    let mut reader = Reader::new(payload)?;
    let value = T::read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Writes a whole payload.
pub fn encode<T: Fields>(value: &T) -> Vec<u8> {
    let mut writer = Writer { bytes: HEADER.to_vec() };
    value.write(&mut writer);
    writer.bytes
}

/// The fields behind the header, and how far they are read.
pub struct Reader<'a> {
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

    fn number<const N: usize>(&mut self) -> Result<[u8; N], CdrError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, N)?);
        Ok(bytes)
    }

    pub fn i32(&mut self) -> Result<i32, CdrError> {
        Ok(i32::from_le_bytes(self.number()?))
    }

    pub fn u32(&mut self) -> Result<u32, CdrError> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    pub fn f64(&mut self) -> Result<f64, CdrError> {
        Ok(f64::from_le_bytes(self.number()?))
    }

    /// A byte that is neither 0 nor 1 is not a truth value.
    pub fn bool(&mut self) -> Result<bool, CdrError> {
        match self.number()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(CdrError::BadBool(other)),
        }
    }

    /// How many elements of a sequence follow.
    pub fn length(&mut self, what: &'static str, max: usize) -> Result<usize, CdrError> {
        let length = self.u32()? as usize;
        if length > max { Err(CdrError::TooLong { what, length, max }) } else { Ok(length) }
    }

    pub fn string(&mut self, what: &'static str) -> Result<String, CdrError> {
        let length = self.length(what, MAX_ELEMENTS)?;
        let bytes = self.take(length, 1)?;
        let Some((0, text)) = bytes.split_last() else {
            return Err(CdrError::BadString { what, problem: "it has no NUL at its end" });
        };
        let text = std::str::from_utf8(text);
        text.map(str::to_owned).map_err(|_| CdrError::BadString { what, problem: "it is not UTF-8" })
    }

    /// Elements of whatever `read` reads. Nothing is reserved: each must first show its bytes.
    pub fn sequence<T>(
        &mut self,
        what: &'static str,
        max: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, CdrError>,
    ) -> Result<Vec<T>, CdrError> {
        let length = self.length(what, max)?;
        let mut elements = Vec::new();
        for _ in 0..length {
            elements.push(read(self)?);
        }
        Ok(elements)
    }

    pub fn strings(&mut self, what: &'static str) -> Result<Vec<String>, CdrError> {
        self.sequence(what, MAX_ELEMENTS, |reader| reader.string(what))
    }

    pub fn f64s(&mut self, what: &'static str) -> Result<Vec<f64>, CdrError> {
        let length = self.length(what, MAX_ELEMENTS)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let bytes = self.take(length * 8, 8)?;
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("chunks of 8 bytes"));
        Ok(bytes.chunks_exact(8).map(number).collect())
    }

    /// Nothing but a little padding may lie behind the fields.
    fn finish(&self) -> Result<(), CdrError> {
        let rest = &self.body[self.at..];
        if rest.len() > MAX_TRAILING || rest.iter().any(|byte| *byte != 0) {
            return Err(CdrError::Trailing(rest.len()));
        }
        Ok(())
    }
}

/// A payload as far as it is written.
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, alignment: usize) {
        let body = self.bytes.len() - HEADER.len();
        self.bytes.resize(HEADER.len() + body.next_multiple_of(alignment), 0);
    }

    fn number<const N: usize>(&mut self, bytes: [u8; N]) {
        self.align(N);
        self.bytes.extend(bytes);
    }

    pub fn i32(&mut self, value: i32) {
        self.number(value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.number(value.to_le_bytes());
    }

    pub fn f64(&mut self, value: f64) {
        self.number(value.to_le_bytes());
    }

    pub fn bool(&mut self, value: bool) {
        self.number([u8::from(value)]);
    }

    /// The length of a sequence; what is longer than a length can say is cut off there.
    fn length(&mut self, length: usize) -> usize {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        self.u32(length);
        length as usize
    }

    pub fn string(&mut self, text: &str) {
        self.length(text.len() + 1);
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    pub fn sequence<T>(&mut self, elements: &[T], mut write: impl FnMut(&mut Self, &T)) {
        let length = self.length(elements.len());
        elements[..length].iter().for_each(|element| write(self, element));
    }

    pub fn strings(&mut self, texts: &[String]) {
        self.sequence(texts, |writer, text| writer.string(text));
    }

    pub fn f64s(&mut self, numbers: &[f64]) {
        self.bytes.reserve(16 + numbers.len() * 8);
        self.sequence(numbers, |writer, number| writer.f64(*number));
    }
}
