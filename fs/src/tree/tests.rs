use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::chunks::MemoryChunks;
use crate::format::entry::{Attributes, Body, FileKind, Inode, Target, Time};

type Key = (u64, Vec<u8>);
type Model = BTreeMap<Key, Entry>;

fn hash(name: &[u8]) -> u64 {
    let hash = blake3::hash(name);
    u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap()) >> 1
}

fn entry(name: &[u8], size: u64) -> Entry {
    let attributes = Attributes {
        kind: FileKind::Regular,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        owner: Arc::from(*b"owner"),
        group: Arc::from(*b"group"),
        mtime: Time {
            seconds: size as i64,
            nanos: 7,
        },
        ctime: Time::default(),
        atime: Time::default(),
        rdev: 0,
    };
    let body = Body::Regular {
        size,
        allocated: size,
        list: Default::default(),
    };
    let inode = Inode {
        file: size,
        attributes,
        xattrs: Default::default(),
        fingerprint: 0,
        body,
    };
    Entry {
        name: name.to_vec(),
        target: Target::Inline(inode),
    }
}

fn named(number: u64) -> Vec<u8> {
    format!("file {number}").into_bytes()
}

/// A folder of files `numbers`, with hashes cut down by `hash`.
fn changes(numbers: impl IntoIterator<Item = u64>, hash: fn(&[u8]) -> u64) -> Changes<Entry> {
    let entries = numbers.into_iter().map(|number| {
        let name = named(number);
        ((hash(&name), name.clone()), Some(entry(&name, number)))
    });
    entries.collect()
}

fn put(chunks: &MemoryChunks, tree: Option<TreeRef>, changes: Changes<Entry>) -> Option<TreeRef> {
    apply(chunks, chunks, tree.as_ref(), changes, &mut |_| {}).unwrap()
}

fn all(chunks: &MemoryChunks, tree: Option<TreeRef>) -> Vec<(u64, Entry)> {
    let Some(tree) = tree else { return Vec::new() };
    scan(chunks, &tree, 0).map(|item| item.unwrap()).collect()
}

fn ids(chunks: &MemoryChunks, tree: Option<TreeRef>) -> BTreeSet<ChunkId> {
    let mut ids = BTreeSet::new();
    if let Some(tree) = tree {
        nodes::<HashedEntry>(chunks, &tree, &mut |id, _| {
            ids.insert(*id);
        })
        .unwrap();
    }
    ids
}

/// 40 hashes for everybody: groups of equal ones.
fn crowded(name: &[u8]) -> u64 {
    hash(name) % 40 * 0x0101_0101_0101
}

/// Boundaries everywhere: every second hash ends a node on two levels.
fn choppy(name: &[u8]) -> u64 {
    let hash = hash(name);
    if hash & 1 << 40 == 0 {
        hash & !0x3fff
    } else {
        hash
    }
}

