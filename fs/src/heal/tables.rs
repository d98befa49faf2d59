//! What is in a pack, from the table in the pack itself: for when every index object that covered it is
//! lost.

use holdfast_backend::layout::ObjectName;
use holdfast_backend::object::{Header, ObjectKind};
use holdfast_backend::pack::{PackLayout, Trailer};
use holdfast_backend::store::StoreErrorKind;
use holdfast_crypto::Digest;

use super::{HealError, Healer};
use crate::archive::ArchiveError;
use crate::check::stock::Stock;
use crate::format::pack_table::{PackTable, decrypt_table, decrypt_trailer};
use crate::packer::{PackedChunk, PackedChunks};

impl Healer<'_> {
    /// The chunks of a pack; none if it is missing, or its table is damaged.
    pub(super) fn read_table(
        &self,
        stock: &Stock,
        pack: Digest,
    ) -> Result<Option<PackedChunks>, HealError> {
        let Some(size) = stock.size(&ObjectName::Pack(pack)) else {
            return Ok(None);
        };
        let part = |range| self.part(pack, range);
        let Ok(layout) = PackLayout::new(size) else {
            return Ok(None);
        };
        let Some(start) = part(0..Header::LENGTH as u64)? else {
            return Ok(None);
        };
        let header = Header::parse(ObjectKind::Pack, &start).ok();
        let keys = header.and_then(|(header, _)| {
            let epoch = header.epoch;
            Some((epoch, self.archive.keychain().epoch(epoch)?))
        });
        let Some((epoch, keys)) = keys else {
            return Ok(None);
        };
        let trailer = part(layout.trailer_range())?
            .and_then(|stored| decrypt_trailer(epoch, &keys.index, &stored).ok())
            .and_then(|bytes| Trailer::decode(&bytes).ok());
        let Some(range) = trailer.and_then(|trailer| layout.table_range(trailer).ok()) else {
            return Ok(None);
        };
        let table = part(range)?
            .and_then(|stored| decrypt_table(epoch, &keys.index, &stored).ok())
            .and_then(|bytes| PackTable::decode(&bytes).ok());
        Ok(table.map(|table| PackedChunks {
            pack,
            size,
            chunks: chunks_of(&table),
        }))
    }

    fn part(
        &self,
        pack: Digest,
        range: std::ops::Range<u64>,
    ) -> Result<Option<bytes::Bytes>, HealError> {
        let name = ObjectName::Pack(pack);
        match self.archive.ask(self.archive.store.get_range(&name, range)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ArchiveError::Store(error))
                if error.is_not_found() || error.kind() == StoreErrorKind::Damaged =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn chunks_of(table: &PackTable) -> Vec<PackedChunk> {
    let chunk = |(offset, entry): (u32, &crate::format::pack_table::PackEntry)| PackedChunk {
        id: entry.id,
        kind: entry.kind,
        offset,
        stored_length: entry.stored_length,
        raw_length: entry.raw_length,
        // Decoding has checked the number.
        key: table.keys[entry.key as usize],
    };
    table.places().map(chunk).collect()
}
