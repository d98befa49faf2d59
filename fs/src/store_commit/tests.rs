use std::time::Duration;

use holdfast_backend::marks::{Condemned, Deleting};
use holdfast_backend::store::{ObjectStore, Operation, Record};

use super::*;
use crate::archive::runtime;
use crate::archive::tests::{Computer, Files, commit, draft, files, memory, read_back};

/// The world ends after the nth step; what is on disk and in the store stays.
fn crash_after(
    archive: &Archive,
    files: &Files,
    steps: usize,
) -> Result<CommitOutcome, ArchiveError> {
    let draft = draft(archive, files, CommitKind::Requested, Some("named"));
    let mut left = steps;
    archive.store_commit_steps(draft, &mut |_| match left.checked_sub(1) {
        Some(less) => {
            left = less;
            Ok(())
        }
        None => Err(ArchiveError::TimedOut),
    })
}

/// The tests' invariant: every refs name resolves to objects that are there.
fn assert_refs_are_whole(archive: &Archive) {
    let (name, _) = archive.head().unwrap();
    let table = runtime::handle()
        .block_on(RefsTable::load(&*archive.store, None))
        .unwrap();
    for refs in table.of(name.device, name.sequence) {
        for object in table.resolve(&refs).unwrap() {
            assert!(
                runtime::handle()
                    .block_on(archive.store.get(&object))
                    .is_ok(),
                "{object}"
            );
        }
    }
}

#[test]
fn a_crash_between_any_two_steps_leaves_a_whole_archive() {
    for steps in 0..6 {
        let computer = Computer::new(memory());
        let (archive, _) = computer.create();
        let before = files(10, 1);
        commit(&archive, &before);
        let after = files(12, 2);
        assert!(
            crash_after(&archive, &after, steps).is_err(),
            "step {steps}"
        );
        drop(archive);

        let archive = computer.open().unwrap();
        let (name, head) = archive.head().unwrap();
        // The commit stands or it does not; there is nothing between.
        let expected = if steps == 5 { &after } else { &before };
        assert_eq!(&read_back(&archive, &head), expected, "step {steps}");
        assert_eq!(name.sequence, if steps == 5 { 2 } else { 1 });
        // And the device goes on.
        let third = files(14, 3);
        let outcome = commit(&archive, &third);
        assert_eq!(read_back(&archive, outcome.commit().1), third);
        assert_refs_are_whole(&archive);
        drop(archive);
        let archive = computer.open().unwrap();
        assert_eq!(read_back(&archive, &archive.head().unwrap().1), third);
    }
}

#[test]
fn an_unchanged_tree_costs_no_request() {
    let store = Arc::new(Record::new(memory()));
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let same = files(10, 1);
    let first = draft(&archive, &same, CommitKind::Automatic, None);
    archive.store_commit(first, None).unwrap();
    let again = draft(&archive, &same, CommitKind::Automatic, None);
    store.reset();
    assert!(matches!(
        archive.store_commit(again, None).unwrap(),
        CommitOutcome::Unchanged(..)
    ));
    assert_eq!(store.snapshot().requests(), 0);
}

#[test]
fn a_small_commit_stores_few_objects() {
    let store = Arc::new(Record::new(memory()));
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let mut changing = files(10, 1);
    commit(&archive, &changing);
    store.reset();
    changing.insert("one-more".to_owned(), b"content".to_vec());
    commit(&archive, &changing);
    let puts = store.snapshot().of(Operation::Put).requests;
    assert!(puts <= 8, "{puts} objects");
}

#[test]
fn refs_name_exactly_what_is_reachable() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    commit(&archive, &files(10, 1));
    let old: BTreeSet<Digest> = archive.packs().into_iter().collect();
    // Nothing of the first commit is in the second.
    commit(&archive, &files(10, 2));
    let names = archive.head.lock().refs.clone().unwrap().names;
    for pack in old {
        assert!(!names.contains(&ObjectName::Pack(pack)));
    }
    assert_refs_are_whole(&archive);
}

#[test]
fn chains_of_refs_end() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    let mut changing = Files::new();
    for n in 0..40 {
        changing.insert(format!("f{n}"), vec![n; 100]);
        commit(&archive, &changing);
        assert!(archive.head.lock().refs.as_ref().unwrap().depth <= LONGEST_CHAIN);
    }
    drop(archive);
    let archive = computer.open().unwrap();
    changing.insert("last".to_owned(), vec![1; 10]);
    let outcome = commit(&archive, &changing);
    assert_eq!(read_back(&archive, outcome.commit().1), changing);
    assert_refs_are_whole(&archive);
    let objects = archive.head.lock().refs.clone().unwrap().names;
    let index = objects
        .iter()
        .filter(|name| matches!(name, ObjectName::Index(_)))
        .count();
    assert!(
        index <= MOST_SMALL_INDEX_OBJECTS + 2,
        "{index} index objects"
    );
}

