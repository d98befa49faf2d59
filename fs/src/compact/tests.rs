use std::sync::Arc;
use std::time::Duration;

use holdfast_backend::gc::{GcReport, Run, collect};
use holdfast_backend::store::{MemoryStore, ObjectStore};

use super::*;
use crate::archive::runtime;
use crate::archive::tests::{Computer, Files, commit, files, memory, read_back};
use crate::check::{Depth, check};

const ALL: CompactRequest = CompactRequest {
    unused_percent: 20,
    most_bytes: None,
    dry_run: false,
};

fn compact(archive: &Archive) -> CompactReport {
    run(archive, &ALL, &|_, _| ()).unwrap()
}

fn gc(store: &Arc<MemoryStore>, grace: u64) -> GcReport {
    let rules = Rules {
        grace: Duration::from_secs(grace),
        safety_age: Duration::ZERO,
        ..Rules::at(now_seconds())
    };
    runtime::handle()
        .block_on(collect(&**store, &rules, Run::Real))
        .unwrap()
}

fn packs(store: &Arc<MemoryStore>) -> BTreeSet<ObjectName> {
    let is_pack = |name: &ObjectName| matches!(name, ObjectName::Pack(_));
    store.names().into_iter().filter(is_pack).collect()
}

/// The ciphertexts of all known copies in packs that stand.
fn ciphertexts(archive: &Archive, store: &Arc<MemoryStore>) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let there: Vec<Digest> = packs(store).iter().map(ObjectName::digest).collect();
    for pack in archive.places.chunks_of(&there).unwrap() {
        let name = ObjectName::Pack(pack.pack);
        let bytes = runtime::handle().block_on(store.get(&name)).unwrap();
        for chunk in pack.chunks {
            let start = chunk.offset as usize;
            found.insert(bytes[start..start + chunk.stored_length as usize].to_vec());
        }
    }
    found
}

/// Two snapshots of which the first is given up: most of its pack is used no more.
fn half_unused(store: &Arc<MemoryStore>) -> (Computer, Arc<Archive>, Files) {
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    let mut content = files(20, 1);
    let (first, _) = commit(&archive, &content).commit();
    content.retain(|name, _| name.ends_with('3'));
    content.insert("new".to_owned(), b"something else".to_vec());
    commit(&archive, &content);
    archive.forget(&BTreeSet::from([first])).unwrap();
    (computer, archive, content)
}

#[test]
fn what_is_unused_is_freed_and_what_is_used_is_copied_as_it_is() {
    let store = memory();
    let (computer, archive, content) = half_unused(&store);
    let (old, before) = (packs(&store), ciphertexts(&archive, &store));
    let dry = CompactRequest {
        dry_run: true,
        ..ALL
    };
    let said = run(&archive, &dry, &|_, _| ()).unwrap();
    assert_eq!(packs(&store), old);
    let report = compact(&archive);
    assert_eq!(
        (said.old_packs, said.old_bytes),
        (report.old_packs, report.old_bytes)
    );
    assert!(
        report.old_packs > 0 && report.new_bytes < report.old_bytes,
        "{report:?}"
    );
    assert!(report.is_complete());
    assert!(
        ciphertexts(&archive, &store).is_subset(&before),
        "nothing is encrypted anew"
    );
    gc(&store, 1000);
    gc(&store, 1000);
    assert!(packs(&store).is_superset(&old), "they wait");
    gc(&store, 0);
    assert!(packs(&store).is_disjoint(&old) || !packs(&store).is_superset(&old));
    assert_eq!(
        compact(&archive).old_packs,
        0,
        "there is nothing more to do"
    );

    drop(archive);
    let archive = computer.open().unwrap();
    assert_eq!(read_back(&archive, &archive.head().unwrap().1), content);
    let checked = check(&archive, Depth::ReadData, &|_, _| ()).unwrap();
    assert!(checked.report.is_clean(), "{:?}", checked.report);
    let mut more = content.clone();
    more.insert("more".to_owned(), vec![9; 500]);
    commit(&archive, &more);
    gc(&store, 0);
    gc(&store, 0);
    assert_eq!(read_back(&archive, &archive.head().unwrap().1), more);
}

#[test]
fn what_was_forgotten_can_still_be_taken_back_after_it() {
    let store = memory();
    let (_computer, archive, _) = half_unused(&store);
    gc(&store, 1000);
    compact(&archive);
    gc(&store, 1000);
    let rules = Rules {
        grace: Duration::from_secs(1000),
        ..Rules::at(now_seconds())
    };
    let all = holdfast_backend::gc::Selection::All;
    let work = holdfast_backend::gc::undelete(&*store, archive.device(), &rules, &all);
    let report = runtime::handle().block_on(work).unwrap();
    assert_eq!(report.restorable.len(), 1);
    gc(&store, 0);
    gc(&store, 0);
    let back = report.restorable.first().unwrap();
    let shown = archive.load_commit(back).unwrap();
    assert_eq!(read_back(&archive, &shown), files(20, 1));
}

#[test]
fn another_device_that_was_open_all_the_time_reads_and_goes_on() {
    let store = memory();
    let first = Computer::new(store.clone());
    let (archive, code) = first.create();
    let mut content = files(20, 1);
    let (given_up, _) = commit(&archive, &content).commit();
    content.retain(|name, _| name.ends_with('3'));
    commit(&archive, &content);
    let second = Computer::new(store.clone());
    let other = second.recover(&code, None).unwrap();
    let mine = content.clone();
    commit(&other, &mine);
    archive.forget(&BTreeSet::from([given_up])).unwrap();
    drop(archive);
    let archive = first.open().unwrap();
    let report = compact(&archive);
    assert!(report.old_packs > 0, "{report:?}");
    for _ in 0..3 {
        gc(&store, 0);
    }
    assert_eq!(read_back(&other, &other.head().unwrap().1), mine);
    let mut more = mine.clone();
    more.insert("more".to_owned(), vec![9; 500]);
    let outcome = commit(&other, &more);
    for _ in 0..3 {
        gc(&store, 0);
    }
    assert_eq!(read_back(&other, outcome.commit().1), more);
    drop(other);
    let other = second.open().unwrap();
    assert_eq!(read_back(&other, &other.head().unwrap().1), more);
}

#[test]
fn a_damaged_pack_is_left_alone_and_named() {
    let store = memory();
    let (_computer, archive, _) = half_unused(&store);
    for name in packs(&store) {
        let bytes = runtime::handle().block_on(store.get(&name)).unwrap();
        let mut bytes = bytes.to_vec();
        bytes[20] ^= 1;
        store.corrupt(&name, bytes);
    }
    let report = compact(&archive);
    assert!(!report.is_complete());
    assert_eq!(report.new_packs, 0);
}
