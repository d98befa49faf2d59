use std::collections::{BTreeSet, HashSet};
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

fn digest(number: u64) -> Digest {
    Digest::of(&number.to_le_bytes())
}

fn random_entry(random: &mut SmallRng, pack: u64) -> IndexEntry {
    IndexEntry {
        id: ChunkId {
            epoch: random.random_range(0..2),
            hash: random.random(),
        },
        location: Location {
            pack: digest(pack),
            offset: random.random(),
            stored: random.random(),
            raw: random.random(),
            key: digest((1 << 40) + pack / 10),
            kind: ChunkKind::Data,
        },
    }
}

fn pack_of(random: &mut SmallRng, pack: u64, count: usize) -> Vec<IndexEntry> {
    (0..count).map(|_| random_entry(random, pack)).collect()
}

fn assert_knows(index: &Index, entries: &[IndexEntry]) {
    for entry in entries {
        assert!(index.locate(&entry.id).unwrap().contains(&entry.location));
    }
}

#[test]
fn what_is_added_is_found_after_merges_and_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = SmallRng::seed_from_u64(1);
    let index = Index::open(folder.path()).unwrap();
    let mut all = Vec::new();
    for pack in 0..60 {
        let count = random.random_range(1..400);
        let entries = pack_of(&mut random, pack, count);
        index
            .add(IndexSource::Local(digest(pack)), entries.clone())
            .unwrap();
        all.extend(entries);
        assert!(index.view().runs.len() <= MAX_RUNS);
    }
    assert_knows(&index, &all);
    drop(index);
    let index = Index::open(folder.path()).unwrap();
    assert_knows(&index, &all);
    assert_eq!(index.len(), all.len() as u64);
    assert_eq!(index.packs(), (0..60).map(digest).collect());
    assert_eq!(index.local_packs().len(), 60);
    for _ in 0..1000 {
        let unknown = random_entry(&mut random, 0).id;
        assert!(index.locate(&unknown).unwrap().is_empty());
    }
}

#[test]
fn all_copies_of_a_chunk_are_given_and_each_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = SmallRng::seed_from_u64(2);
    let index = Index::open(folder.path()).unwrap();
    let one = random_entry(&mut random, 1);
    // More copies than a block holds, between others.
    let copies: Vec<IndexEntry> = (0..200)
        .map(|pack| IndexEntry {
            id: one.id,
            location: Location {
                pack: digest(pack),
                ..one.location
            },
        })
        .collect();
    let mut entries = pack_of(&mut random, 500, 3000);
    entries.extend(&copies);
    index
        .add(IndexSource::Object(digest(1)), entries.clone())
        .unwrap();
    index
        .add(IndexSource::Object(digest(2)), copies.clone())
        .unwrap();
    let found = index.locate(&one.id).unwrap();
    let expected: BTreeSet<Location> = copies.iter().map(|copy| copy.location).collect();
    assert_eq!(found.len(), 200);
    assert!(found.into_iter().eq(expected));
    assert_knows(&index, &entries);
    // Another epoch is another chunk.
    let other = ChunkId { epoch: 7, ..one.id };
    assert!(index.locate(&other).unwrap().is_empty());
    for n in 0..20 {
        index
            .add(IndexSource::Object(digest(3 + n)), copies.clone())
            .unwrap();
    }
    assert_eq!(index.locate(&one.id).unwrap().len(), 200);
    assert_eq!(index.objects().len(), 22);
}

#[test]
fn dropped_packs_are_gone_and_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = SmallRng::seed_from_u64(3);
    let index = Index::open(folder.path()).unwrap();
    let packs: Vec<_> = (0..30).map(|pack| pack_of(&mut random, pack, 50)).collect();
    for (pack, entries) in packs.iter().enumerate() {
        index
            .add(IndexSource::Local(digest(pack as u64)), entries.clone())
            .unwrap();
    }
    let gone: HashSet<Digest> = [digest(3), digest(29)].into();
    let mut of_gone = Vec::new();
    index
        .chunks_of_packs(&gone, |entry| of_gone.push(entry))
        .unwrap();
    assert_eq!(of_gone.len(), 100);
    index.drop_packs(&gone).unwrap();
    for entry in &of_gone {
        assert!(index.locate(&entry.id).unwrap().is_empty());
    }
    assert_knows(&index, &packs[4]);
    assert_eq!(index.packs().len(), 28);
    let covered: BTreeSet<Digest> = (0..10).map(digest).collect();
    index.cover(digest(77), &covered).unwrap();
    let index = Index::open(folder.path()).unwrap();
    assert_eq!(index.local_packs().len(), 30 - 10 - 1);
    assert!(index.objects().contains(&digest(77)));
    index.forget_objects(&[digest(77)].into()).unwrap();
    assert!(index.objects().is_empty());
    let all = (0..30).map(digest).collect();
    index.drop_packs(&all).unwrap();
    assert!(index.is_empty());
}

