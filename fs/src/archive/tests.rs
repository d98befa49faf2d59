use std::collections::BTreeMap;

use holdfast_backend::layout::Folder;
use holdfast_backend::store::{Fault, FaultRates, MemoryStore, Record};

use super::*;
use crate::format::node::HashedEntry;
use crate::format::node::TreeNode;
use crate::format::{
    Attributes, Body, CommitKind, Entry, FileKind, Inode, ListRef, Piece, Target, Time, Totals,
    TreeRef, Xattrs,
};
use crate::store_commit::{CommitDraft, CommitOutcome};

mod enrolled;

/// A computer: a home folder and the store that it uses.
pub(crate) struct Computer {
    pub(crate) _folder: tempfile::TempDir,
    pub(crate) home: Home,
    pub(crate) store: Arc<dyn ObjectStore>,
}

impl Computer {
    pub(crate) fn new(store: Arc<dyn ObjectStore>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(&folder.path().join("home"));
        Self {
            _folder: folder,
            home,
            store,
        }
    }

    pub(crate) fn create(&self) -> (Arc<Archive>, RecoveryCode) {
        Archive::create(Arc::clone(&self.store), &self.home, settings(), "laptop").unwrap()
    }

    pub(crate) fn open(&self) -> Result<Arc<Archive>, ArchiveError> {
        let access = Access::Write(self.home.lock().unwrap());
        Archive::open_on(Arc::clone(&self.store), &self.home, settings(), access)
    }

    /// As if the store were in a bucket.
    fn open_remote(&self, access: Access) -> Arc<Archive> {
        let settings = Settings::new("s3://bucket/archive");
        Archive::open_on(Arc::clone(&self.store), &self.home, settings, access).unwrap()
    }

    pub(crate) fn recover(
        &self,
        code: &RecoveryCode,
        from: Option<&str>,
    ) -> Result<Arc<Archive>, ArchiveError> {
        Archive::recover(
            Arc::clone(&self.store),
            &self.home,
            settings(),
            code,
            "laptop",
            from,
        )
    }
}

pub(crate) fn settings() -> Settings {
    Settings::new("memory")
}

pub(crate) fn memory() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new())
}

fn attributes(kind: FileKind) -> Attributes {
    let time = Time {
        seconds: 1_700_000_000,
        nanos: 5,
    };
    let nobody: Arc<[u8]> = Arc::from(&b""[..]);
    Attributes {
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        owner: Arc::clone(&nobody),
        group: nobody,
        mtime: time,
        ctime: time,
        atime: time,
        rdev: 0,
    }
}

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A root folder with these files, one chunk each, its tree stored through the archive.
pub(crate) fn draft(
    archive: &Archive,
    files: &Files,
    kind: CommitKind,
    label: Option<&str>,
) -> CommitDraft {
    let mut items: Vec<HashedEntry> = Vec::new();
    for (number, (name, content)) in files.iter().enumerate() {
        let id = archive.store(ChunkKind::Data, content).unwrap();
        let length = content.len() as u32;
        let list = ListRef::Inline(Arc::from([Piece::Chunk { id, length }]));
        let size = u64::from(length);
        let inode = Inode {
            file: 2 + number as u64,
            attributes: attributes(FileKind::Regular),
            xattrs: Arc::new(Xattrs::new()),
            fingerprint: 0,
            body: Body::Regular {
                size,
                allocated: size,
                list,
            },
        };
        let entry = Entry {
            name: name.as_bytes().to_vec(),
            target: Target::Inline(inode),
        };
        items.push(HashedEntry {
            hash: archive.keychain().name_hash(name.as_bytes()),
            entry,
        });
    }
    items.sort_by(|a, b| (a.hash, &a.entry.name).cmp(&(b.hash, &b.entry.name)));
    let totals = items
        .iter()
        .fold(Totals::default(), |sum, item| sum.plus(item.entry.totals()));
    let tree = (!items.is_empty()).then(|| {
        let id = archive
            .store(ChunkKind::Tree, &TreeNode::Items(items).encode())
            .unwrap();
        TreeRef {
            level: 0,
            id,
            totals,
        }
    });
    let root = Inode {
        file: 1,
        attributes: attributes(FileKind::Directory),
        xattrs: Arc::new(Xattrs::new()),
        fingerprint: 0,
        body: Body::Directory { tree },
    };
    CommitDraft {
        time: Time {
            seconds: 1_700_000_100,
            nanos: 0,
        },
        kind,
        label: label.map(str::to_owned),
        root,
        links: None,
        next_file: 1000,
        totals,
    }
}

