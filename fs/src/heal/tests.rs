use std::time::Duration;

use holdfast_backend::gc::{Rules, Run, collect};
use holdfast_backend::layout::Folder;
use holdfast_backend::store::{MemoryStore, ObjectStore};
use holdfast_crypto::RecoveryCode;

use super::*;
use crate::archive::runtime;
use crate::archive::tests::{Computer, Files, commit, files, memory, read_back};

struct World {
    store: Arc<MemoryStore>,
    computer: Computer,
    code: RecoveryCode,
    /// What the two snapshots hold.
    snapshots: [Files; 2],
    source: tempfile::TempDir,
}

/// Two snapshots that share some files, and their files in a folder.
fn world() -> World {
    let store = memory();
    let computer = Computer::new(store.clone());
    let (archive, code) = computer.create();
    let mut second = files(12, 2);
    second.extend(
        files(5, 1)
            .into_iter()
            .map(|(name, bytes)| (format!("old-{name}"), bytes)),
    );
    let snapshots = [files(9, 1), second];
    let source = tempfile::tempdir().unwrap();
    for (number, files) in snapshots.iter().enumerate() {
        commit(&archive, files);
        for (name, bytes) in files {
            std::fs::write(source.path().join(format!("{number}-{name}")), bytes).unwrap();
        }
    }
    World {
        store,
        computer,
        code,
        snapshots,
        source,
    }
}

impl World {
    fn names(&self, folder: Folder) -> Vec<ObjectName> {
        let listed = runtime::handle().block_on(self.store.list(folder)).unwrap();
        listed.into_iter().map(|listed| listed.name).collect()
    }

    fn delete(&self, name: &ObjectName) {
        runtime::handle().block_on(self.store.delete(name)).unwrap();
    }

    fn flip(&self, name: &ObjectName, at: usize) {
        let bytes = runtime::handle().block_on(self.store.get(name)).unwrap();
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1;
        self.store.corrupt(name, bytes);
    }

    /// The packs that hold this kind of chunks.
    fn packs(&self, archive: &Archive, holds_trees: bool) -> Vec<ObjectName> {
        let packs = archive.packs().into_iter();
        packs
            .filter(|pack| archive.places.pack(pack).unwrap().holds_trees == holds_trees)
            .map(ObjectName::Pack)
            .collect()
    }

    /// A computer that has nothing but the store.
    fn other(&self) -> (Computer, Arc<Archive>) {
        let computer = Computer::new(self.store.clone());
        let archive = computer.recover(&self.code, None).unwrap();
        (computer, archive)
    }

    /// Whether all can be read on a computer without any cache.
    fn assert_whole(&self) {
        let (_computer, archive) = self.other();
        let checked = check(&archive, Depth::ReadData, &|_, _| ()).unwrap();
        assert!(checked.report.is_clean(), "{:?}", checked.report);
        let snapshots = archive.snapshots().unwrap();
        assert_eq!(snapshots.len(), 2);
        for (snapshot, files) in snapshots.iter().zip(&self.snapshots) {
            let commit = archive.load_commit(&snapshot.name).unwrap();
            assert_eq!(read_back(&archive, &commit), *files);
        }
    }
}

fn run(archive: &Arc<Archive>, depth: Depth, from: &[&std::path::Path]) -> HealReport {
    let request = HealRequest {
        from: from.iter().map(|path| path.to_path_buf()).collect(),
        depth,
        is_dry: false,
    };
    heal(archive, &request, &|_| ()).unwrap()
}

/// Heals, and finds nothing to do the second time; gc then deletes what was bad and nothing else.
fn assert_heals(world: &World, archive: &Arc<Archive>, from: &[&std::path::Path]) -> HealReport {
    let report = run(archive, Depth::ReadData, from);
    assert!(report.left.is_clean(), "{:?}", report.left);
    assert!(!report.found.is_empty());
    let again = run(archive, Depth::ReadData, from);
    assert!(again.found.is_empty() && again.chunks == 0, "{again:?}");
    assert!(again.replaced.is_empty() && again.put_back.is_empty());
    world.assert_whole();
    let rules = Rules {
        grace: Duration::from_secs(10),
        safety_age: Duration::ZERO,
        ..Rules::at(crate::archive::now_seconds())
    };
    for later in [1, 20, 40] {
        let rules = Rules {
            now: rules.now + later,
            ..rules
        };
        let done = collect(&*world.store, &rules, Run::Real);
        runtime::handle().block_on(done).unwrap();
    }
    world.assert_whole();
    report
}

