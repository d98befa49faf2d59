//! The manifest: which version of which record is the newest, authenticated.
//!
//! Encryption binds a record to its path and version, but an older version of a record is a good record, too: somebody who can write to
//! the database could put one back, or take one away. So every record's version and digest stand in one of 64 buckets, and
//! every bucket's digest stands in the root, which also counts the writes: the database's generation. Buckets and root are
//! encrypted like records. A write changes the record, its bucket and the root in one `apply`: three records, whatever
//! the number of all of them; several writes that belong together go into one `apply`, too.
//!
//! All buckets are read and checked when the keystore is opened, and kept in memory; a read then costs one look-up. What
//! this cannot find is the whole database from an earlier moment: that has a root of its own. It shows against a
//! generation that is kept elsewhere (the audit log, an outside sink).
//!
//! The root also names the stored keyring by its digest. Otherwise somebody with the shares of a former epoch, a holder who has left, could
//! put that epoch's header and keyring back beside today's records, and open those.

use std::collections::BTreeMap;

use holdfast_crypto::{Keyring, RecordPlace};

use crate::keystore::{KEYRING, KeystoreError, damaged};
use crate::path::RecordPath;
use crate::store::{Change, RecordStore, StoredRecord};

const BUCKETS: usize = 64;
pub(crate) const ROOT: &str = "seal/manifest/root";
/// generation u64 | term u32 | writes u64 | digest 32 of the stored keyring
const ROOT_HEAD_BYTES: usize = 8 + 4 + 8 + 32;
/// version u64 | digest 32
const BUCKET_BYTES: usize = 8 + 32;
const ROOT_BYTES: usize = ROOT_HEAD_BYTES + BUCKETS * BUCKET_BYTES;

/// The newest version of everything.
pub(crate) struct Manifest {
    generation: u64,
    /// Records written under the newest term.
    writes: u64,
    term: u32,
    /// Of the keyring as it is stored.
    keyring: Digest,
    buckets: Vec<Bucket>,
}

/// BLAKE3 of a stored value.
type Digest = [u8; 32];

#[derive(Default)]
struct Bucket {
    /// 0: not stored yet.
    version: u64,
    digest: Digest,
    records: BTreeMap<RecordPath, Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    digest: Digest,
}

/// What is to stand at a path; `None` for nothing.
pub(crate) type Write<'a> = (&'a RecordPath, Option<&'a [u8]>);

/// What a write changes; taken over once it is stored.
pub(crate) struct Next {
    pub(crate) changes: Vec<Change>,
    buckets: BTreeMap<usize, Bucket>,
    generation: u64,
    writes: u64,
    term: u32,
    keyring: Digest,
}

impl Manifest {
    /// The change that stores the one of a new keystore, in place of one of the version `expected`.
    pub(crate) fn create(
        cluster: &[u8; 16],
        keyring: &Keyring,
        stored_keyring: &[u8],
        expected: Option<u64>,
    ) -> Change {
        let manifest = Manifest {
            generation: 1,
            writes: 0,
            term: keyring.term(),
            keyring: digest(stored_keyring),
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
        };
        manifest.root_change(cluster, keyring, expected)
    }