/// Everything in a commit's root folder, read back.
pub(crate) fn read_back(archive: &Archive, commit: &Commit) -> Files {
    let mut files = Files::new();
    let Body::Directory { tree: Some(tree) } = &commit.root.body else {
        return files;
    };
    let bytes = archive.load(ChunkKind::Tree, &tree.id).unwrap();
    let TreeNode::<HashedEntry>::Items(items) = TreeNode::decode(&bytes).unwrap() else {
        panic!("one page")
    };
    for item in items {
        let Target::Inline(inode) = &item.entry.target else {
            panic!("no links")
        };
        let Body::Regular {
            list: ListRef::Inline(pieces),
            ..
        } = &inode.body
        else {
            panic!("a file")
        };
        let mut content = Vec::new();
        for piece in pieces.iter() {
            let Piece::Chunk { id, .. } = piece else {
                panic!("no holes")
            };
            content.extend_from_slice(&archive.load(ChunkKind::Data, id).unwrap());
        }
        files.insert(String::from_utf8(item.entry.name).unwrap(), content);
    }
    files
}

pub(crate) fn files(count: usize, seed: u8) -> Files {
    let content = |n: usize| (0..3000).map(|i| (i * 7 + n * 13) as u8 ^ seed).collect();
    (0..count)
        .map(|n| (format!("file-{n}"), content(n)))
        .collect()
}

pub(crate) fn commit(archive: &Archive, files: &Files) -> CommitOutcome {
    let draft = draft(archive, files, CommitKind::Requested, None);
    archive.store_commit(draft, None).unwrap()
}

#[test]
fn what_one_computer_stores_another_one_reads_after_recover() {
    let store = memory();
    let first = Computer::new(store.clone());
    let (archive, code) = first.create();
    let files = files(50, 1);
    commit(&archive, &files);

    let second = Computer::new(store);
    let other = second.recover(&code, None).unwrap();
    assert_eq!(other.device_record().name, "laptop-2");
    assert_eq!(other.device_record().number, 2);
    let (snapshot, commit) = other.load_snapshot("latest").unwrap();
    assert_eq!(snapshot.device, "laptop");
    assert_eq!(read_back(&other, &commit), files);
    assert!(other.head().is_none());
}

#[test]
fn recover_can_start_from_another_device() {
    let store = memory();
    let first = Computer::new(store.clone());
    let (archive, code) = first.create();
    let files = files(3, 1);
    commit(&archive, &files);
    let second = Computer::new(store);
    let other = second.recover(&code, Some("laptop")).unwrap();
    let (name, head) = other.head().unwrap();
    assert_eq!(head.kind, CommitKind::Checkpoint);
    // It needs what the other one needs; no tree was read to find that out.
    let packs = |name: CommitName| {
        let refs = other.names(Folder::Refs(Some(name.device))).unwrap();
        let table = other.load_refs(refs).unwrap();
        let newest = table.of(name.device, name.sequence).next().unwrap();
        let needed = table.resolve(&newest).unwrap();
        let packs = needed
            .into_iter()
            .filter(|name| matches!(name, ObjectName::Pack(_)));
        packs.collect::<Vec<_>>()
    };
    let (like, _) = archive.head().unwrap();
    assert_eq!(packs(name), packs(like));
    assert!(other.memo.lock().is_empty());
    assert_eq!(read_back(&other, &head), files);
    // The next commit finds out for itself.
    let more = self::files(4, 7);
    commit(&other, &more);
    assert_eq!(read_back(&other, &other.head().unwrap().1), more);
}

/// What was flushed after the newest snapshot is in the store, and is what a new computer wants back.
#[test]
fn recover_starts_from_a_checkpoint_that_is_newer_than_the_snapshots() {
    let store = memory();
    let first = Computer::new(store.clone());
    let (archive, code) = first.create();
    commit(&archive, &files(3, 1));
    let flushed = files(5, 2);
    let draft = draft(&archive, &flushed, CommitKind::Checkpoint, None);
    archive.store_commit(draft, None).unwrap();
    let second = Computer::new(store);
    let other = second.recover(&code, Some("laptop")).unwrap();
    let (_, head) = other.head().unwrap();
    assert_eq!(read_back(&other, &head), flushed);
}

