//! A database in memory, for tests.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::ops::Bound;

use parking_lot::Mutex;

use super::{Change, RecordStore, StoreError, StoredRecord, read_record, write_record};
use crate::path::RecordPath;

/// All records in a map.
#[derive(Default)]
pub struct MemoryRecords(Mutex<BTreeMap<RecordPath, StoredRecord>>);

impl MemoryRecords {
    /// An empty one.
    pub fn new() -> MemoryRecords {
        MemoryRecords::default()
    }
}

impl RecordStore for MemoryRecords {
    fn get(&self, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError> {
        Ok(self.0.lock().get(path).cloned())
    }

    fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        let mut records = self.0.lock();
        let mut changed = records.clone();
        for change in changes {
            let there = changed.get(&change.path).map(|record| record.version);
            if there != change.expected {
                let path = change.path.clone();
                return Err(StoreError::Conflict { path });
            }
            match &change.put {
                Some(record) => changed.insert(change.path.clone(), record.clone()),
                None => changed.remove(&change.path),
            };
        }
        *records = changed;
        Ok(())
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&RecordPath>,
        limit: usize,
    ) -> Result<Vec<RecordPath>, StoreError> {
        let records = self.0.lock();
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = records
            .range((from, Bound::Unbounded))
            .map(|(path, _)| path)
            .filter(|path| path.as_str().starts_with(prefix));
        Ok(found.take(limit).cloned().collect())
    }

    fn snapshot(&self, out: &mut dyn Write) -> Result<(), StoreError> {
        for (path, record) in &*self.0.lock() {
            write_record(out, Some((path, record)))?;
        }
        write_record(out, None)
    }

    fn restore(&self, from: &mut dyn Read) -> Result<(), StoreError> {
        let mut records = self.0.lock();
        if !records.is_empty() {
            return Err(StoreError::NotEmpty);
        }
        let mut restored = BTreeMap::new();
        while let Some((path, record)) = read_record(from)? {
            restored.insert(path, record);
        }
        *records = restored;
        Ok(())
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;

    #[test]
    fn conforms() {
        super::super::conformance::all(|| Box::new(MemoryRecords::new()));
    }
}
