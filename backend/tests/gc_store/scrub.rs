use std::collections::{BTreeMap, BTreeSet};

use holdfast_backend::gc::{forget, pin};
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::marks::{Moved, Text};
use holdfast_backend::object::{Object, TextPlacement};
use holdfast_backend::scrub::{Fault, Options, Progress, ScrubReport, scrub};
use holdfast_backend::store::ObjectStore;

use super::archive::{A, B, BEGIN, DAY, GRACE, back_up, gc, index, pack, put, rules};
use super::timed::TimedStore;

async fn scrubbed(store: &TimedStore) -> ScrubReport {
    scrub(store, &rules(store), Options::default(), |_| {})
        .await
        .expect("listed")
}

/// An archive with an object in every folder.
async fn every_kind() -> TimedStore {
    let store = TimedStore::new(BEGIN);
    let needed = [
        put(&store, &index()).await,
        put(&store, &Object::key(1, b"wrapped")).await,
    ];
    put(&store, &Object::keyring(1, 1, b"wrapped secrets")).await;
    let first = back_up(&store, A, 1, &needed).await;
    let second = back_up(&store, A, 2, &needed).await;
    let other = back_up(&store, B, 1, &needed).await;
    forget(&store, A, BEGIN, BTreeSet::from([first.commit]))
        .await
        .expect("stored");
    pin(&store, B, BEGIN, BTreeSet::from([other.commit]))
        .await
        .expect("stored");
    let moves = BTreeMap::from([(second.pack, BTreeSet::from([put(&store, &pack()).await]))]);
    let moved = Moved {
        device: A,
        n: 1,
        time: BEGIN,
        seen: BTreeSet::from([second.refs]),
        moves,
    };
    put(&store, &moved.to_object()).await;
    store.wait(2 * DAY);
    gc(&store).await;
    store.wait(GRACE);
    put(&store, &pack()).await;
    gc(&store).await;
    store
}

#[tokio::test]
async fn a_sound_archive_is_clean() {
    let store = every_kind().await;
    let mut last = Progress::default();
    let report = scrub(&store, &rules(&store), Options { at_once: 8 }, |progress| {
        last = progress
    })
    .await
    .expect("listed");
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.unreferenced.len(), 1);
    assert_eq!(last, report.checked);
    assert_eq!(
        (last.objects, last.bytes),
        (last.total_objects, last.total_bytes)
    );
    assert_eq!(last.objects as usize, store.memory.names().len());
}

/// Every bit of every kind of object.
#[tokio::test]
async fn one_flipped_bit_is_found_in_every_object() {
    let store = every_kind().await;
    for folder in Folder::ALL {
        let listed = store.list(folder).await.expect("listed");
        let object = listed
            .first()
            .unwrap_or_else(|| panic!("{folder} is empty"));
        let sound = store.get(&object.name).await.expect("sound");
        for bit in (0..sound.len() * 8).step_by(37) {
            let mut bytes = sound.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            store.memory.corrupt(&object.name, bytes);
            let report = scrubbed(&store).await;
            assert!(
                matches!(report.faults.get(&object.name), Some(Fault::Damaged(_))),
                "{} bit {bit}",
                object.name
            );
            assert_eq!(report.faults.len(), 1);
        }
        store
            .memory
            .corrupt(&object.name, sound[..sound.len() - 1].to_vec());
        assert!(
            !scrubbed(&store).await.is_clean(),
            "{} cut off",
            object.name
        );
        let stored_at = object.stored_at.expect("memory knows");
        store.memory.corrupt(&object.name, sound);
        store.memory.set_stored_at(&object.name, stored_at);
    }
    assert!(scrubbed(&store).await.is_clean());
}

#[tokio::test]
async fn what_kept_commits_need_and_is_gone_is_missing() {
    let store = TimedStore::new(BEGIN);
    let backup = back_up(&store, A, 1, &[]).await;
    store.delete(&backup.pack).await.expect("deleted");
    let report = scrubbed(&store).await;
    assert_eq!(report.missing, BTreeSet::from([backup.pack]));
    assert!(!report.is_clean() && report.faults.is_empty());
}

#[tokio::test]
async fn a_gap_in_a_chain_is_told() {
    let store = TimedStore::new(BEGIN);
    back_up(&store, A, 1, &[]).await;
    let second = back_up(&store, A, 2, &[]).await;
    back_up(&store, A, 3, &[]).await;
    store.delete(&second.commit.into()).await.expect("deleted");
    let report = scrubbed(&store).await;
    assert!(report.unjudged.is_some_and(|why| why.contains("commit 2")));
}

#[tokio::test]
async fn bytes_of_their_name_in_the_wrong_place_are_malformed() {
    let store = TimedStore::new(BEGIN);
    let stray = Object::text(TextPlacement::Condemned { n: 1 }, "nothing of the kind");
    put(&store, &stray).await;
    let ObjectName::Condemned { digest, .. } = stray.name() else {
        panic!("not condemned")
    };
    store
        .memory
        .corrupt(&ObjectName::Pack(digest), stray.bytes().clone());
    let report = scrubbed(&store).await;
    assert!(
        report
            .faults
            .values()
            .all(|fault| matches!(fault, Fault::Malformed(_)))
    );
    assert_eq!(report.faults.len(), 2);
}

/// Refs stay while later ones build on them, also when their commit and what only it needed are gone.
#[tokio::test]
async fn what_only_a_deleted_commit_needed_is_not_missed() {
    let store = TimedStore::new(BEGIN);
    let needed = [put(&store, &index()).await];
    let first = back_up(&store, A, 1, &needed).await;
    let gone = put(&store, &pack()).await;
    let mut base = needed.to_vec();
    base.push(gone);
    let second = back_up(&store, A, 2, &base).await;
    back_up(&store, A, 3, &needed).await;
    forget(&store, A, BEGIN, BTreeSet::from([second.commit]))
        .await
        .expect("stored");
    // Gone with its commit; the refs are still there, and young.
    store.delete(&second.commit.into()).await.expect("deleted");
    store.delete(&gone).await.expect("deleted");
    let report = scrubbed(&store).await;
    assert!(!report.missing.contains(&gone), "{report:?}");
    // What a kept commit needs is missed.
    store.delete(&first.pack).await.expect("deleted");
    let report = scrubbed(&store).await;
    assert!(report.missing.contains(&first.pack), "{report:?}");
}
