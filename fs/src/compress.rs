//! Makes a chunk smaller where that works: zstd level 3, or the bytes as they are.
//!
//! One byte in front says which: 0 raw, 1 zstd. The form follows from the bytes of the chunk alone.
//! It is chosen before encryption, so the stored length tells how well a chunk compresses; the
//! threat model says so.
//!
//! Long chunks that look random (photos, videos, archives) are not tried: eight samples are
//! compressed first, and when none of them shrinks the chunk is stored raw.

use std::cell::RefCell;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};

/// zstd's level.
const LEVEL: i32 = 3;
/// No chunk of any kind is longer than this, whatever an index says.
pub const MAX_RAW_BYTES: usize = 16 << 20;

const RAW: u8 = 0;
const ZSTD: u8 = 1;

/// Chunks from this length on are sampled before they are compressed.
const SAMPLED_FROM_BYTES: usize = 256 << 10;
const SAMPLES: usize = 8;
const SAMPLE_BYTES: usize = 4 << 10;

thread_local! {
    // A context is about a megabyte and costs more to make than a small chunk to compress.
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// A chunk's stored form is not one that [`compress_into`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecompressError {
    /// There is not even the byte that says what follows.
    #[error("a stored chunk is empty")]
    Empty,
    /// A form that this version does not know.
    #[error("a stored chunk has the unknown form {form}")]
    UnknownForm {
        /// The first byte.
        form: u8,
    },
    /// Longer than any chunk may be.
    #[error("a chunk of {raw_length} bytes is longer than any may be")]
    TooLong {
        /// What it should have become.
        raw_length: usize,
    },
    /// It is not what zstd makes, or becomes more or less than was said.
    #[error("a stored chunk does not unpack to {raw_length} bytes")]
    WrongLength {
        /// What it should have become.
        raw_length: usize,
    },
}

/// Appends the form in which a chunk is encrypted.
pub fn compress_into(plaintext: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(ZSTD);
    if !looks_random(plaintext) && shrink_into(plaintext, out) {
        return;
    }
    out.truncate(start);
    out.push(RAW);
    out.extend_from_slice(plaintext);
}

/// The chunk again, which must be exactly `raw_length` bytes.
///
/// Takes hostile input: allocates `raw_length` bytes and never more. What does not shrink is not copied.
pub fn decompress(stored: Bytes, raw_length: usize) -> Result<Bytes, DecompressError> {
    if raw_length > MAX_RAW_BYTES {
        return Err(DecompressError::TooLong { raw_length });
    }
    let (form, rest) = stored.split_first().ok_or(DecompressError::Empty)?;
    match *form {
        RAW if rest.len() == raw_length => Ok(stored.slice(1..)),
        ZSTD => decompress_exactly(rest, raw_length)
            .map(Bytes::from)
            .ok_or(DecompressError::WrongLength { raw_length }),
        RAW => Err(DecompressError::WrongLength { raw_length }),
        form => Err(DecompressError::UnknownForm { form }),
    }
}

fn looks_random(plaintext: &[u8]) -> bool {
    if plaintext.len() < SAMPLED_FROM_BYTES {
        return false;
    }
    let stride = (plaintext.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    let mut space = [0; SAMPLE_BYTES];
    // A sample counts as shrinking when it loses 1 in 64; text and programs lose far more.
    let limit = SAMPLE_BYTES - SAMPLE_BYTES / 64;
    (0..SAMPLES)
        .map(|sample| &plaintext[sample * stride..][..SAMPLE_BYTES])
        .all(|sample| compressed_length(sample, &mut space[..limit]).is_none())
}

/// Appends what zstd makes of the plaintext, if that is shorter.
fn shrink_into(plaintext: &[u8], out: &mut Vec<u8>) -> bool {
    let Some(room) = plaintext.len().checked_sub(1) else {
        return false;
    };
    let start = out.len();
    // Room for one byte less than the plaintext: what does not shrink does not fit.
    out.resize(start + room, 0);
    match compressed_length(plaintext, &mut out[start..]) {
        Some(length) => {
            out.truncate(start + length);
            true
        }
        None => false,
    }
}

/// The length it shrank to, or `None` when it does not fit.
fn compressed_length(plaintext: &[u8], space: &mut [u8]) -> Option<usize> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            // The only failure is that there is no memory for it: then chunks are stored raw.
            *slot = Compressor::new(LEVEL).ok();
        }
        slot.as_mut()?.compress_to_buffer(plaintext, space).ok()
    })
}

fn decompress_exactly(compressed: &[u8], raw_length: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Decompressor::new().ok();
        }
        let mut raw = Vec::with_capacity(raw_length);
        let length = slot
            .as_mut()?
            .decompress_to_buffer(compressed, &mut raw)
            .ok()?;
        (length == raw_length).then_some(raw)
    })
}

#[cfg(test)]
mod tests;