    /// Reads all of it and checks every bucket against the root.
    pub(crate) fn load(
        store: &dyn RecordStore,
        cluster: &[u8; 16],
        keyring: &Keyring,
        stored_keyring: &[u8],
    ) -> Result<Manifest, KeystoreError> {
        let damaged = || damaged(ROOT);
        let path = RecordPath::fixed(ROOT);
        let stored = store.get(&path)?.ok_or_else(damaged)?;
        let place = place(cluster, &path, stored.version);
        let root = keyring
            .decrypt(&place, &stored.value)
            .map_err(|_| damaged())?;
        if root.len() != ROOT_BYTES {
            return Err(damaged());
        }
        let number =
            |at: usize| u64::from_le_bytes(*root[at..].first_chunk().expect("long enough"));
        let mut manifest = Manifest {
            generation: number(0),
            term: u32::from_le_bytes(*root[8..].first_chunk().expect("long enough")),
            writes: number(12),
            keyring: *root[20..].first_chunk().expect("long enough"),
            buckets: Vec::with_capacity(BUCKETS),
        };
        if manifest.generation != stored.version {
            return Err(damaged());
        }
        if manifest.keyring != digest(stored_keyring) {
            return Err(super::keystore::damaged(KEYRING));
        }
        for bucket in 0..BUCKETS {
            let at = ROOT_HEAD_BYTES + bucket * BUCKET_BYTES;
            let named = *root[at + 8..].first_chunk().expect("long enough");
            let named = (number(at), named);
            let bucket = Bucket::load(store, cluster, keyring, bucket, named)?;
            manifest.buckets.push(bucket);
        }
        Ok(manifest)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn writes(&self) -> u64 {
        self.writes
    }

    pub(crate) fn entry(&self, path: &RecordPath) -> Option<Entry> {
        self.buckets[bucket_of(path)].records.get(path).copied()
    }

    pub(crate) fn paths<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a RecordPath> {
        let records = self.buckets.iter().flat_map(|bucket| bucket.records.keys());
        records.filter(move |path| path.as_str().starts_with(prefix))
    }

    /// What these writes change together; `None` deletes. No path stands among them twice.
    pub(crate) fn write(
        &self,
        cluster: &[u8; 16],
        keyring: &Keyring,
        writes: &[Write<'_>],
    ) -> Next {
        // Never the same twice, also after the record was deleted.
        let version = self.generation + 1;
        let mut buckets: BTreeMap<usize, BTreeMap<RecordPath, Entry>> = BTreeMap::new();
        let mut changes = Vec::with_capacity(2 * writes.len() + 1);
        for (path, put) in writes {
            let number = bucket_of(path);
            let records = buckets
                .entry(number)
                .or_insert_with(|| self.buckets[number].records.clone());
            let there = records.remove(path);
            let put = put.map(|plaintext| StoredRecord {
                version,
                value: keyring.encrypt(&place(cluster, path, version), plaintext),
            });
            if let Some(record) = &put {
                let digest = digest(&record.value);
                records.insert((*path).clone(), Entry { version, digest });
            }
            changes.push(Change {
                path: (*path).clone(),
                expected: there.map(|entry| entry.version),
                put,
            });
        }
        let mut next = self.step(keyring);
        for (number, records) in buckets {
            let path = bucket_path(number);
            let value = keyring.encrypt(&place(cluster, &path, version), &encode(&records));
            let old = self.buckets[number].version;
            let bucket = Bucket {
                version,
                digest: digest(&value),
                records,
            };
            changes.push(Change {
                path,
                expected: (old > 0).then_some(old),
                put: Some(StoredRecord { version, value }),
            });
            next.buckets.insert(number, bucket);
        }
        changes.push(self.root_after(cluster, keyring, &next));
        next.changes = changes;
        next
    }

    /// A generation without a record's change: for what changes the keyring.
    pub(crate) fn touch(
        &self,
        cluster: &[u8; 16],
        keyring: &Keyring,
        stored_keyring: &[u8],
    ) -> Next {
        let mut next = self.step(keyring);
        next.keyring = digest(stored_keyring);
        next.changes = vec![self.root_after(cluster, keyring, &next)];
        next
    }

    /// Takes over what is stored.
    pub(crate) fn take(&mut self, next: Next) {
        self.generation = next.generation;
        self.writes = next.writes;
        self.term = next.term;
        self.keyring = next.keyring;
        for (number, bucket) in next.buckets {
            self.buckets[number] = bucket;
        }
    }

    /// Whether a stored record is the newest one of its path.
    pub(crate) fn is_newest(entry: &Entry, stored: &StoredRecord) -> bool {
        entry.version == stored.version && entry.digest == digest(&stored.value)
    }

    fn step(&self, keyring: &Keyring) -> Next {
        let same_term = keyring.term() == self.term;
        Next {
            changes: Vec::new(),
            buckets: BTreeMap::new(),
            generation: self.generation + 1,
            writes: if same_term { self.writes + 1 } else { 1 },
            term: keyring.term(),
            keyring: self.keyring,
        }
    }

    fn root_after(&self, cluster: &[u8; 16], keyring: &Keyring, next: &Next) -> Change {
        let bucket = |number: usize| {
            let bucket = next.buckets.get(&number).unwrap_or(&self.buckets[number]);
            (bucket.version, bucket.digest)
        };
        let head = root_head(next.generation, next.term, next.writes, &next.keyring);
        root_change(
            cluster,
            keyring,
            (next.generation, head),
            bucket,
            Some(self.generation),
        )
    }

    fn root_change(&self, cluster: &[u8; 16], keyring: &Keyring, expected: Option<u64>) -> Change {
        let bucket = |number: usize| (self.buckets[number].version, self.buckets[number].digest);
        let head = root_head(self.generation, self.term, self.writes, &self.keyring);
        root_change(cluster, keyring, (self.generation, head), bucket, expected)
    }
}

impl Bucket {
    fn load(
        store: &dyn RecordStore,
        cluster: &[u8; 16],
        keyring: &Keyring,
        number: usize,
        (version, named): (u64, Digest),
    ) -> Result<Bucket, KeystoreError> {
        if version == 0 {
            return Ok(Bucket::default());
        }
        let path = bucket_path(number);
        let damaged = || damaged(path.as_str());
        let stored = store.get(&path)?.ok_or_else(damaged)?;
        if stored.version != version || digest(&stored.value) != named {
            return Err(damaged());
        }
        let place = place(cluster, &path, version);
        let bytes = keyring
            .decrypt(&place, &stored.value)
            .map_err(|_| damaged())?;
        let records = decode(number, &bytes).ok_or_else(damaged)?;
        Ok(Bucket {
            version,
            digest: named,
            records,
        })
    }
}

pub(crate) fn place<'a>(
    cluster: &'a [u8; 16],
    path: &'a RecordPath,
    version: u64,
) -> RecordPlace<'a> {
    RecordPlace {
        cluster,
        path: path.as_str(),
        version,
    }
}

