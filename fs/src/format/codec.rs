//! Reading and writing the primitives of the format: `docs/format/README.md`, "Encodings".
//!
//! Each value has one encoding. The reader refuses every other, so that what was decoded encodes
//! to the very bytes it came from, and a signature or an id over bytes is one over values.

use holdfast_crypto::ChunkId;

/// Bytes are not what the format says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {problem}")]
pub struct DecodeError {
    /// What was being decoded.
    pub what: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// Result of decoding.
pub type Decoded<T> = Result<T, DecodeError>;

/// Takes values off the front of a byte string. Allocates nothing by itself.
pub struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`; errors will say that they were to be `what`.
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, what }
    }

    /// An error at this place.
    pub fn error(&self, problem: &'static str) -> DecodeError {
        DecodeError {
            what: self.what,
            problem,
        }
    }

    /// An error unless `holds`.
    pub fn require(&self, holds: bool, problem: &'static str) -> Decoded<()> {
        if holds {
            Ok(())
        } else {
            Err(self.error(problem))
        }
    }

    /// The next `length` bytes.
    pub fn take(&mut self, length: usize) -> Decoded<&'a [u8]> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(self.error("it is cut short"))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(self.error("it is cut short"))?;
        self.rest = rest;
        Ok(*head)
    }

    /// One byte.
    pub fn u8(&mut self) -> Decoded<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Decoded<u16> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Decoded<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Decoded<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// An unsigned LEB128 number of up to 64 bits, in its shortest form.
    pub fn varint(&mut self) -> Decoded<u64> {
        let mut value = 0;
        for group in 0..10 {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            self.require(group < 9 || bits < 2, "a number is too large")?;
            value |= bits << (7 * group);
            if byte & 0x80 == 0 {
                self.require(
                    group == 0 || bits != 0,
                    "a number is not in its shortest form",
                )?;
                return Ok(value);
            }
        }
        Err(self.error("a number is too large"))
    }

    /// A varint that fits 32 bits.
    pub fn varint32(&mut self) -> Decoded<u32> {
        let value = self.varint()?;
        u32::try_from(value).map_err(|_| self.error("a number is too large"))
    }

    /// A signed number: zigzag, then varint.
    pub fn signed(&mut self) -> Decoded<i64> {
        let folded = self.varint()?;
        Ok((folded >> 1) as i64 ^ -((folded & 1) as i64))
    }

    /// A byte string: its length, then itself.
    pub fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| self.error("it is cut short"))?;
        self.take(length)
    }

    /// A byte string that is UTF-8.
    pub fn text(&mut self) -> Decoded<&'a str> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.error("a text is not UTF-8"))
    }

    /// 0 for nothing, 1 for something that follows.
    pub fn flag(&mut self) -> Decoded<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error("a flag is neither 0 nor 1")),
        }
    }

    /// Something that may be absent.
    pub fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Decoded<T>) -> Decoded<Option<T>> {
        if self.flag()? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    /// How many elements follow. Refused when the rest could not hold them at `least_bytes`
    /// each, so that a count may be trusted for an allocation of that order.
    pub fn count(&mut self, least_bytes: usize) -> Decoded<usize> {
        let count = self.varint()?;
        let possible = (self.rest.len() / least_bytes.max(1)) as u64;
        self.require(count <= possible, "it is cut short")?;
        Ok(count as usize)
    }

    /// A chunk id: epoch, then hash.
    pub fn chunk_id(&mut self) -> Decoded<ChunkId> {
        Ok(ChunkId {
            epoch: self.u32()?,
            hash: self.array()?,
        })
    }

    /// Nothing may follow.
    pub fn finish(self) -> Decoded<()> {
        self.require(self.rest.is_empty(), "bytes follow its end")
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Appends values to a byte string.
#[derive(Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing yet; will not move until it has grown to `bytes`.
    pub fn with_capacity(bytes: usize) -> Self {
        Writer {
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// How much was written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    /// Unsigned LEB128 in its shortest form.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.u8(value as u8);
    }

    /// Zigzag, then varint.
    pub fn signed(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }

    /// Length, then the bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Something that may be absent.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.u8(u8::from(value.is_some()));
        if let Some(value) = value {
            write(self, value);
        }
    }

    /// Epoch, then hash.
    pub fn chunk_id(&mut self, id: &ChunkId) {
        self.u32(id.epoch);
        self.raw(&id.hash);
    }
}

#[cfg(test)]
mod tests;
