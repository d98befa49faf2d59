//! Moving written bytes from memory to the log while the file may be written on.

use std::ops::Range;

use bytes::Bytes;

use super::edits::{Place, Stamp};
use super::{BaseLayer, Content, Origin};
use crate::log::LogPosition;

/// Bytes of a content that are in memory only.
#[derive(Clone, Debug)]
pub struct Unlogged {
    /// Where they stand in the file.
    pub offset: u64,
    /// At most 1 MiB.
    pub bytes: Bytes,
    stamp: Stamp,
}

impl Content {
    /// The bytes that are in memory only, in file order.
    pub fn unlogged(&self) -> Vec<Unlogged> {
        let mut found = Vec::new();
        self.collect_unlogged(0..self.size, &mut found);
        for unlogged in &mut found {
            unlogged.stamp = self.stamp;
        }
        found
    }

    /// Whether bytes are in memory only.
    pub fn has_unlogged(&self) -> bool {
        self.edits.memory_bytes() > 0 || !self.unlogged().is_empty()
    }

    fn collect_unlogged(&self, range: Range<u64>, found: &mut Vec<Unlogged>) {
        let mut at = range.start;
        for (clipped, run) in self.edits.touching(range.clone()) {
            self.collect_unlogged_below(at..clipped.start, found);
            at = clipped.end;
            if let (offset, Origin::Memory(bytes)) = (clipped.start, run.part(clipped).origin) {
                found.push(Unlogged {
                    offset,
                    bytes,
                    stamp: self.stamp,
                });
            }
        }
        self.collect_unlogged_below(at..range.end, found);
    }

    fn collect_unlogged_below(&self, range: Range<u64>, found: &mut Vec<Unlogged>) {
        let range = range.start..range.end.min(self.base_end);
        if let BaseLayer::Frozen(frozen) = &self.base.layer
            && !range.is_empty()
        {
            frozen.collect_unlogged(range, found);
        }
    }

    /// These bytes are in the log now, as one extent record. Those that changed since
    /// [`Content::unlogged`] gave them out stay as they are.
    pub fn mark_logged(&mut self, unlogged: &Unlogged, position: LogPosition) {
        let end = (unlogged.offset + unlogged.bytes.len() as u64).min(self.size);
        if self.shrunk > unlogged.stamp {
            return;
        }
        let mut unchanged = Vec::new();
        self.visit_stamps(unlogged.offset..end, &mut |range, edit| {
            if edit.is_memory() && edit.stamp <= unlogged.stamp {
                unchanged.push((range, edit.stamp));
            }
        });
        for (range, stamp) in unchanged {
            let skip = (range.start - unlogged.offset) as u32;
            self.put(range, stamp, Place::Logged { position, skip });
        }
    }
}