#[test]
fn a_data_pack_that_is_gone_is_made_good_from_a_folder() {
    let world = world();
    let archive = world.computer.open().unwrap();
    for pack in world.packs(&archive, false) {
        world.delete(&pack);
    }
    let report = assert_heals(&world, &archive, &[world.source.path()]);
    assert!(report.chunks_from_folders >= 21, "{report:?}");
}

#[test]
fn a_flipped_bit_costs_one_chunk_and_the_rest_of_its_pack_is_copied() {
    let world = world();
    let archive = world.computer.open().unwrap();
    let pack = world.packs(&archive, false)[0];
    world.flip(&pack, 50);
    let report = assert_heals(&world, &archive, &[world.source.path()]);
    assert_eq!(report.chunks_from_folders, 1);
    assert_eq!(report.found, BTreeSet::from([pack.to_string()]));
}

#[test]
fn trees_come_from_the_cache_on_disk() {
    let world = world();
    let archive = world.computer.open().unwrap();
    for pack in world.packs(&archive, true) {
        world.delete(&pack);
    }
    let checked = check(&archive, Depth::References, &|_, _| ()).unwrap();
    assert!(
        checked.report.damaged_paths > 0,
        "what only this computer's cache has is lost to others"
    );
    let report = assert_heals(&world, &archive, &[]);
    assert_eq!(report.chunks_from_folders, 0);
}

#[test]
fn index_objects_are_made_anew_here_and_on_a_computer_that_knows_nothing() {
    for is_deleted in [true, false] {
        for is_elsewhere in [true, false] {
            let world = world();
            for index in world.names(Folder::Index) {
                match is_deleted {
                    true => world.delete(&index),
                    false => world.flip(&index, 40),
                }
            }
            let (other, archive) = match is_elsewhere {
                true => {
                    let (computer, archive) = world.other();
                    (Some(computer), archive)
                }
                false => (None, world.computer.open().unwrap()),
            };
            let report = assert_heals(&world, &archive, &[]);
            assert!(
                !report.replaced.is_empty() && report.chunks == 0,
                "{report:?}"
            );
            drop((archive, other));
        }
    }
}

#[test]
fn key_objects_are_put_back() {
    for is_deleted in [true, false] {
        let world = world();
        let keys = world.names(Folder::Keys);
        for key in &keys {
            match is_deleted {
                true => world.delete(key),
                false => world.flip(key, 40),
            }
        }
        let archive = world.computer.open().unwrap();
        let report = assert_heals(&world, &archive, &[]);
        assert_eq!(report.put_back.len(), keys.len());
        assert_eq!(report.chunks, 0);
    }
}

#[test]
fn what_cannot_be_had_is_named_nothing_else_is_harmed_and_it_can_be_healed_later() {
    let world = world();
    let archive = world.computer.open().unwrap();
    let pack = world.packs(&archive, false)[0];
    let chunks = archive
        .places
        .chunks_of(&[pack.digest()])
        .unwrap()
        .remove(0)
        .chunks;
    world.flip(&pack, chunks[0].offset as usize + 40);
    let first = run(&archive, Depth::ReadData, &[]);
    assert!(first.left.damaged_paths >= 1, "{first:?}");
    assert_eq!(first.chunks as usize, chunks.len() - 1);
    let second = run(&archive, Depth::References, &[]);
    assert_eq!(
        (second.chunks, &second.left.damage),
        (0, &first.left.damage)
    );
    let last = run(&archive, Depth::References, &[world.source.path()]);
    assert_eq!((last.chunks, last.left.is_clean()), (1, true), "{last:?}");
    world.assert_whole();
}

#[test]
fn a_pack_that_is_gone_with_its_index_is_made_good_where_nothing_is_known_of_it() {
    let world = world();
    let packs = {
        let archive = world.computer.open().unwrap();
        world.packs(&archive, false)
    };
    for name in packs.iter().copied().chain(world.names(Folder::Index)) {
        world.delete(&name);
    }
    let (_computer, archive) = world.other();
    assert_heals(&world, &archive, &[world.source.path()]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = world();
    let archive = world.computer.open().unwrap();
    let pack = world.packs(&archive, false)[0];
    world.delete(&pack);
    let before: Vec<usize> = Folder::ALL.map(|folder| world.names(folder).len()).to_vec();
    let request = HealRequest {
        from: vec![world.source.path().to_owned()],
        depth: Depth::References,
        is_dry: true,
    };
    let report = heal(&archive, &request, &|_| ()).unwrap();
    assert!(report.chunks > 0 && !report.left.is_clean());
    let after: Vec<usize> = Folder::ALL.map(|folder| world.names(folder).len()).to_vec();
    assert_eq!(before, after);
}
