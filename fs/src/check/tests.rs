use std::sync::Arc;

use holdfast_backend::store::{DirStore, ObjectStore};

use super::*;
use crate::archive::tests::{Computer, commit, files};

struct World {
    folder: tempfile::TempDir,
    computer: Computer,
}

fn world() -> (World, Arc<Archive>) {
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::create(folder.path()).unwrap());
    let computer = Computer::new(store);
    let (archive, _) = computer.create();
    commit(&archive, &files(20, 1));
    commit(&archive, &files(30, 2));
    (World { folder, computer }, archive)
}

fn run(archive: &Arc<Archive>, depth: Depth) -> Checked {
    check(archive, depth, &|_, _| ()).unwrap()
}

/// The pack that holds a file's content, as a file of the store.
fn pack_of(world: &World, archive: &Arc<Archive>) -> std::path::PathBuf {
    let snapshot = archive.snapshots().unwrap().pop().unwrap();
    let tree = SnapshotTree::new(
        Arc::clone(archive) as _,
        archive.load_commit(&snapshot.name).unwrap(),
    );
    let Body::Regular {
        list: ListRef::Inline(pieces),
        ..
    } = tree.find(b"file-7").unwrap().inode.body
    else {
        panic!("a small file")
    };
    let Piece::Chunk { id, .. } = &pieces[0] else {
        panic!("no hole")
    };
    let place = archive.locate(id).unwrap()[0];
    let name = ObjectName::Pack(place.pack).to_string();
    let found = walk(world.folder.path())
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(&name));
    let path = found.unwrap_or_else(|| panic!("{name}"));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[place.offset as usize + 30] ^= 1;
    make_writable(&path);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn make_writable(path: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| {
            if path.is_dir() {
                walk(&path)
            } else {
                vec![path]
            }
        })
        .collect()
}

#[test]
fn a_whole_archive_is_clean_at_both_depths() {
    let (_world, archive) = world();
    let checked = run(&archive, Depth::ReadData);
    assert!(checked.report.is_clean(), "{:?}", checked.report);
    assert_eq!((checked.report.snapshots, checked.report.files), (2, 50));
    assert!(checked.report.chunks_read >= 50);
    assert!(run(&archive, Depth::References).report.is_clean());
}

#[test]
fn one_flipped_bit_costs_the_files_that_use_the_chunk_and_they_are_named() {
    let (world, archive) = world();
    pack_of(&world, &archive);
    // Open again: nothing of it is in memory.
    drop(archive);
    let archive = world.computer.open().unwrap();
    let checked = run(&archive, Depth::ReadData);
    let report = &checked.report;
    assert_eq!(
        (report.damaged_paths, report.bad_objects.len()),
        (1, 1),
        "{report:?}"
    );
    assert_eq!(report.damage[0].path, "file-7");
    assert_eq!(checked.lost.len(), 1);
}

#[test]
fn a_missing_pack_is_found_without_reading_data() {
    let (world, archive) = world();
    let path = pack_of(&world, &archive);
    std::fs::remove_file(path).unwrap();
    let report = run(&archive, Depth::References).report;
    assert!(!report.is_clean());
    assert!(
        report.damage.iter().any(|damage| damage.path == "file-7"),
        "{report:?}"
    );
}
