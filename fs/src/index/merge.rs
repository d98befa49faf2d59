//! Merging runs, streaming: one buffer per run.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter;
use std::sync::Arc;

use holdfast_crypto::Digest;

use super::run::{Entries, Run};
use super::{IndexEntry, IndexError};

type Order = ([u8; 32], u32, Digest, u32);

/// All entries of the runs in order, each once.
pub(super) fn merge(
    runs: &[Arc<Run>],
) -> Result<impl Iterator<Item = Result<IndexEntry, IndexError>>, IndexError> {
    let mut sources = Vec::new();
    for run in runs {
        sources.push(Source {
            entries: run.entries()?,
            head: None,
        });
    }
    let mut merger = Merger {
        sources,
        heap: BinaryHeap::new(),
        last: None,
    };
    for index in 0..merger.sources.len() {
        merger.advance(index)?;
    }
    Ok(iter::from_fn(move || merger.next().transpose()))
}

struct Source {
    entries: Entries,
    head: Option<IndexEntry>,
}

struct Merger {
    sources: Vec<Source>,
    heap: BinaryHeap<Reverse<(Order, usize)>>,
    last: Option<IndexEntry>,
}

impl Merger {
    fn advance(&mut self, index: usize) -> Result<(), IndexError> {
        let source = &mut self.sources[index];
        source.head = source.entries.next().transpose()?;
        if let Some(head) = &source.head {
            self.heap.push(Reverse((head.order(), index)));
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<IndexEntry>, IndexError> {
        while let Some(Reverse((_, index))) = self.heap.pop() {
            let entry = self.sources[index].head;
            self.advance(index)?;
            if entry != self.last {
                self.last = entry;
                return Ok(entry);
            }
        }
        Ok(None)
    }
}