fn digest(stored: &[u8]) -> Digest {
    *blake3::hash(stored).as_bytes()
}

fn root_head(generation: u64, term: u32, writes: u64, keyring: &Digest) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOT_BYTES);
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&term.to_le_bytes());
    bytes.extend_from_slice(&writes.to_le_bytes());
    bytes.extend_from_slice(keyring);
    bytes
}

fn root_change(
    cluster: &[u8; 16],
    keyring: &Keyring,
    (generation, mut bytes): (u64, Vec<u8>),
    bucket: impl Fn(usize) -> (u64, Digest),
    expected: Option<u64>,
) -> Change {
    for number in 0..BUCKETS {
        let (version, digest) = bucket(number);
        bytes.extend_from_slice(&version.to_le_bytes());
        bytes.extend_from_slice(&digest);
    }
    let path = RecordPath::fixed(ROOT);
    let value = keyring.encrypt(&place(cluster, &path, generation), &bytes);
    Change {
        path,
        expected,
        put: Some(StoredRecord {
            version: generation,
            value,
        }),
    }
}

fn bucket_of(path: &RecordPath) -> usize {
    usize::from(blake3::hash(path.as_str().as_bytes()).as_bytes()[0]) % BUCKETS
}

fn bucket_path(number: usize) -> RecordPath {
    RecordPath::fixed(&format!("seal/manifest/{number:02}"))
}

/// `u16 length | path | u64 version | digest 32`, one after the other, by path.
fn encode(records: &BTreeMap<RecordPath, Entry>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, entry) in records {
        let text = path.as_str().as_bytes();
        let length = u16::try_from(text.len()).expect("a path has at most 200 bytes");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(&entry.version.to_le_bytes());
        bytes.extend_from_slice(&entry.digest);
    }
    bytes
}

/// Reads what [`encode`] wrote, and nothing that it would have written in another way.
fn decode(bucket: usize, mut bytes: &[u8]) -> Option<BTreeMap<RecordPath, Entry>> {
    let mut records: BTreeMap<RecordPath, Entry> = BTreeMap::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk()?;
        let (path, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
        let (version, rest) = rest.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        let path: RecordPath = std::str::from_utf8(path).ok()?.parse().ok()?;
        let last = records.last_key_value();
        if bucket_of(&path) != bucket || last.is_some_and(|(last, _)| *last >= path) {
            return None;
        }
        let entry = Entry {
            version: u64::from_le_bytes(*version),
            digest: *digest,
        };
        records.insert(path, entry);
        bytes = rest;
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records(bucket: usize) -> impl Strategy<Value = BTreeMap<RecordPath, Entry>> {
        let entry = (any::<u64>(), any::<[u8; 32]>());
        prop::collection::btree_map("[a-z0-9._-]{1,20}(/[a-z0-9]{1,5})?", entry, 0..200).prop_map(
            move |all| {
                let here = all.into_iter().map(|(path, (version, digest))| {
                    (RecordPath::fixed(&path), Entry { version, digest })
                });
                here.filter(|(path, _)| bucket_of(path) == bucket).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn buckets_are_one_to_one(records in records(3)) {
            let bytes = encode(&records);
            prop_assert!(decode(3, &bytes) == Some(records.clone()));
            prop_assert!(records.is_empty() || decode(4, &bytes).is_none());
            for end in 1..bytes.len() {
                if let Some(read) = decode(3, &bytes[..end]) {
                    prop_assert!(encode(&read) == bytes[..end]);
                }
            }
        }

        #[test]
        fn any_bytes_are_a_bucket_in_one_way_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(read) = decode(0, &bytes) {
                prop_assert_eq!(encode(&read), bytes);
            }
        }
    }
}
