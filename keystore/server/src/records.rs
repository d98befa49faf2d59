//! Records in redb: one table, path -> version and value, every change durable before it is acknowledged.
//!
//! redb commits a transaction whole or not at all and syncs it (immediate durability); with two-phase commit a file that somebody
//! else can write to cannot be brought to accept a transaction that was cut off. The records themselves are ciphertext, and
//! what must not be exchanged or rolled back is found by the barrier, not here.

use std::io::{Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use holdfast_protocol::{
    Change, RecordPath, RecordStore, StoreError, StoredRecord, read_record, write_record,
};
use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    TableDefinition, WriteTransaction,
};

/// `version u64 | value`
const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
/// All of its pages are locked in memory, so it is small; a keystore's records are.
const CACHE_BYTES: usize = 64 << 20;

/// The database of one node.
pub struct RedbRecords(Database);

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenRecordsError {
    /// Somebody else has it open.
    #[error("the database {} is open in another program; end it first", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// Not readable, not writable, or not a database.
    #[error("the database {} cannot be opened: {source}; check the disk, or restore a snapshot in an empty data folder", .path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
}

impl RedbRecords {
    /// Opens the database, or makes it.
    pub fn open(path: &Path) -> Result<RedbRecords, OpenRecordsError> {
        let unusable = |source: redb::Error| OpenRecordsError::Unusable {
            path: path.to_owned(),
            source: Box::new(source),
        };
        let mut builder = Database::builder();
        let opened = builder.set_cache_size(CACHE_BYTES).create(path);
        let database = opened.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => OpenRecordsError::InUse {
                path: path.to_owned(),
            },
            other => unusable(other.into()),
        })?;
        let records = RedbRecords(database);
        // The table is there from now on, so that reading never has to ask.
        let made = records.write(|transaction| {
            transaction.open_table(RECORDS).map_err(io)?;
            Ok(())
        });
        made.map_err(|error| unusable(redb::Error::Corrupted(error.to_string())))?;
        Ok(records)
    }

    fn read(&self) -> Result<ReadTransaction, StoreError> {
        self.0.begin_read().map_err(io)
    }

    /// One transaction; nothing of it stays if `work` fails.
    fn write(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut transaction = self.0.begin_write().map_err(io)?;
        transaction
            .set_durability(Durability::Immediate)
            .map_err(io)?;
        transaction.set_two_phase_commit(true);
        // Dropped without a commit, a transaction is undone.
        work(&transaction)?;
        transaction.commit().map_err(io)
    }
}

impl RecordStore for RedbRecords {
    fn get(&self, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError> {
        let table = self.read()?.open_table(RECORDS).map_err(io)?;
        let stored = table.get(path.as_str()).map_err(io)?;
        stored.map(|stored| decode(stored.value())).transpose()
    }

    fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(RECORDS).map_err(io)?;
            for change in changes {
                let path = change.path.as_str();
                let there = match table.get(path).map_err(io)? {
                    Some(stored) => Some(decode(stored.value())?.version),
                    None => None,
                };
                if there != change.expected {
                    let path = change.path.clone();
                    return Err(StoreError::Conflict { path });
                }
                match &change.put {
                    Some(record) => table.insert(path, encode(record).as_slice()).map_err(io)?,
                    None => table.remove(path).map_err(io)?,
                };
            }
            Ok(())
        })
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&RecordPath>,
        limit: usize,
    ) -> Result<Vec<RecordPath>, StoreError> {
        let table = self.read()?.open_table(RECORDS).map_err(io)?;
        let from = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut found = Vec::new();
        for entry in table.range::<&str>((from, Bound::Unbounded)).map_err(io)? {
            let (path, _) = entry.map_err(io)?;
            if found.len() == limit || !path.value().starts_with(prefix) {
                break;
            }
            found.push(parse(path.value())?);
        }
        Ok(found)
    }

    fn snapshot(&self, out: &mut dyn Write) -> Result<(), StoreError> {
        let table = self.read()?.open_table(RECORDS).map_err(io)?;
        for entry in table.iter().map_err(io)? {
            let (path, stored) = entry.map_err(io)?;
            write_record(out, Some((&parse(path.value())?, &decode(stored.value())?)))?;
        }
        write_record(out, None)
    }

    fn restore(&self, from: &mut dyn Read) -> Result<(), StoreError> {
        self.write(|transaction| {
            let mut table = transaction.open_table(RECORDS).map_err(io)?;
            if table.first().map_err(io)?.is_some() {
                return Err(StoreError::NotEmpty);
            }
            while let Some((path, record)) = read_record(from)? {
                table
                    .insert(path.as_str(), encode(&record).as_slice())
                    .map_err(io)?;
            }
            Ok(())
        })
    }
}

fn encode(record: &StoredRecord) -> Vec<u8> {
    [record.version.to_le_bytes().as_slice(), &record.value].concat()
}

fn decode(stored: &[u8]) -> Result<StoredRecord, StoreError> {
    let (version, value) = stored
        .split_first_chunk()
        .ok_or_else(|| StoreError::Io("a record without a version".to_owned()))?;
    Ok(StoredRecord {
        version: u64::from_le_bytes(*version),
        value: value.to_vec(),
    })
}

fn parse(path: &str) -> Result<RecordPath, StoreError> {
    path.parse()
        .map_err(|_| StoreError::Io("a record at a path that is none".to_owned()))
}

fn io(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Io(error.into().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A database in a folder of its own, deleted with it.
    struct InFolder {
        records: RedbRecords,
        _folder: tempfile::TempDir,
    }

    impl RecordStore for InFolder {
        fn get(&self, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError> {
            self.records.get(path)
        }
        fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
            self.records.apply(changes)
        }
        fn scan(
            &self,
            prefix: &str,
            after: Option<&RecordPath>,
            limit: usize,
        ) -> Result<Vec<RecordPath>, StoreError> {
            self.records.scan(prefix, after, limit)
        }
        fn snapshot(&self, out: &mut dyn Write) -> Result<(), StoreError> {
            self.records.snapshot(out)
        }
        fn restore(&self, from: &mut dyn Read) -> Result<(), StoreError> {
            self.records.restore(from)
        }
    }

    fn in_folder() -> InFolder {
        let folder = tempfile::tempdir().unwrap();
        InFolder {
            records: RedbRecords::open(&folder.path().join("keystore.redb")).unwrap(),
            _folder: folder,
        }
    }

    #[test]
    fn conforms() {
        holdfast_protocol::conformance::all(|| Box::new(in_folder()));
    }

    #[test]
    fn what_is_acknowledged_is_there_after_it_was_closed_and_nobody_opens_it_twice() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keystore.redb");
        let path: RecordPath = "a/b".parse().unwrap();
        let records = RedbRecords::open(&file).unwrap();
        let put = Some(StoredRecord {
            version: 3,
            value: b"value".to_vec(),
        });
        records
            .apply(&[Change {
                path: path.clone(),
                expected: None,
                put: put.clone(),
            }])
            .unwrap();
        let second = RedbRecords::open(&file);
        assert!(matches!(second, Err(OpenRecordsError::InUse { .. })));
        drop(records);
        assert_eq!(RedbRecords::open(&file).unwrap().get(&path).unwrap(), put);
    }

    #[test]
    fn what_is_no_database_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keystore.redb");
        std::fs::write(&file, vec![7; 10_000]).unwrap();
        let opened = RedbRecords::open(&file).err().unwrap().to_string();
        assert!(opened.contains("restore a snapshot"), "{opened}");
    }
}