/// An archive that stays open sees devices that join and reads what they store, and asks for their index once.
#[test]
fn what_another_device_stores_meanwhile_is_read() {
    let store = memory();
    let requests = Arc::new(Record::new(store.clone()));
    let first = Computer::new(requests.clone());
    let (archive, code) = first.create();
    commit(&archive, &files(2, 1));
    let second = Computer::new(store);
    let other = second.recover(&code, None).unwrap();
    for round in 0..2 {
        let files = files(30, 3 + round);
        commit(&other, &files);
        let (snapshot, shown) = archive.load_snapshot("laptop-2/latest").unwrap();
        assert_eq!(snapshot.device, "laptop-2");
        assert_eq!(read_back(&archive, &shown), files);
    }
    // A chunk that nobody has costs one listing, not one for each time it is asked for.
    let nobodys = archive
        .keychain()
        .chunk_id(ChunkKind::Data, b"nobody has this");
    requests.reset();
    for _ in 0..3 {
        let error = archive.load(ChunkKind::Data, &nobodys).unwrap_err();
        assert!(matches!(error, LoadError::Missing { .. }), "{error}");
    }
    let cost = requests.snapshot().requests();
    assert!(cost <= 1, "{cost} requests");
}

#[test]
fn closing_and_opening_changes_nothing() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    let files = files(20, 2);
    let (name, _) = commit(&archive, &files).commit();
    drop(archive);
    let archive = computer.open().unwrap();
    let (head, commit) = archive.head().unwrap();
    assert_eq!(head, name);
    assert_eq!(read_back(&archive, &commit), files);
}

#[test]
fn a_store_that_holds_an_archive_is_refused() {
    let store = memory();
    Computer::new(store.clone()).create();
    let second = Computer::new(store);
    let made = Archive::create(second.store.clone(), &second.home, settings(), "x");
    assert!(matches!(
        made.map(drop),
        Err(ArchiveError::AlreadyAnArchive { .. })
    ));
}

#[test]
fn what_is_no_archive_and_what_is_another_one_is_told_apart() {
    let computer = Computer::new(memory());
    drop(computer.create());
    let empty = Computer {
        _folder: tempfile::tempdir().unwrap(),
        home: computer.home.clone(),
        store: memory(),
    };
    assert!(matches!(
        empty.open().map(drop),
        Err(ArchiveError::NotAnArchive { .. })
    ));
    let others = memory();
    let (_, code) = Computer::new(others.clone()).create();
    let other = Computer {
        _folder: tempfile::tempdir().unwrap(),
        home: computer.home.clone(),
        store: others,
    };
    assert!(matches!(
        other.open().map(drop),
        Err(ArchiveError::WrongKey { .. })
    ));
    let third = Computer::new(Arc::clone(&computer.store));
    assert!(matches!(
        third.recover(&code, None).map(drop),
        Err(ArchiveError::WrongRecoveryCode { .. })
    ));
    assert!(!third.home.is_set_up());
}

#[test]
fn a_store_that_was_rolled_back_is_noticed() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    commit(&archive, &files(2, 1));
    drop(archive);
    for name in store.names() {
        if matches!(name, ObjectName::Commit { .. }) {
            runtime::handle().block_on(store.delete(&name)).unwrap();
        }
    }
    assert!(matches!(
        computer.open().map(drop),
        Err(ArchiveError::RolledBack { .. })
    ));
}

#[test]
fn two_devices_that_join_at_once_are_both_in_the_keyring() {
    let store = memory();
    let first = Computer::new(store.clone());
    let (archive, code) = first.create();
    let one = Computer::new(store.clone());
    one.recover(&code, None).unwrap();
    // Another device read version 1 before `one` stored version 2.
    let version_two = store
        .names()
        .into_iter()
        .rfind(|name| matches!(name, ObjectName::Keyring { version: 2, .. }));
    let name = version_two.unwrap();
    let held = runtime::handle().block_on(store.get(&name)).unwrap();
    runtime::handle().block_on(store.delete(&name)).unwrap();
    let two = Computer::new(store.clone());
    two.recover(&code, None).unwrap();
    store.corrupt(&name, held);
    drop(archive);
    let archive = first.open().unwrap();
    assert_eq!(archive.devices().len(), 3);
    let names: BTreeSet<String> = archive
        .devices()
        .into_iter()
        .map(|device| device.name)
        .collect();
    assert_eq!(names.len(), 3);
    assert_eq!(archive.keyring.read().version, 3);
    assert!(one.open().is_ok() && two.open().is_ok());
}