/// One bit flipped anywhere: an error that asks for a rebuild, or no difference; never a wrong
/// place, never a panic.
#[test]
fn damage_is_found_and_never_believed() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = SmallRng::seed_from_u64(4);
    let index = Index::open(folder.path()).unwrap();
    let entries = pack_of(&mut random, 1, 100);
    index
        .add(IndexSource::Local(digest(1)), entries.clone())
        .unwrap();
    drop(index);
    for name in ["0000000000.run", "manifest"] {
        let path = folder.path().join(name);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << random.random_range(0..8);
            fs::write(&path, &bad).unwrap();
            assert_never_wrong(folder.path(), &entries);
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert_never_wrong(folder.path(), &entries[..3]);
        }
        fs::write(&path, &good).unwrap();
        // A bad manifest may not name the run, which was then cleared away.
        assert_knows(&Index::open(folder.path()).unwrap(), &entries);
    }
    fs::remove_file(folder.path().join("0000000000.run")).unwrap();
    assert!(matches!(
        Index::open(folder.path()),
        Err(IndexError::Damaged { .. })
    ));
    let index = Index::create_empty(folder.path()).unwrap();
    assert!(index.is_empty() && index.objects().is_empty());
}

fn assert_never_wrong(folder: &Path, entries: &[IndexEntry]) {
    let index = match Index::open(folder) {
        Ok(index) => index,
        Err(IndexError::Damaged { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    for entry in entries {
        match index.locate(&entry.id) {
            Ok(found) => assert!(found.iter().all(|found| *found == entry.location)),
            Err(error) => assert!(matches!(error, IndexError::Damaged { .. })),
        }
    }
}

#[test]
fn a_crash_leaves_the_old_state_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = SmallRng::seed_from_u64(5);
    let index = Index::open(folder.path()).unwrap();
    let entries = pack_of(&mut random, 1, 10);
    index
        .add(IndexSource::Local(digest(1)), entries.clone())
        .unwrap();
    // Between 1 and 2: a finished run that the manifest does not name, and unfinished files.
    fs::copy(
        folder.path().join("0000000000.run"),
        folder.path().join("0000000001.run"),
    )
    .unwrap();
    fs::write(folder.path().join("0000000002.tmp"), b"half").unwrap();
    fs::write(folder.path().join("manifest.tmp"), b"half").unwrap();
    let index = Index::open(folder.path()).unwrap();
    assert_knows(&index, &entries);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_million_entries_are_found_in_microseconds() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = SmallRng::seed_from_u64(6);
    let index = Index::open(folder.path()).unwrap();
    let mut some = Vec::new();
    let start = Instant::now();
    for object in 0..20 {
        let mut entries = Vec::new();
        for pack in 0..100 {
            entries.extend(pack_of(&mut random, object * 100 + pack, 500));
        }
        some.extend(entries.iter().step_by(1000).copied());
        index
            .add(IndexSource::Object(digest(object)), entries)
            .unwrap();
    }
    println!("1,000,000 entries added in {:?}", start.elapsed());
    assert_eq!(index.len(), 1_000_000);
    let start = Instant::now();
    assert_knows(&index, &some);
    println!("known: {:?} each", start.elapsed() / some.len() as u32);
    let unknown: Vec<_> = (0..10_000)
        .map(|_| random_entry(&mut random, 0).id)
        .collect();
    let start = Instant::now();
    for id in &unknown {
        assert!(index.locate(id).unwrap().is_empty());
    }
    println!("unknown: {:?} each", start.elapsed() / unknown.len() as u32);
}
