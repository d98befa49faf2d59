//! Cuts a run of bytes into chunks at places that the bytes themselves decide.
//!
//! FastCDC (Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based
//! Storage Systems", 2020), chunker number 1 of the format. Each chunk is found from its own first
//! byte and the bytes behind it, so two files that hold the same bytes from a cut on have the same
//! cuts from there on, and one changed byte moves few of them.
//!
//! With `gear` the archive's 256 words ([`ChunkerKey::gear_table`]), for a chunk that starts at
//! byte 0 of `b`, and `n` bytes until the end of the run:
//!
//! ```text
//! n <= MIN                 the chunk is n bytes
//! h = 0
//! for i = MIN, MIN+1, ...  below min(n, MAX), the last byte left out when min(n, MAX) is odd:
//!     h = 2h + gear[b[i]]  (64 bits)
//!     h & STRICT == 0      the chunk is i bytes, for i below AVERAGE
//!     h & LOOSE == 0       the chunk is i bytes, for i from AVERAGE on
//! otherwise                the chunk is min(n, MAX) bytes
//! ```
//!
//! So a cut depends on the bytes of its chunk and on **one byte more**: who changes a byte that
//! stands right behind a cut has to look for that cut again.
//!
//! The words are secret: with them, lengths of chunks would tell which known file is stored.

use bytes::{Bytes, BytesMut};
use fastcdc::v2020::cut_gear;
use holdfast_crypto::ChunkerKey;

/// No chunk is shorter, except the last one of a run.
pub const MIN_CHUNK_BYTES: usize = 256 << 10;
/// Where cutting becomes easier: the usual length.
pub const AVERAGE_CHUNK_BYTES: usize = 1 << 20;
/// No chunk is longer.
pub const MAX_CHUNK_BYTES: usize = 4 << 20;

/// 26 bits, for cuts before the average length (normalization level 1: twice as rare).
const STRICT_MASK: u64 = 0x0000_d917_6753_7000;
/// Two bits fewer, behind it.
const LOOSE_MASK: u64 = 0x0000_d917_0753_7000;

/// What stands behind the bytes that are to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// More bytes that are not here yet: a cut that they could move is not made.
    More,
    /// The end of the run: what is left is the last chunk.
    End,
}

/// Cuts with an archive's gear table.
pub struct Chunker {
    gear: Box<[u64; 256]>,
    /// Every word shifted left by one, for the library's two bytes a step.
    gear_shifted: Box<[u64; 256]>,
}

impl Chunker {
    /// The chunker of an archive.
    pub fn new(key: &ChunkerKey) -> Self {
        Self::from_gear_table(key.gear_table())
    }

    /// A chunker with this table of 256 random words.
    pub fn from_gear_table(gear: Box<[u64; 256]>) -> Self {
        let gear_shifted = Box::new(gear.map(|word| word << 1));
        Chunker { gear, gear_shifted }
    }

    /// Length of the first chunk of `bytes`, or `None` when that depends on bytes to come.
    ///
    /// Looks at no more than [`MAX_CHUNK_BYTES`], always from the start: a caller that has bytes
    /// coming asks when there are that many, not at each write.
    pub fn cut(&self, bytes: &[u8], following: Following) -> Option<usize> {
        let (_, length) = cut_gear(
            bytes,
            MIN_CHUNK_BYTES,
            AVERAGE_CHUNK_BYTES,
            MAX_CHUNK_BYTES,
            STRICT_MASK,
            LOOSE_MASK,
            STRICT_MASK << 1,
            LOOSE_MASK << 1,
            &self.gear[..],
            &self.gear_shifted[..],
        );
        // A cut that was found stands before the byte that decided it, thus below `bytes.len()`.
        let is_final = length < bytes.len() || length == MAX_CHUNK_BYTES;
        (length > 0 && (is_final || following == Following::End)).then_some(length)
    }
}

/// Bytes of one run on their way to the chunker, cut without copying what was cut.
///
/// Holds at most 8 MiB besides what one call of [`CutBuffer::push`] brings, if its owner cuts
/// whenever it [is full](CutBuffer::is_full).
#[derive(Default)]
pub struct CutBuffer {
    bytes: BytesMut,
}

impl CutBuffer {
    /// At the start of a chunk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins another run of up to so many bytes: in the same memory, if nobody has chunks of it any more.
    pub fn restart(&mut self, most: usize) {
        self.bytes.clear();
        if !self.bytes.try_reclaim(most) {
            self.bytes = BytesMut::with_capacity(most);
        }
    }

    /// Takes the next bytes of the run.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes zeros.
    pub fn push_zeros(&mut self, length: usize) {
        self.bytes.resize(self.bytes.len() + length, 0);
    }

    /// Bytes taken and not cut yet.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it stands at a cut.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether it should be cut before more is pushed. Twice the longest chunk, so that the rest
    /// that moves to a new allocation is on average less than what was cut off.
    pub fn is_full(&self) -> bool {
        self.bytes.len() >= 2 * MAX_CHUNK_BYTES
    }

    /// The next chunk, if it is certain.
    pub fn cut(&mut self, chunker: &Chunker, following: Following) -> Option<Bytes> {
        let length = chunker.cut(&self.bytes, following)?;
        Some(self.bytes.split_to(length).freeze())
    }
}

#[cfg(test)]
pub(crate) mod tests;