#[test]
fn many_small_chunks_cost_few_requests() {
    let store = Arc::new(Record::new(memory()));
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let files = files(2000, 3);
    commit(&archive, &files);
    drop(archive);
    let archive = computer.open().unwrap();
    let (_, commit) = archive.head().unwrap();
    store.reset();
    assert_eq!(read_back(&archive, &commit), files);
    let requests = store.snapshot().requests();
    assert!(requests <= 30, "{requests} requests for 2000 chunks");
}

fn random_bytes(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..length).map(next).collect()
}

#[test]
fn small_chunks_that_are_read_in_order_are_there_before_they_are_wanted() {
    let store = Arc::new(Record::new(memory()));
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let content = |n: u32| random_bytes(n, 100_000);
    let ids: Vec<ChunkId> = (0..100)
        .map(|n| archive.store(ChunkKind::Data, &content(n)).unwrap())
        .collect();
    archive.flush(None).unwrap();
    drop(archive);
    let archive = computer.open().unwrap();
    store.reset();
    let mut waits = 0;
    for (n, id) in ids.iter().enumerate() {
        let load = || archive.load(ChunkKind::Data, id);
        let found = match crate::blocking::without_waiting(load) {
            Err(LoadError::WouldBlock) => {
                waits += 1;
                load()
            }
            found => found,
        };
        assert!(found.unwrap() == content(n as u32));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(waits <= 4, "{waits} waits for the store");
    let requests = store.snapshot().requests();
    assert!(requests <= 12, "{requests} requests for 10 MB");
}

/// Eight chunks that are not small, in the store.
fn long_chunks(computer: &Computer) -> Vec<(ChunkKind, ChunkId)> {
    let (archive, _) = computer.create();
    let store = |n| archive.store(ChunkKind::Data, &random_bytes(n, 700_000));
    let ids = (0..8).map(|n| (ChunkKind::Data, store(n).unwrap()));
    let ids = ids.collect();
    archive.flush(None).unwrap();
    ids
}

/// Fetches them ahead, then reads them; how many requests that took.
fn read_ahead(archive: &Archive, ids: &[(ChunkKind, ChunkId)], store: &Record<MemoryStore>) -> u64 {
    store.reset();
    archive.prefetch(ids);
    std::thread::sleep(std::time::Duration::from_millis(300));
    for (n, (kind, id)) in ids.iter().enumerate() {
        assert_eq!(
            archive.load(*kind, id).unwrap(),
            random_bytes(n as u32, 700_000)
        );
    }
    store.snapshot().requests()
}

#[test]
fn prefetched_chunks_come_in_long_ranges() {
    let store = Arc::new(Record::new(memory()));
    let computer = Computer::new(store.clone());
    let ids = long_chunks(&computer);
    let archive = computer.open_remote(Access::Write(computer.home.lock().unwrap()));
    let requests = read_ahead(&archive, &ids, &store);
    assert!(requests <= 4, "{requests} requests");
}

/// From a folder each chunk is read into a room of its own, and once.
#[test]
fn prefetched_chunks_of_a_folder_are_read_one_by_one() {
    let store = Arc::new(Record::new(memory()));
    let computer = Computer::new(store.clone());
    let ids = long_chunks(&computer);
    let archive = computer.open().unwrap();
    // The key object, once.
    let requests = read_ahead(&archive, &ids, &store);
    assert!((8..=9).contains(&requests), "{requests} requests");
}

#[test]
fn a_chunk_that_somebody_loads_is_not_prefetched_beside() {
    let slow = FaultRates {
        slow: 1.0,
        slowness: std::time::Duration::from_millis(300),
        ..FaultRates::NONE
    };
    let fault = Arc::new(Fault::new(memory(), 1, slow));
    let store = Arc::new(Record::new(fault.clone()));
    let computer = Computer::new(store.clone());
    fault.heal();
    let ids = long_chunks(&computer);
    let archive = computer.open().unwrap();
    // With it comes the key.
    let (kind, id) = ids[0];
    archive.load(kind, &ids[7].1).unwrap();
    fault.resume();
    store.reset();
    std::thread::scope(|scope| {
        let loader = scope.spawn(|| archive.load(kind, &id));
        std::thread::sleep(std::time::Duration::from_millis(100));
        archive.prefetch(&ids[..2]);
        assert!(loader.join().unwrap().is_ok());
    });
    archive.load(kind, &ids[1].1).unwrap();
    assert_eq!(store.snapshot().requests(), 2);
}

/// What a drive reads is kept, encrypted, for when it is read again; what a command restores is wanted once.
#[test]
fn a_command_that_reads_keeps_no_contents_on_disk() {
    let store = Arc::new(Record::new(memory()));
    let computer = Computer::new(store.clone());
    let ids = long_chunks(&computer);
    let kept = |access| {
        let archive = computer.open_remote(access);
        let (_, before) = archive.cached_bytes();
        read_ahead(&archive, &ids, &store);
        archive.cached_bytes().1 - before
    };
    assert_eq!(kept(Access::Read), 0);
    assert!(kept(Access::Write(computer.home.lock().unwrap())) > 8 * 700_000);
}

#[test]
fn a_thread_that_may_not_wait_is_told_so() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    let id = archive.store(ChunkKind::Data, &[7; 5000]).unwrap();
    archive.flush(None).unwrap();
    let found = crate::blocking::without_waiting(|| archive.load(ChunkKind::Data, &id));
    assert!(matches!(found, Err(LoadError::WouldBlock)));
    assert_eq!(archive.load(ChunkKind::Data, &id).unwrap().len(), 5000);
    assert!(crate::blocking::without_waiting(|| archive.load(ChunkKind::Data, &id)).is_ok());
    let unknown = archive
        .keychain()
        .chunk_id(ChunkKind::Data, b"never stored");
    // Another device may have stored it: only who may ask the store knows that it is missing.
    let found = crate::blocking::without_waiting(|| archive.load(ChunkKind::Data, &unknown));
    assert!(matches!(found, Err(LoadError::WouldBlock)));
    let found = archive.load(ChunkKind::Data, &unknown);
    assert!(matches!(found, Err(LoadError::Missing { .. })));
}