fn check_against_model(batches: Vec<Vec<(u64, bool)>>, hash: fn(&[u8]) -> u64) {
    let chunks = MemoryChunks::new();
    let mut model = Model::new();
    let mut tree = None;
    for batch in batches {
        let changes: Changes<Entry> = batch
            .into_iter()
            .map(|(number, keep)| {
                let name = named(number % 1500);
                (
                    (hash(&name), name.clone()),
                    keep.then(|| entry(&name, number % 1_000_000)),
                )
            })
            .collect();
        for (key, change) in &changes {
            match change {
                Some(entry) => model.insert(key.clone(), entry.clone()),
                None => model.remove(key),
            };
        }
        let before = ids(&chunks, tree);
        let mut fallen = BTreeSet::new();
        let after = apply(&chunks, &chunks, tree.as_ref(), changes, &mut |id| {
            fallen.insert(*id);
        });
        tree = after.unwrap();
        let expected: Vec<_> = model
            .iter()
            .map(|((hash, _), entry)| (*hash, entry.clone()))
            .collect();
        assert_eq!(all(&chunks, tree), expected);
        let after = ids(&chunks, tree);
        assert!(
            before
                .difference(&after)
                .all(|id| fallen.contains(id) || tree.is_none_or(|tree| tree.level == 0))
        );
    }
    // History does not matter: the same entries at once give the same root.
    let at_once = model
        .iter()
        .map(|(key, entry)| (key.clone(), Some(entry.clone())))
        .collect();
    assert_eq!(put(&chunks, None, at_once), tree);
    if let Some(tree) = tree {
        let totals = tree.totals;
        assert_eq!(totals.entries, model.len() as u64);
        assert_eq!(totals.files, model.len() as u64);
        let bytes: u64 = model.values().map(|entry| entry.totals().bytes).sum();
        assert_eq!(totals.bytes, bytes);
        for ((hash, name), entry) in model.iter().take(50) {
            assert_eq!(
                lookup(&chunks, &tree, *hash, name).unwrap().as_ref(),
                Some(entry)
            );
            assert_eq!(
                lookup(&chunks, &tree, *hash, b"no such name").unwrap(),
                None
            );
        }
    }
}