#[test]
fn a_condemned_pack_does_not_make_a_chunk_known() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let old = files(3, 1);
    commit(&archive, &old);
    commit(&archive, &files(3, 2));
    let id = archive.keychain().chunk_id(
        holdfast_crypto::ChunkKind::Data,
        old.values().next().unwrap(),
    );
    assert!(archive.known(&id));
    let pack = ObjectName::Pack(archive.locate(&id).unwrap()[0].pack);
    let mark = Condemned {
        n: 1,
        time: crate::archive::now_seconds(),
        names: BTreeSet::from([pack]),
    };
    runtime::handle()
        .block_on(store.put_new(&mark.to_object()))
        .unwrap();
    archive.read_marks().unwrap();
    assert!(!archive.known(&id));
    // It is stored again, and the commit uses the new copy.
    let outcome = commit(&archive, &old);
    let names = archive.head.lock().refs.clone().unwrap().names;
    assert!(!names.contains(&pack));
    assert_eq!(read_back(&archive, outcome.commit().1), old);
}

#[test]
fn what_a_gc_is_deleting_is_stored_again_under_new_names() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let wanted = files(5, 1);
    let draft = draft(&archive, &wanted, CommitKind::Requested, None);
    archive.flush(None).unwrap();
    // A gc condemned everything and is about to delete it.
    let names: BTreeSet<ObjectName> = store
        .names()
        .into_iter()
        .filter(|name| matches!(name, ObjectName::Pack(_) | ObjectName::Key(_)))
        .collect();
    assert!(names.len() >= 3);
    let mark = Deleting {
        n: 1,
        time: crate::archive::now_seconds(),
        names: names.clone(),
    };
    runtime::handle()
        .block_on(store.put_new(&mark.to_object()))
        .unwrap();
    archive.store_commit(draft, None).unwrap();
    for name in &names {
        runtime::handle().block_on(store.delete(name)).unwrap();
    }
    drop(archive);
    let archive = computer.open().unwrap();
    assert_eq!(read_back(&archive, &archive.head().unwrap().1), wanted);
    assert_refs_are_whole(&archive);
}

#[test]
fn a_copied_key_is_noticed_and_the_later_writer_stops() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    commit(&archive, &files(2, 1));
    // A copy of the home, on another computer.
    let copy = Computer::new(computer.store.clone());
    copy.home.make_folders().unwrap();
    copy.home.save_keys(archive.keys()).unwrap();
    let twin = copy.open().unwrap();
    commit(&twin, &files(2, 2));
    let draft = draft(&archive, &files(2, 3), CommitKind::Requested, None);
    let outcome = archive.store_commit(draft.clone(), None);
    assert!(matches!(outcome, Err(ArchiveError::Fork { sequence: 2 })));
    assert!(matches!(
        archive.store_commit(draft, None),
        Err(ArchiveError::Fork { .. })
    ));
}

#[test]
fn a_deadline_is_kept_and_nothing_is_lost() {
    use holdfast_backend::store::{Fault, FaultRates, Retry, RetryPolicy};
    let inner = memory();
    let fault = Arc::new(Fault::new(inner.clone(), 1, FaultRates::NONE));
    let policy = RetryPolicy {
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(20),
        ..RetryPolicy::default()
    };
    let computer = Computer::new(Arc::new(Retry::new(fault.clone(), policy)));
    let (archive, _) = computer.create();
    let wanted = files(5, 1);
    let draft = draft(&archive, &wanted, CommitKind::Requested, None);
    fault.heal();
    archive
        .store_commit(draft, Some(Instant::now() + Duration::from_secs(20)))
        .unwrap();
    assert_eq!(read_back(&archive, &archive.head().unwrap().1), wanted);
    // A deadline that has passed gives an error, and the work can be repeated.
    let more = files(7, 2);
    let draft = crate::archive::tests::draft(&archive, &more, CommitKind::Requested, None);
    assert!(
        archive
            .store_commit(draft.clone(), Some(Instant::now()))
            .is_err()
    );
    archive.store_commit(draft, None).unwrap();
    assert_eq!(read_back(&archive, &archive.head().unwrap().1), more);
}

#[test]
fn refs_never_name_an_index_object_that_is_gone() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let mut changing = files(5, 1);
    commit(&archive, &changing);
    drop(archive);
    for name in store.names() {
        if matches!(name, ObjectName::Index(_)) {
            runtime::handle().block_on(store.delete(&name)).unwrap();
        }
    }
    let archive = computer.open().unwrap();
    changing.insert("more".to_owned(), vec![1; 10]);
    let outcome = commit(&archive, &changing);
    assert_eq!(read_back(&archive, outcome.commit().1), changing);
    assert_refs_are_whole(&archive);
}