#[test]
fn a_damaged_chunk_costs_itself_and_is_no_longer_known() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let id = archive.store(ChunkKind::Data, &[9; 5000]).unwrap();
    archive.flush(None).unwrap();
    assert!(archive.known(&id));
    let pack = archive.locate(&id).unwrap()[0];
    let name = ObjectName::Pack(pack.pack);
    let mut bytes = runtime::handle()
        .block_on(store.get(&name))
        .unwrap()
        .to_vec();
    bytes[pack.offset as usize + 30] ^= 1;
    store.corrupt(&name, bytes);
    assert!(matches!(
        archive.load(ChunkKind::Data, &id),
        Err(LoadError::Damaged { .. })
    ));
    assert!(!archive.known(&id));
    assert_eq!(archive.store(ChunkKind::Data, &[9; 5000]).unwrap(), id);
    archive.flush(None).unwrap();
    assert_eq!(archive.load(ChunkKind::Data, &id).unwrap().len(), 5000);
}

#[test]
fn a_chunk_that_was_found_bad_is_stored_again_after_the_next_start_and_its_new_copy_is_named() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let files = Files::from([("file".to_owned(), vec![9; 5000])]);
    commit(&archive, &files);
    let id = archive.keychain().chunk_id(ChunkKind::Data, &files["file"]);
    let place = archive.locate(&id).unwrap()[0];
    let name = ObjectName::Pack(place.pack);
    let bytes = runtime::handle().block_on(store.get(&name)).unwrap();
    let mut bytes = bytes.to_vec();
    bytes[place.offset as usize + 30] ^= 1;
    store.corrupt(&name, bytes);
    drop(archive);

    let archive = computer.open().unwrap();
    assert!(archive.known(&id), "nobody has looked yet");
    assert!(archive.load(ChunkKind::Data, &id).is_err());
    drop(archive);

    let archive = computer.open().unwrap();
    assert!(!archive.known(&id));
    commit(&archive, &files);
    let places = archive.locate(&id).unwrap();
    assert_eq!((places.len(), places[1]), (2, place), "the bad one is last");
    let refs = archive.head.lock().refs.clone().unwrap().names;
    assert!(refs.contains(&ObjectName::Pack(places[0].pack)) && !refs.contains(&name));
    assert_eq!(archive.load(ChunkKind::Data, &id).unwrap(), [9; 5000][..]);
    assert!(archive.known(&id));
}

