use super::*;

fn key(number: u8) -> [u8; 32] {
    let mut key = [number; 32];
    key[0] = number % 3;
    key
}

#[test]
fn entries_survive_reopening_and_the_limit_holds() {
    let folder = tempfile::tempdir().unwrap();
    let limit = 10 * BLOCK_BYTES;
    let cache = DiskCache::open(folder.path(), limit).unwrap();
    for number in 0..20 {
        cache.put(CacheKind::Chunk, &key(number), &[number; 3000]);
        assert!(cache.used_bytes() <= limit);
    }
    assert_eq!(cache.get(CacheKind::Chunk, &key(0)), None);
    assert_eq!(cache.get(CacheKind::Chunk, &key(19)), Some(vec![19; 3000]));
    assert_eq!(cache.get(CacheKind::Block, &key(19)), None);
    // The oldest is used now, so it stays.
    assert!(cache.get(CacheKind::Chunk, &key(10)).is_some());
    cache.put(CacheKind::Block, &key(50), b"");
    assert!(cache.contains(CacheKind::Chunk, &key(10)));
    assert!(!cache.contains(CacheKind::Chunk, &key(11)));
    let used = cache.used_bytes();
    drop(cache);
    fs::write(folder.path().join("tmp-7"), b"half").unwrap();
    let cache = DiskCache::open(folder.path(), limit).unwrap();
    assert_eq!(cache.used_bytes(), used);
    assert_eq!(cache.get(CacheKind::Block, &key(50)), Some(Vec::new()));
    assert_eq!(cache.get(CacheKind::Chunk, &key(15)), Some(vec![15; 3000]));
    assert!(!folder.path().join("tmp-7").exists());
    cache.remove(CacheKind::Chunk, &key(15));
    assert_eq!(cache.get(CacheKind::Chunk, &key(15)), None);
    drop(cache);
    let cache = DiskCache::open(folder.path(), 2 * BLOCK_BYTES).unwrap();
    assert!(cache.used_bytes() <= 2 * BLOCK_BYTES);
}

#[test]
fn damaged_entries_are_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let cache = DiskCache::open(folder.path(), 1 << 20).unwrap();
    cache.put(CacheKind::Block, &key(1), b"some bytes");
    let path = cache.path(&(CacheKind::Block, key(1)));
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 4;
        cache.put(CacheKind::Block, &key(1), b"some bytes");
        fs::write(&path, bad).unwrap();
        assert_eq!(cache.get(CacheKind::Block, &key(1)), None, "byte {at}");
        assert!(!path.exists());
    }
    for length in 0..good.len() {
        cache.put(CacheKind::Block, &key(1), b"some bytes");
        fs::write(&path, &good[..length]).unwrap();
        assert_eq!(cache.get(CacheKind::Block, &key(1)), None);
    }
    assert_eq!(cache.used_bytes(), 0);
    cache.put(CacheKind::Block, &key(1), b"again");
    assert_eq!(cache.get(CacheKind::Block, &key(1)).unwrap(), b"again");
}
