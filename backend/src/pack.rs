//! Packs: many encrypted chunks in one object.
//!
//! ```text
//! header (12) | chunk ciphertexts | table ciphertext | random padding | trailer ciphertext (48)
//! ```
//!
//! The trailer stands at the end, at a place that the object's size alone gives, and says where
//! the table is; the table says where the chunks are. Both are encrypted, and the padding cannot
//! be told from ciphertext, so that storage learns a rounded length and nothing of how many chunks
//! there are or where they begin. This module lays bytes out; it cannot open any of them.
//! Specified in `docs/format/objects.md`.

use std::ops::Range;

use holdfast_crypto::{CIPHERTEXT_OVERHEAD_BYTES, Ciphertext};

use crate::object::{FormatError, Header, Object, ObjectKind};

/// Length of an encrypted trailer: two `u32`, and nonce and tag.
pub const TRAILER_LENGTH: usize = 8 + CIPHERTEXT_OVERHEAD_BYTES;

/// The smallest pack: a header, an encrypted empty table and a trailer.
const MIN_LENGTH: u64 = (Header::LENGTH + CIPHERTEXT_OVERHEAD_BYTES + TRAILER_LENGTH) as u64;

/// A pack that is being filled, in memory.
pub struct PackBuilder {
    bytes: Vec<u8>,
}

impl PackBuilder {
    /// An empty pack of this epoch.
    pub fn new(epoch: u32) -> Self {
        Self::with_capacity(epoch, 0)
    }

    /// An empty pack that will grow to about `bytes`.
    pub fn with_capacity(epoch: u32, bytes: usize) -> Self {
        let mut pack = Vec::with_capacity(bytes);
        pack.extend_from_slice(
            &Header {
                kind: ObjectKind::Pack,
                epoch,
            }
            .encode(),
        );
        Self { bytes: pack }
    }

    /// Adds a chunk; gives its place in the object.
    pub fn append(&mut self, chunk: &Ciphertext) -> Range<u32> {
        let start = self.len();
        self.bytes.extend_from_slice(chunk.as_bytes());
        start..self.len()
    }

    /// Bytes so far; after the last chunk, the offset of the table.
    #[expect(
        clippy::len_without_is_empty,
        reason = "it has a header from the beginning"
    )]
    pub fn len(&self) -> u32 {
        u32::try_from(self.bytes.len()).expect("packs are closed at a hundredth of 4 GiB")
    }

    /// The bytes at a place that [`PackBuilder::append`] gave.
    pub fn bytes(&self, place: Range<u32>) -> &[u8] {
        &self.bytes[place.start as usize..place.end as usize]
    }

    /// The finished object. `trailer` is the encryption of [`Trailer::encode`] of `self.len()` and
    /// the length of `table`.
    pub fn finish(mut self, table: &Ciphertext, trailer: &Ciphertext) -> Object {
        assert_eq!(
            trailer.as_bytes().len(),
            TRAILER_LENGTH,
            "a trailer is two encrypted u32"
        );
        self.bytes.extend_from_slice(table.as_bytes());
        let end_of_table = self.bytes.len();
        let total = padded_length((end_of_table + TRAILER_LENGTH) as u64);
        let end_of_padding = usize::try_from(total).expect("packs fit in memory") - TRAILER_LENGTH;
        self.bytes
            .reserve_exact(end_of_padding + TRAILER_LENGTH - end_of_table);
        self.bytes.resize(end_of_padding, 0);
        getrandom::fill(&mut self.bytes[end_of_table..])
            .expect("the operating system gives random bytes once it has started");
        self.bytes.extend_from_slice(trailer.as_bytes());
        Object::pack(self.bytes)
    }
}

/// Padmé (Nikitin et al., PURBs, PETS 2019, section 4): the smallest length, not below `length`,
/// whose mantissa has no more bits than its exponent needs. Leaks O(log log n) bits of the length,
/// for at most 12 % of padding and 3 % at the size of a pack.
pub fn padded_length(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    let exponent = length.ilog2();
    let mantissa_bits = exponent.ilog2() + 1;
    let mask = (1_u64 << (exponent - mantissa_bits.min(exponent))) - 1;
    length.checked_add(mask).map_or(u64::MAX, |sum| sum & !mask)
}

/// Where the parts of a stored pack are; all that can be told without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackLayout {
    size: u64,
}

impl PackLayout {
    /// The layout of a pack of `size` bytes.
    pub fn new(size: u64) -> Result<Self, FormatError> {
        let kind = ObjectKind::Pack;
        if size < MIN_LENGTH {
            return Err(FormatError::Truncated { kind });
        }
        if size > u64::from(u32::MAX) || padded_length(size) != size {
            return Err(FormatError::Malformed {
                kind,
                what: "no pack has this length",
            });
        }
        Ok(Self { size })
    }

    /// Where the encrypted trailer is.
    pub fn trailer_range(&self) -> Range<u64> {
        self.size - TRAILER_LENGTH as u64..self.size
    }

    /// Where the encrypted table is, if `trailer` can be right.
    pub fn table_range(&self, trailer: Trailer) -> Result<Range<u64>, FormatError> {
        let start = u64::from(trailer.table_offset);
        let end = start + u64::from(trailer.table_length);
        let inside = start >= Header::LENGTH as u64 && end <= self.trailer_range().start;
        let kind = ObjectKind::Pack;
        match trailer.table_length as usize >= CIPHERTEXT_OVERHEAD_BYTES && inside {
            true if padded_length(end + TRAILER_LENGTH as u64) == self.size => Ok(start..end),
            true => Err(FormatError::Malformed {
                kind,
                what: "padding of the wrong length",
            }),
            false => Err(FormatError::Malformed {
                kind,
                what: "its table is not inside it",
            }),
        }
    }
}

/// The plaintext of a trailer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the encrypted table begins in the object.
    pub table_offset: u32,
    /// Length of the encrypted table.
    pub table_length: u32,
}

impl Trailer {
    /// Two little-endian `u32`.
    pub fn encode(&self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.table_offset.to_le_bytes());
        bytes[4..].copy_from_slice(&self.table_length.to_le_bytes());
        bytes
    }

    /// The same backwards. Whether it can be right says [`PackLayout::table_range`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let [a, b, c, d, e, f, g, h] =
            *<&[u8; 8]>::try_from(bytes).map_err(|_| FormatError::Malformed {
                kind: ObjectKind::Pack,
                what: "a trailer has eight bytes",
            })?;
        Ok(Self {
            table_offset: u32::from_le_bytes([a, b, c, d]),
            table_length: u32::from_le_bytes([e, f, g, h]),
        })
    }
}

#[cfg(test)]
mod tests;