#[test]
fn equal_content_is_stored_once() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    archive.store(ChunkKind::Data, &[1; 100_000]).unwrap();
    archive.flush(None).unwrap();
    let stored = archive.packer().queue().stored_bytes;
    archive.store(ChunkKind::Data, &[1; 100_000]).unwrap();
    archive.flush(None).unwrap();
    assert_eq!(archive.packer().queue().stored_bytes, stored);
}

#[test]
fn nothing_but_opaque_bytes_reaches_the_store() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let files = Files::from([(
        "a-very-telling-name".to_owned(),
        b"a very telling content".repeat(50),
    )]);
    commit(&archive, &files);
    for name in store.names() {
        let bytes = runtime::handle().block_on(store.get(&name)).unwrap();
        for secret in [&b"telling"[..], b"laptop"] {
            assert!(
                !bytes.windows(secret.len()).any(|part| part == secret),
                "{name}"
            );
        }
    }
}

#[test]
fn a_store_with_many_faults_loses_nothing() {
    let inner = memory();
    let faulty = Arc::new(Fault::new(inner.clone(), 7, FaultRates::MANY));
    let policy = holdfast_backend::store::RetryPolicy {
        first_delay: std::time::Duration::from_millis(1),
        longest_delay: std::time::Duration::from_millis(5),
        ..Default::default()
    };
    let computer = Computer::new(inner.clone());
    drop(computer.create());
    let store: Arc<dyn ObjectStore> = Arc::new(holdfast_backend::store::Retry::new(faulty, policy));
    let through = Computer {
        _folder: tempfile::tempdir().unwrap(),
        home: computer.home.clone(),
        store,
    };
    let mut last = None;
    for seed in 0..5 {
        let archive = match through.open() {
            Ok(archive) => archive,
            // A stale listing looks like a rollback: refused, nothing is lost.
            Err(ArchiveError::RolledBack { .. } | ArchiveError::NotAnArchive { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        let files = files(30, seed);
        let draft = draft(&archive, &files, CommitKind::Requested, None);
        match archive.store_commit(draft, None) {
            Ok(_) => last = Some(files),
            Err(error) => eprintln!("seed {seed}: {error}"),
        }
        drop(archive);
    }
    let archive = computer.open().unwrap();
    let listed = runtime::handle()
        .block_on(inner.list(Folder::Commits(None)))
        .unwrap();
    assert!(!listed.is_empty());
    if let (Some(files), Some((_, commit))) = (last, archive.head()) {
        assert_eq!(read_back(&archive, &commit), files);
    }
}

/// A store that can be away.
fn away() -> (Arc<Fault<MemoryStore>>, Computer) {
    let rates = FaultRates {
        server_error: 1.0,
        ..FaultRates::NONE
    };
    let store = Arc::new(Fault::new(memory(), 3, rates));
    store.heal();
    (store.clone(), Computer::new(store))
}

#[test]
fn an_archive_opens_while_the_store_is_away_and_catches_up() {
    let (store, computer) = away();
    let (archive, _) = computer.create();
    let stored = files(5, 1);
    commit(&archive, &stored);
    let id = archive
        .keychain()
        .chunk_id(ChunkKind::Data, &stored["file-0"]);
    drop(archive);
    store.resume();
    let archive = computer.open().unwrap();
    assert!(archive.is_offline());
    let (_, head) = archive.head().unwrap();
    let Body::Directory { tree: Some(tree) } = &head.root.body else {
        panic!("a tree")
    };
    // Trees are on this computer's disk, so that folders can be listed.
    assert!(archive.load(ChunkKind::Tree, &tree.id).is_ok());
    // Nothing is relied on without marks.
    assert!(!archive.known(&id));
    assert!(archive.store_commit(empty_draft(&archive), None).is_err());
    store.heal();
    let more = files(6, 2);
    let outcome = commit(&archive, &more);
    assert!(!archive.is_offline());
    assert_eq!(outcome.commit().0.sequence, 2);
    assert_eq!(read_back(&archive, outcome.commit().1), more);
}

#[test]
fn a_tree_that_was_read_beside_its_neighbour_is_there_while_the_store_is_away() {
    let (store, computer) = away();
    let (archive, _) = computer.create();
    let trees = [1, 2].map(|seed| random_bytes(seed, 2000));
    let ids = trees
        .clone()
        .map(|tree| archive.store(ChunkKind::Tree, &tree).unwrap());
    archive.flush(None).unwrap();
    // Without a commit nothing opens while the store is away.
    commit(&archive, &files(1, 1));
    drop(archive);
    for slot in std::fs::read_dir(computer.home.cache_dir()).unwrap() {
        let kept = slot.unwrap().path().join("chunks/trees");
        if kept.exists() {
            std::fs::remove_dir_all(kept).unwrap();
        }
    }
    let archive = computer.open().unwrap();
    // As the mount reads: where it need not wait, and else on another thread.
    for id in &ids {
        let load = || archive.load(ChunkKind::Tree, id);
        match crate::blocking::without_waiting(load) {
            Err(LoadError::WouldBlock) => drop(load().unwrap()),
            found => drop(found.unwrap()),
        }
    }
    drop(archive);
    store.resume();
    let archive = computer.open().unwrap();
    for (id, tree) in ids.iter().zip(&trees) {
        assert_eq!(archive.load(ChunkKind::Tree, id).unwrap(), tree);
    }
}

fn empty_draft(archive: &Archive) -> CommitDraft {
    draft(archive, &Files::new(), CommitKind::Requested, None)
}

#[test]
fn a_commit_that_stood_when_the_process_died_is_no_fork() {
    let (store, computer) = away();
    let (archive, _) = computer.create();
    commit(&archive, &files(5, 1));
    let kept = computer.home.load_state("head").unwrap().unwrap();
    commit(&archive, &files(5, 2));
    drop(archive);
    // The process died before it had written down that the second one stands.
    computer.home.save_state("head", &kept).unwrap();
    store.resume();
    let archive = computer.open().unwrap();
    assert_eq!(archive.head().unwrap().0.sequence, 1);
    store.heal();
    let outcome = commit(&archive, &files(5, 3));
    assert_eq!(outcome.commit().0.sequence, 3);
}

#[test]
fn a_local_index_that_is_damaged_or_incomplete_is_built_anew() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    let stored = files(20, 1);
    commit(&archive, &stored);
    drop(archive);
    let slot = computer.home.cache_dir().join("0");
    for damage in ["packs", "index"] {
        let path = slot.join(damage);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::write(path, b"rubbish").unwrap();
        }
        let archive = computer.open().unwrap();
        let (_, head) = archive.head().unwrap();
        assert_eq!(read_back(&archive, &head), stored, "{damage}");
        assert!(
            archive.known(
                &archive
                    .keychain()
                    .chunk_id(ChunkKind::Data, &stored["file-3"])
            )
        );
    }
}

/// Another device compacts: what it stored meanwhile is found by whoever had the archive open before,
/// also when the old packs are gone, and without having read a mark.
#[test]
fn a_chunk_whose_pack_is_gone_is_found_in_the_pack_that_replaces_it() {
    let store = memory();
    let first = Computer::new(store.clone());
    let (archive, code) = first.create();
    let content = files(20, 1);
    commit(&archive, &content);
    let second = Computer::new(store.clone());
    let reader = second.recover(&code, None).unwrap();
    let (_, shown) = reader.load_snapshot("latest").unwrap();

    let old = archive.packs();
    for pack in archive.places.chunks_of(&old).unwrap() {
        for chunk in pack.chunks {
            let plaintext = archive.load(chunk.kind, &chunk.id).unwrap();
            archive
                .store_anew(chunk.kind, chunk.id, &plaintext)
                .unwrap();
        }
    }
    archive.flush(None).unwrap();
    let new: Vec<Digest> = archive
        .packs()
        .into_iter()
        .filter(|pack| !old.contains(pack))
        .collect();
    let body = crate::packer::index_body(&archive.places.chunks_of(&new).unwrap());
    let index = body.to_object(
        archive.keychain.current_epoch(),
        &archive.keychain.current().index,
    );
    let work = async {
        store.put_new(&index).await.unwrap();
        for pack in &old {
            store.delete(&ObjectName::Pack(*pack)).await.unwrap();
        }
    };
    runtime::handle().block_on(work);
    assert_eq!(read_back(&reader, &shown), content);
}
