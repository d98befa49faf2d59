//! Records that somebody with the database in hand has put together, and marks that they have taken back.

use super::*;
use crate::header::SealHeader;
use holdfast_crypto::{RootKey, UnsealKey};

const PATHS: [&str; 4] = ["x/1", "x/2", "y", "z"];

type View = Vec<Option<Vec<u8>>>;

/// What can be read with these shares; `None` if the keystore does not open or refuses one record.
fn view(store: &Arc<MemoryRecords>, shares: &[String]) -> Option<View> {
    let keystore = load(store.clone()).ok()??;
    let keystore = open(keystore, shares, &[0, 1, 2]).ok()?;
    let read = |record: &&str| Some(keystore.read(&path(record)).ok()?.map(|read| read.to_vec()));
    PATHS.iter().map(read).collect()
}

fn mixed(
    paths: &[RecordPath],
    mask: u32,
    old: &MemoryRecords,
    new: &MemoryRecords,
) -> Arc<MemoryRecords> {
    let store = Arc::new(MemoryRecords::new());
    for (bit, record) in paths.iter().enumerate() {
        let from = if mask & (1 << bit) == 0 { new } else { old };
        let change = Change {
            path: record.clone(),
            expected: None,
            put: from.get(record).unwrap(),
        };
        store.apply(&[change]).unwrap();
    }
    store
}

/// A database put together of records of two moments, in each possible way, with a reshare, a changed, a new and a deleted record
/// between them: with neither epoch's shares is anything read but one moment as it was, and the new records never with the old shares.
#[test]
fn no_mixture_of_two_moments_is_read() {
    let (store, keystore, old_shares) = new();
    let mut keystore = open(keystore, &old_shares, &[0, 1, 2]).unwrap();
    for record in ["x/1", "x/2", "y"] {
        keystore.write(&path(record), b"first", None).unwrap();
    }
    let mut snapshot = Vec::new();
    store.snapshot(&mut snapshot).unwrap();
    let old = restored(&snapshot);
    let version = keystore.version(&path("x/1"));
    keystore.write(&path("x/1"), b"second", version).unwrap();
    let version = keystore.version(&path("y")).unwrap();
    keystore.delete(&path("y"), version).unwrap();
    keystore.write(&path("z"), b"second", None).unwrap();
    let new_shares = reshare(&mut keystore, &old_shares, &plan(3, &HOLDERS), &HOLDERS);
    drop(keystore);

    let mut paths = store.scan("", None, 100).unwrap();
    paths.extend(old.scan("", None, 100).unwrap());
    paths.sort();
    paths.dedup();
    paths.retain(|path| old.get(path).unwrap() != store.get(path).unwrap());
    let kept: Vec<RecordPath> = store.scan("", None, 100).unwrap();
    let old_view = view(&old, &old_shares).unwrap();
    let new_view = view(&store, &new_shares).unwrap();
    assert_ne!(old_view, new_view);
    let (mut refused, all) = (0, 1_u32 << paths.len());
    assert!(paths.len() >= 8, "{paths:?}");
    for mask in 0..all {
        let store_mixed = mixed(&paths, mask, &old, &store);
        for path in kept.iter().filter(|path| !paths.contains(path)) {
            let put = store.get(path).unwrap();
            let change = Change {
                path: path.clone(),
                expected: None,
                put,
            };
            store_mixed.apply(&[change]).unwrap();
        }
        match view(&store_mixed, &old_shares) {
            None => refused += 1,
            Some(read) => assert_eq!(read, old_view, "{mask:b} of {paths:?}"),
        }
        match view(&store_mixed, &new_shares) {
            None => refused += 1,
            Some(read) => assert_eq!(read, new_view, "{mask:b} of {paths:?}"),
        }
    }
    // Neither everything nor nothing: a moment and what does not belong to it (the bytes of a deleted record) is that moment.
    assert!(refused > all && refused < 2 * all, "{refused} of {all}");
}

/// The header's mark stands in the clear: whoever takes it back gains nothing.
#[test]
fn a_keystore_with_records_is_not_initialised_again_when_its_mark_is_taken_back() {
    let (store, keystore, shares) = new();
    let unopened = store.get(&path("seal/header")).unwrap();
    let mut keystore = open(keystore, &shares, &[0, 1, 2]).unwrap();
    keystore.write(&path("x"), b"kept", None).unwrap();
    drop(keystore);
    let there = store.get(&path("seal/header")).unwrap().unwrap().version;
    let back = Change {
        path: path("seal/header"),
        expected: Some(there),
        put: unopened,
    };
    store.apply(&[back]).unwrap();
    let keystore = load_sealed(&store);
    assert!(!keystore.header().opened);
    let before = Some(&keystore);
    for before in [before, None] {
        let refused = initialise(store.clone(), before, &plan(2, &["a", "b"]), 0);
        assert!(matches!(refused, Err(KeystoreError::WasOpen)));
    }
    let opened = open(keystore, &shares, &[0, 1, 2]).unwrap();
    let read = opened.read(&path("x")).unwrap().unwrap();
    assert_eq!(read.as_slice(), b"kept");
}

