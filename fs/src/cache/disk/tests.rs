use super::*;

fn key(number: u8) -> [u8; 32] {
    let mut key = [number; 32];
    key[0] = number % 3;
    key
}

/// What an entry of 3,000 bytes takes.
const ENTRY_BYTES: u64 = 3000 + HEADER_BYTES as u64;

fn only_segment(folder: &Path) -> PathBuf {
    let mut segments = find_segments(folder).unwrap();
    assert_eq!(segments.len(), 1);
    segments.remove(0).1
}

#[test]
fn entries_survive_reopening_and_the_limit_holds() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 10 * ENTRY_BYTES;
    let cache = DiskCache::open(folder.path(), limit).unwrap();
    for number in 0..20 {
        cache.put(CacheKind::Chunk, &key(number), &[number; 3000]);
        assert!(cache.used_bytes() <= limit);
    }
    assert_eq!(cache.get(CacheKind::Chunk, &key(9)), None);
    assert_eq!(cache.get(CacheKind::Chunk, &key(19)), Some(vec![19; 3000]));
    assert_eq!(cache.get(CacheKind::Block, &key(19)), None);
    // The oldest is used now, so it stays.
    assert!(cache.get(CacheKind::Chunk, &key(11)).is_some());
    cache.put(CacheKind::Block, &key(50), b"");
    assert!(cache.contains(CacheKind::Chunk, &key(11)));
    assert!(!cache.contains(CacheKind::Chunk, &key(10)));
    let used = cache.used_bytes();
    drop(cache);
    // What an earlier version left.
    fs::write(folder.path().join("tmp-7"), b"half").unwrap();
    fs::create_dir(folder.path().join("a7")).unwrap();
    fs::write(folder.path().join("a7/ca7a7"), b"an entry").unwrap();
    let cache = DiskCache::open(folder.path(), limit).unwrap();
    assert_eq!(cache.used_bytes(), used);
    assert_eq!(cache.get(CacheKind::Block, &key(50)), Some(Vec::new()));
    assert_eq!(cache.get(CacheKind::Chunk, &key(15)), Some(vec![15; 3000]));
    assert!(!folder.path().join("tmp-7").exists());
    assert!(!folder.path().join("a7").exists());
    cache.remove(CacheKind::Chunk, &key(15));
    assert_eq!(cache.get(CacheKind::Chunk, &key(15)), None);
    drop(cache);
    let cache = DiskCache::open(folder.path(), 2 * ENTRY_BYTES).unwrap();
    assert!(cache.used_bytes() <= 2 * ENTRY_BYTES);
    assert!(find_segments(folder.path()).unwrap().len() <= 2);
}

#[test]
fn many_entries_share_a_segment_and_the_newest_of_a_key_counts() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 30).unwrap();
    for round in 0..3 {
        for number in 0..100 {
            cache.put(CacheKind::Chunk, &key(number), &[round, number]);
        }
    }
    drop(cache);
    only_segment(folder.path());
    let cache = DiskCache::open(folder.path(), 1 << 30).unwrap();
    for number in 0..100 {
        assert_eq!(
            cache.get(CacheKind::Chunk, &key(number)),
            Some(vec![2, number])
        );
    }
}

#[test]
fn damaged_entries_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let write = || {
        let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
        cache.put(CacheKind::Block, &key(1), b"some bytes");
        cache
    };
    drop(write());
    let path = only_segment(folder.path());
    let good = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        // While it is open.
        let cache = write();
        fs::write(&path, &bad).unwrap();
        assert_eq!(cache.get(CacheKind::Block, &key(1)), None, "byte {at}");
        assert!(!cache.contains(CacheKind::Block, &key(1)));
        drop(cache);
        // And when it is opened.
        fs::write(&path, &bad).unwrap();
        let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(cache.get(CacheKind::Block, &key(1)), None, "byte {at}");
        cache.put(CacheKind::Block, &key(1), b"again");
        assert_eq!(cache.get(CacheKind::Block, &key(1)).unwrap(), b"again");
        drop(cache);
        fs::remove_file(&path).unwrap();
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(cache.get(CacheKind::Block, &key(1)), None);
        assert_eq!(cache.used_bytes(), 0);
    }
}

#[test]
fn a_write_that_was_cut_off_costs_the_last_entry() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    for number in 0..10 {
        cache.put(CacheKind::Chunk, &key(number), &[number; 100]);
    }
    drop(cache);
    let path = only_segment(folder.path());
    let length = fs::metadata(&path).unwrap().len();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(length - 1)
        .unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    cache.put(CacheKind::Chunk, &key(77), b"behind it");
    drop(cache);
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    assert_eq!(cache.get(CacheKind::Chunk, &key(9)), None);
    assert_eq!(cache.get(CacheKind::Chunk, &key(8)), Some(vec![8; 100]));
    assert_eq!(
        cache.get(CacheKind::Chunk, &key(77)).as_deref(),
        Some(&b"behind it"[..])
    );
}
