//! The chunks of an MCAP file, unpacked whole before anything in them is believed.

use std::io::Read;

use mcap::records::ChunkHeader;
use mcap::{McapError, McapResult};

/// No chunk of a recording is larger when it is unpacked.
const MAX_CHUNK_BYTES: u64 = 256 << 20;
/// Opcode and length of a record.
const RECORD_HEADER: usize = 9;

/// The records of a chunk behind each other. The library's own unpacking, in pieces, does not end where some bytes are
/// wrong.
///
/// # Errors
/// When it cannot be unpacked, or is not as long as its header says, or its checksum is another.
pub(super) fn unpack(header: &ChunkHeader, packed: &[u8]) -> McapResult<Vec<u8>> {
    let wrong = |problem: String| Err(McapError::DecompressionError(problem));
    if header.uncompressed_size > MAX_CHUNK_BYTES {
        return wrong(format!("a chunk of {} bytes", header.uncompressed_size));
    }
    let stream: Box<dyn Read + '_> = match header.compression.as_str() {
        "" => Box::new(packed),
        "zstd" => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        "lz4" => Box::new(lz4::Decoder::new(packed)?),
        other => return Err(McapError::UnsupportedCompression(other.to_owned())),
    };
    let mut whole = Vec::new();
    // One byte more than there may be, so that too many are noticed.
    stream.take(header.uncompressed_size + 1).read_to_end(&mut whole)?;
    if whole.len() as u64 != header.uncompressed_size {
        return wrong(format!("a chunk that unpacks to other than its {} bytes", header.uncompressed_size));
    }
    let calculated = crc32fast::hash(&whole);
    // 0 says that there is no checksum.
    if header.uncompressed_crc != 0 && calculated != header.uncompressed_crc {
        return Err(McapError::BadChunkCrc { saved: header.uncompressed_crc, calculated });
    }
    Ok(whole)
}

/// Takes the first record off `rest`: its opcode and its bytes.
///
/// # Errors
/// When its length reaches beyond the chunk.
pub(super) fn record<'a>(rest: &mut &'a [u8]) -> McapResult<(u8, &'a [u8])> {
    let Some((header, behind)) = rest.split_at_checked(RECORD_HEADER) else {
        return Err(McapError::UnexpectedEoc);
    };
    let length = header[1..].iter().rev().fold(0, |length: u64, byte| length << 8 | u64::from(*byte));
    let parts = usize::try_from(length).ok().and_then(|length| behind.split_at_checked(length));
    let Some((body, behind)) = parts else { return Err(McapError::UnexpectedEoc) };
    *rest = behind;
    Ok((header[0], body))
}