fn batches() -> impl Strategy<Value = Vec<Vec<(u64, bool)>>> {
    let change = (any::<u64>(), prop::bool::weighted(0.6));
    prop::collection::vec(prop::collection::vec(change, 0..500), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_tree_is_a_map_whatever_its_history(batches in batches()) {
        check_against_model(batches, hash);
    }

    #[test]
    fn names_of_equal_hash_stay_together(batches in batches()) {
        check_against_model(batches, crowded);
    }

    #[test]
    fn many_boundaries_change_nothing(batches in batches()) {
        check_against_model(batches, choppy);
    }
}

#[test]
fn a_scan_from_a_hash_gives_the_whole_group() {
    let chunks = MemoryChunks::new();
    let tree = put(&chunks, None, changes(0..3000, crowded)).unwrap();
    let everything = all(&chunks, Some(tree));
    for from in [0, crowded(b"file 7"), crowded(b"file 7") + 1, u64::MAX] {
        let expected: Vec<_> = everything
            .iter()
            .filter(|(hash, _)| *hash >= from)
            .cloned()
            .collect();
        let found: Vec<_> = scan(&chunks, &tree, from)
            .map(|item| item.unwrap())
            .collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn one_changed_entry_of_200_000_costs_one_node_per_level() {
    let chunks = MemoryChunks::new();
    let started = std::time::Instant::now();
    let tree = put(&chunks, None, changes(0..200_000, hash)).unwrap();
    assert!((2..=3).contains(&tree.level), "{}", tree.level);
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());

    chunks.take_counts();
    let name = named(77_777);
    let change = BTreeMap::from([((hash(&name), name.clone()), Some(entry(&name, 1)))]);
    let changed = put(&chunks, Some(tree), change).unwrap();
    let counts = chunks.take_counts();
    assert_ne!(changed.id, tree.id);
    assert!(counts.stores <= u64::from(tree.level) + 1, "{counts:?}");
    assert!(
        counts.loads <= 4 * (u64::from(tree.level) + 1),
        "{counts:?}"
    );

    chunks.take_counts();
    lookup(&chunks, &tree, hash(&name), &name).unwrap().unwrap();
    assert_eq!(chunks.take_counts().loads, u64::from(tree.level) + 1);
    assert!(scan(&chunks, &tree, hash(&name)).next().unwrap().is_ok());
    assert_eq!(chunks.take_counts().loads, u64::from(tree.level) + 1);
    assert_eq!(scan(&chunks, &tree, 0).count(), 200_000);
}

#[test]
fn entries_with_large_attributes_do_not_make_large_nodes() {
    let chunks = MemoryChunks::new();
    let mut all = changes(0..400, hash);
    for change in all.values_mut().flatten() {
        if let Target::Inline(inode) = &mut change.target {
            inode.xattrs = Arc::new(BTreeMap::from([(b"user.large".to_vec(), vec![7; 60_000])]));
        }
    }
    let tree = put(&chunks, None, all.clone()).unwrap();
    nodes::<HashedEntry>(&chunks, &tree, &mut |id, _| {
        assert!(chunks.load(ChunkKind::Tree, id).unwrap().len() < NODE_BYTES_MAX + 70_000);
    })
    .unwrap();
    let (even, odd): (Changes<Entry>, Changes<Entry>) =
        all.into_iter().partition(|((hash, _), _)| hash % 2 == 0);
    let half = put(&chunks, None, odd);
    assert_eq!(put(&chunks, half, even), Some(tree));
}

#[test]
fn damage_is_told_and_a_scan_can_be_asked_again() {
    let chunks = MemoryChunks::new();
    let tree = put(&chunks, None, changes(0..3000, hash)).unwrap();
    let before = chunks.load(ChunkKind::Tree, &tree.id).unwrap();
    chunks.lose(ChunkKind::Tree, &tree.id);
    let mut entries = scan(&chunks, &tree, 0);
    assert!(matches!(
        entries.next(),
        Some(Err(LoadError::Missing { .. }))
    ));
    chunks.replace(
        ChunkKind::Tree,
        &tree.id,
        bytes::Bytes::from_static(b"\x01\x00nonsense"),
    );
    assert!(matches!(
        entries.next(),
        Some(Err(LoadError::Damaged { .. }))
    ));
    chunks.replace(ChunkKind::Tree, &tree.id, before);
    assert_eq!(entries.filter(Result::is_ok).count(), 3000);
}

#[test]
fn a_link_table_is_keyed_by_file_number() {
    let chunks = MemoryChunks::new();
    let linked = |file: u64| {
        let Target::Inline(mut inode) = entry(b"x", file).target else {
            unreachable!()
        };
        inode.file = file;
        Some(LinkedInode { inode, links: 2 })
    };
    let changes = (1..=5000).map(|file| (file, linked(file))).collect();
    let links = apply_links(&chunks, &chunks, None, changes, &mut |_| {})
        .unwrap()
        .unwrap();
    assert!(links.level >= 1);
    assert_eq!(lookup_link(&chunks, &links, 4711).unwrap(), linked(4711));
    assert_eq!(lookup_link(&chunks, &links, 5001).unwrap(), None);
    assert_eq!(scan_links(&chunks, &links, 4001).count(), 1000);
    assert_eq!(links.totals.bytes, 5000 * 5001 / 2);
    let gone = (1..=5000).map(|file| (file, None)).collect();
    assert_eq!(
        apply_links(&chunks, &chunks, Some(&links), gone, &mut |_| {}).unwrap(),
        None
    );
}

/// A root that ends at a boundary stays as it is when something is added behind it: it must not be
/// forgotten for that.
#[test]
fn what_is_added_behind_a_root_that_ends_leaves_it_in_the_tree() {
    let below: [&[u64]; 4] = [
        &[1 << 7],
        &[5, 1 << 7],
        &[1 << 7, 1 << 14],
        &[1 << 7, 1 << 14, 1 << 21],
    ];
    for before in below {
        let chunks = MemoryChunks::new();
        let row = |hash: &u64| {
            let name = named(*hash);
            ((*hash, name.clone()), Some(entry(&name, *hash)))
        };
        let tree = put(&chunks, None, before.iter().map(row).collect());
        let behind = before.last().unwrap() + 1;
        for more in [vec![behind], vec![behind, behind + 1]] {
            let tree = put(&chunks, tree, more.iter().map(row).collect());
            let expected: Vec<u64> = before.iter().chain(&more).copied().collect();
            let found: Vec<u64> = all(&chunks, tree).iter().map(|(hash, _)| *hash).collect();
            assert_eq!(found, expected);
            // The same as if all of it had come at once.
            assert_eq!(tree, put(&chunks, None, expected.iter().map(row).collect()));
        }
    }
}
