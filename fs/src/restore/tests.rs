use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::*;
use crate::walk::tests::{Sketch, named};

struct Target {
    folder: tempfile::TempDir,
}

impl Target {
    fn new() -> Target {
        Target {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("target").join(path)
    }

    fn restore(&self, tree: &SnapshotTree, path: &str, options: RestoreOptions) -> RestoreReport {
        let selected = [Selected {
            tree: tree.clone(),
            path: path.as_bytes().to_vec(),
        }];
        restore(&selected, &self.path(""), options, &|_| ()).unwrap()
    }
}

fn sample() -> (Sketch, SnapshotTree) {
    let mut sketch = Sketch::new();
    let plain = sketch.file(
        0o640,
        &[Some(b"some content"), None, Some(b"behind a hole"), None],
    );
    let twice = sketch.file(0o4755, &[Some(b"twice")]);
    let link = sketch.symlink(b"../nowhere");
    let fifo = sketch.inode(FileKind::Fifo, 0o622, Body::Special);
    let mut entries = sketch.linked(twice, &["one", "two"]);
    entries.extend([
        named("plain", plain),
        named("link", link),
        named("fifo", fifo),
    ]);
    let read_only = sketch.folder(0o555, entries);
    let empty = sketch.folder(0o711, Vec::new());
    let text = sketch.file(0o644, &[Some(b"text")]);
    let tree = sketch.snapshot(vec![
        named("read-only", read_only),
        named("empty", empty),
        named("a.txt", text),
    ]);
    (sketch, tree)
}

#[test]
fn everything_comes_back_with_its_attributes_links_and_holes() {
    let (_sketch, tree) = sample();
    let target = Target::new();
    let report = target.restore(
        &tree,
        "",
        RestoreOptions {
            verify: true,
            ..RestoreOptions::default()
        },
    );
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(
        (
            report.files,
            report.hard_links,
            report.folders,
            report.others
        ),
        (3, 1, 2, 2)
    );
    assert_eq!(report.verified, 3);

    let content = fs::read(target.path("read-only/plain")).unwrap();
    let expected = [
        &b"some content"[..],
        &[0; 65536],
        b"behind a hole",
        &[0; 65536],
    ]
    .concat();
    assert_eq!(content, expected);
    let meta = fs::metadata(target.path("read-only/plain")).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o640);
    let recorded = tree
        .find(b"read-only/plain")
        .unwrap()
        .inode
        .attributes
        .mtime;
    assert_eq!(
        (meta.mtime(), meta.mtime_nsec()),
        (recorded.seconds, i64::from(recorded.nanos))
    );

    let (one, two) = (
        fs::metadata(target.path("read-only/one")).unwrap(),
        fs::metadata(target.path("read-only/two")).unwrap(),
    );
    assert_eq!(
        (one.ino(), one.nlink(), one.mode() & 0o7777),
        (two.ino(), 2, 0o4755)
    );
    assert_eq!(
        fs::read_link(target.path("read-only/link")).unwrap(),
        PathBuf::from("../nowhere")
    );
    for (path, mode) in [("read-only", 0o555), ("empty", 0o711), ("", 0o755)] {
        let meta = fs::metadata(target.path(path)).unwrap();
        let recorded = tree.find(path.as_bytes()).unwrap().inode.attributes.mtime;
        assert_eq!(
            (meta.mode() & 0o7777, meta.mtime()),
            (mode, recorded.seconds),
            "{path}"
        );
    }
}

#[test]
fn what_is_there_is_refused_named_and_left_alone_unless_it_may_be_replaced() {
    let (_sketch, tree) = sample();
    let target = Target::new();
    fs::create_dir_all(target.path("empty")).unwrap();
    fs::write(target.path("a.txt"), "mine").unwrap();
    fs::set_permissions(target.path("empty"), fs::Permissions::from_mode(0o700)).unwrap();
    let report = target.restore(&tree, "", RestoreOptions::default());
    assert_eq!(
        (report.refused, report.refused_paths.clone()),
        (1, vec!["a.txt".to_owned()])
    );
    assert_eq!(report.files, 2);
    assert_eq!(fs::read(target.path("a.txt")).unwrap(), b"mine");
    assert_eq!(
        fs::metadata(target.path("empty")).unwrap().mode() & 0o777,
        0o700
    );

    let report = target.restore(
        &tree,
        "",
        RestoreOptions {
            overwrite: true,
            ..RestoreOptions::default()
        },
    );
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(fs::read(target.path("a.txt")).unwrap(), b"text");
    assert_eq!(
        fs::metadata(target.path("empty")).unwrap().mode() & 0o777,
        0o711
    );
    assert_eq!(
        fs::metadata(target.path("read-only/one")).unwrap().nlink(),
        2
    );
}

