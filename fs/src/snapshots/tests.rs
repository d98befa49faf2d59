use super::*;
use crate::archive::tests::{Computer, commit, draft, files, memory, read_back};

#[test]
fn snapshots_are_listed_and_found_by_every_name() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, code) = computer.create();
    commit(&archive, &files(2, 1));
    let named = draft(
        &archive,
        &files(2, 2),
        CommitKind::Requested,
        Some("before-update"),
    );
    archive.store_commit(named, None).unwrap();
    commit(&archive, &files(2, 3));
    let checkpoint = draft(&archive, &files(2, 4), CommitKind::Checkpoint, None);
    archive.store_commit(checkpoint, None).unwrap();

    let names: Vec<String> = archive
        .snapshots()
        .unwrap()
        .into_iter()
        .map(|snapshot| snapshot.folder)
        .collect();
    assert_eq!(
        names,
        [
            "2023-11-14T22-15-00Z",
            "before-update",
            "2023-11-14T22-15-00Z-2"
        ]
    );
    assert_eq!(archive.resolve("latest").unwrap().name.sequence, 3);
    assert_eq!(archive.resolve("laptop/latest").unwrap().name.sequence, 3);
    assert!(archive.resolve("before-update").unwrap().pinned);
    assert_eq!(
        archive
            .resolve("laptop/2023-11-14T22-15-00Z")
            .unwrap()
            .name
            .sequence,
        1
    );
    assert_eq!(
        archive
            .resolve(&format!("{}/before-update", archive.device()))
            .unwrap()
            .name
            .sequence,
        2
    );
    assert!(matches!(
        archive.resolve("nothing"),
        Err(ArchiveError::NoSuchSnapshot { .. })
    ));

    let elsewhere = Computer::new(store);
    let other = elsewhere.recover(&code, None).unwrap();
    let (_, commit) = other.load_snapshot("before-update").unwrap();
    assert_eq!(read_back(&other, &commit), files(2, 2));
}

#[test]
fn forgotten_snapshots_are_gone_from_every_list() {
    let computer = Computer::new(memory());
    let (archive, _) = computer.create();
    commit(&archive, &files(2, 1));
    let named = draft(&archive, &files(2, 2), CommitKind::Requested, Some("x"));
    archive.store_commit(named, None).unwrap();
    commit(&archive, &files(2, 3));
    let forget = [archive.resolve("x").unwrap().name].into();
    archive.forget(&forget).unwrap();
    assert!(archive.resolve("x").is_err());
    commit(&archive, &files(2, 4));
    assert_eq!(archive.head().unwrap().1.kept.len(), 2);
    assert_eq!(archive.snapshots().unwrap().len(), 3);
    assert!(archive.superseded_checkpoints().unwrap().is_empty());
}

#[test]
fn a_commit_by_a_device_that_is_not_in_the_keyring_is_not_believed() {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, _) = computer.create();
    commit(&archive, &files(2, 1));
    let (name, real) = archive.head().unwrap();
    // Somebody with the archive's keys, but not with the device's signing key.
    let forged = real.to_object(
        1,
        &archive.keychain().current().commit,
        &holdfast_crypto::DeviceSigningKey::generate(),
    );
    let forged_name = CommitName {
        digest: forged.name().digest(),
        ..name
    };
    archive
        .runtime()
        .block_on(archive.object_store().put_new(&forged))
        .unwrap();
    assert!(matches!(
        archive.load_commit(&forged_name),
        Err(ArchiveError::BadCommit { .. })
    ));
}