/// A database may claim any version: nothing is counted up past the last one.
#[test]
fn the_highest_version_is_one_like_any_other() {
    let (store, _, shares) = new();
    for record in ["seal/header", "seal/keyring", "seal/manifest/root"] {
        let stored = store.get(&path(record)).unwrap().unwrap();
        let change = Change {
            path: path(record),
            expected: Some(stored.version),
            put: Some(StoredRecord {
                version: u64::MAX,
                ..stored
            }),
        };
        store.apply(&[change]).unwrap();
    }
    assert!(open(load_sealed(&store), &shares, &[0, 1, 2]).is_err());
    let keystore = load_sealed(&store);
    let again = initialise(store.clone(), Some(&keystore), &plan(3, &HOLDERS), 0).unwrap();
    let shares = texts(again.1);
    let mut keystore = open(load_sealed(&store), &shares, &[0, 1, 2]).unwrap();
    keystore.rotate_data_key(0).unwrap();
    keystore.write(&path("x"), b"1", None).unwrap();
    reshare(&mut keystore, &shares, &plan(3, &HOLDERS), &HOLDERS);
}

/// The threshold on the paper is not part of the commitment, so it is compared by itself.
#[test]
fn a_share_that_names_another_threshold_is_refused() {
    let (_, keystore, _) = new();
    let cluster = keystore.header().cluster;
    let shares = UnsealKey::generate().split(1, &cluster, 2, 5).unwrap();
    let refusal = keystore
        .verify_share("a", &shares[0].to_printed())
        .unwrap_err();
    assert_eq!(refusal.reason, RefusalReason::Wrong);
    assert_eq!(refusal.share, Some(1));
}

fn header(plan: &InitPlan, epoch: u32, opened: bool) -> SealHeader {
    let shares = UnsealKey::generate()
        .split(epoch, &[7; 16], plan.threshold(), plan.shares())
        .unwrap();
    let mut header = plan.header([7; 16], epoch, &shares, vec![9; 104]);
    header.opened = opened;
    header
}

proptest! {
    /// A header is read as it was written; bytes that say the same in another way, or what no plan gives, are none.
    #[test]
    fn headers_are_one_to_one(
        names in prop::collection::vec("[a-z\" \\\\é]{1,16}", 2..=16),
        threshold in 2_u8..=16,
        epoch in 1..u32::MAX,
        opened: bool,
        at: prop::sample::Index,
        byte: u8,
    ) {
        let threshold = threshold.min(u8::try_from(names.len()).unwrap());
        let header = header(&InitPlan::new(threshold, names).unwrap(), epoch, opened);
        let root = RootKey::generate();
        let stored = header.to_stored(&root);
        prop_assert!(SealHeader::is_authentic(&stored, &root));
        prop_assert!(!SealHeader::is_authentic(&stored, &RootKey::generate()));
        prop_assert_eq!(SealHeader::from_stored(&stored), Some(header));
        let mut edited = stored.clone();
        *at.get_mut(&mut edited) = byte;
        if edited != stored {
            prop_assert!(!SealHeader::is_authentic(&edited, &root));
            if let Some(read) = SealHeader::from_stored(&edited) {
                prop_assert_eq!(&read.to_stored(&root)[32..], &edited[32..]);
            }
        }
    }
}

#[test]
fn a_header_is_written_in_one_way_only() {
    let root = RootKey::generate();
    let header = header(&plan(2, &["a", "b", "c"]), 1, false);
    let stored = header.to_stored(&root);
    let text = std::str::from_utf8(&stored[32..]).unwrap();
    let none = [
        text.replacen('{', "{ ", 1),
        text.replace("\"opened\":false", "\"opened\":false,\"opened\":false"),
        text.replace("\"opened\":false", "\"opened\":false,\"more\":1"),
        text.replace("\"threshold\":2", "\"threshold\":1"),
        text.replace("\"threshold\":2", "\"threshold\":4"),
        text.replace("\"epoch\":1", "\"epoch\":0"),
        text.replace("0909", "090A"),
        text.replace("0909", "09"),
        text.replace("\"a\"", "\"\""),
        text.replace("\"a\"", "\"\\u0061\""),
        text.replace("\"a\"", "\"\\u001b[2J\""),
        text.replace("\"a\"", &format!("\"{}\"", "a".repeat(65))),
        text.to_uppercase(),
    ];
    for changed in none {
        assert_ne!(changed, text);
        let bytes = [&stored[..32], changed.as_bytes()].concat();
        assert_eq!(SealHeader::from_stored(&bytes), None, "{changed}");
    }
}