#[test]
fn a_symbolic_link_in_the_target_leads_nothing_out_of_it() {
    let (_sketch, tree) = sample();
    let target = Target::new();
    let outside = target.folder.path().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::create_dir_all(target.path("")).unwrap();
    std::os::unix::fs::symlink(&outside, target.path("read-only")).unwrap();
    std::os::unix::fs::symlink(outside.join("a"), target.path("a.txt")).unwrap();
    let report = target.restore(&tree, "", RestoreOptions::default());
    assert_eq!(report.refused, 2, "{report:?}");
    let report = target.restore(
        &tree,
        "",
        RestoreOptions {
            overwrite: true,
            ..RestoreOptions::default()
        },
    );
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(
        fs::symlink_metadata(target.path("read-only"))
            .unwrap()
            .is_dir()
    );
}

#[test]
fn one_bad_file_is_named_and_the_rest_goes_on() {
    let (sketch, tree) = sample();
    let lost = blake3_id(&sketch, b"twice");
    sketch.chunks.lose(ChunkKind::Data, &lost);
    let target = Target::new();
    let report = target.restore(&tree, "", RestoreOptions::default());
    assert_eq!(report.files, 2);
    // Each name of the file was tried.
    assert_eq!(report.failed, 2);
    assert!(
        report.failures[0].path.starts_with("read-only/"),
        "{report:?}"
    );
    let left: Vec<_> = fs::read_dir(target.path("read-only"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

fn blake3_id(sketch: &Sketch, content: &[u8]) -> holdfast_crypto::ChunkId {
    use crate::chunks::ChunkSink;
    sketch.chunks.store(ChunkKind::Data, content).unwrap()
}

#[test]
fn a_path_goes_under_its_own_name_and_filters_leave_no_empty_folders() {
    let (_sketch, tree) = sample();
    let target = Target::new();
    target.restore(&tree, "read-only/one", RestoreOptions::default());
    assert_eq!(fs::read(target.path("one")).unwrap(), b"twice");
    target.restore(&tree, "empty", RestoreOptions::default());
    assert!(target.path("empty").is_dir());
    target.restore(&tree, "read-only/", RestoreOptions::default());
    assert!(target.path("plain").is_file());

    let other = Target::new();
    let filter = Filter::new(&["two".to_owned()], &[]).unwrap();
    let report = other.restore(
        &tree,
        "",
        RestoreOptions {
            filter,
            ..RestoreOptions::default()
        },
    );
    assert_eq!((report.files, report.folders), (1, 1));
    assert!(!other.path("empty").exists());
}

#[test]
fn a_dry_run_counts_and_writes_nothing() {
    let (_sketch, tree) = sample();
    let target = Target::new();
    let dry = RestoreOptions {
        dry_run: true,
        ..RestoreOptions::default()
    };
    let report = target.restore(&tree, "", dry.clone());
    assert_eq!(
        (
            report.files,
            report.hard_links,
            report.folders,
            report.others
        ),
        (3, 1, 2, 2)
    );
    assert!(!target.path("").exists());
    fs::create_dir_all(target.path("")).unwrap();
    fs::write(target.path("a.txt"), "mine").unwrap();
    let report = target.restore(&tree, "", dry);
    assert_eq!((report.files, report.refused), (2, 1));
    assert_eq!(fs::read_dir(target.path("")).unwrap().count(), 1);
}

#[test]
fn content_is_read_whole_with_its_holes() {
    let (sketch, tree) = sample();
    let inode = tree.find(b"read-only/plain").unwrap().inode;
    let Body::Regular { size, list, .. } = &inode.body else {
        panic!()
    };
    let mut content = Vec::new();
    let read = read_content(&*sketch.chunks, *size, list, &mut |bytes| {
        content.extend_from_slice(bytes);
        Ok(())
    });
    read.unwrap();
    assert_eq!(content.len() as u64, *size);
    assert!(content.ends_with(&[0; 65536]) && content.starts_with(b"some content\0"));
}

#[test]
fn thousands_of_files_in_nested_folders_come_back() {
    let mut sketch = Sketch::new();
    let mut top = Vec::new();
    for outer in 0..40 {
        let files = (0..60).map(|inner| {
            let content = format!("{outer}/{inner}");
            named(
                &format!("file-{inner}"),
                sketch.file(0o644, &[Some(content.as_bytes())]),
            )
        });
        let files = files.collect();
        top.push(named(
            &format!("folder-{outer}"),
            sketch.folder(0o755, files),
        ));
    }
    let tree = sketch.snapshot(top);
    let target = Target::new();
    let report = target.restore(
        &tree,
        "",
        RestoreOptions {
            threads: 4,
            ..RestoreOptions::default()
        },
    );
    assert_eq!((report.files, report.folders, report.failed), (2400, 40, 0));
    assert_eq!(fs::read(target.path("folder-7/file-31")).unwrap(), b"7/31");
}
