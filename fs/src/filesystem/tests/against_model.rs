//! Random operations on the drive and on a plain tree in memory; both must agree, whatever is
//! committed and whenever the daemon dies.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Paths are folder and name; few enough that operations meet.
#[derive(Clone, Debug)]
enum Step {
    Write {
        file: u8,
        seed: u8,
        offset: u32,
        length: u32,
    },
    Truncate {
        file: u8,
        size: u32,
    },
    Punch {
        file: u8,
        offset: u32,
        length: u32,
    },
    Copy {
        from: u8,
        to: u8,
    },
    Rename {
        from: u8,
        to: u8,
    },
    Exchange {
        from: u8,
        to: u8,
    },
    Link {
        from: u8,
        to: u8,
    },
    Unlink {
        file: u8,
    },
    Mkdir {
        folder: u8,
    },
    Rmdir {
        folder: u8,
    },
    MoveFolder {
        from: u8,
        to: u8,
    },
    Chmod {
        file: u8,
        mode: u16,
    },
    Snapshot,
    Flush,
    Kill,
    Rest,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let file = 0..12u8;
    let folder = 1..4u8;
    let size = prop_oneof![4 => 0..2000u32, 2 => 0..200_000u32, 1 => 0..3_000_000u32];
    let step = prop_oneof![
        8 => (file.clone(), any::<u8>(), size.clone(), size.clone())
            .prop_map(|(file, seed, offset, length)| Step::Write { file, seed, offset, length }),
        2 => (file.clone(), size.clone()).prop_map(|(file, size)| Step::Truncate { file, size }),
        2 => (file.clone(), size.clone(), size).prop_map(|(file, offset, length)| Step::Punch { file, offset, length }),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Copy { from, to }),
        4 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Exchange { from, to }),
        3 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Link { from, to }),
        3 => file.clone().prop_map(|file| Step::Unlink { file }),
        4 => folder.clone().prop_map(|folder| Step::Mkdir { folder }),
        1 => folder.clone().prop_map(|folder| Step::Rmdir { folder }),
        2 => (folder.clone(), folder).prop_map(|(from, to)| Step::MoveFolder { from, to }),
        1 => (file, any::<u16>()).prop_map(|(file, mode)| Step::Chmod { file, mode: mode & 0o7777 }),
        3 => Just(Step::Snapshot),
        2 => Just(Step::Flush),
        2 => Just(Step::Kill),
        1 => Just(Step::Rest),
    ];
    proptest::collection::vec(step, 1..60)
}

/// Folder 0 is `current/`; a file's number says folder and name.
fn folder_name(folder: u8) -> String {
    format!("d{folder}")
}

fn place_of(file: u8) -> (u8, String) {
    (file % 4, format!("f{}", file / 4))
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    folders: BTreeSet<u8>,
    names: BTreeMap<(u8, String), usize>,
    files: Vec<(Vec<u8>, u32)>,
}

/// A change of content by somebody without CAP_FSETID takes these bits (chmod(2)).
fn without_set_ids(mode: u32) -> u32 {
    let mode = mode & !0o4000;
    if mode & 0o010 != 0 {
        mode & !0o2000
    } else {
        mode
    }
}

impl Model {
    fn at(&self, file: u8) -> Option<usize> {
        self.names.get(&place_of(file)).copied()
    }

    fn has_folder(&self, folder: u8) -> bool {
        folder == 0 || self.folders.contains(&folder)
    }

    /// Everything by path: content, mode, number of names.
    fn tree(&self) -> BTreeMap<String, (Vec<u8>, u32, u32)> {
        let mut tree = BTreeMap::new();
        for folder in &self.folders {
            tree.insert(folder_name(*folder), (Vec::new(), 0, 0));
        }
        for ((folder, name), file) in &self.names {
            let links = self.names.values().filter(|other| *other == file).count() as u32;
            let path = if *folder == 0 {
                name.clone()
            } else {
                format!("{}/{name}", folder_name(*folder))
            };
            tree.insert(
                path,
                (self.files[*file].0.clone(), self.files[*file].1, links),
            );
        }
        tree
    }
}

fn tree_of(drive: &Drive, root: &str) -> BTreeMap<String, (Vec<u8>, u32, u32)> {
    let mut tree = BTreeMap::new();
    let mut add = |path: String| {
        let attr = drive.path(&format!("{root}/{path}")).unwrap();
        let is_folder = attr.kind == FileKind::Directory;
        let value = match is_folder {
            true => (Vec::new(), 0, 0),
            false => (drive.read_ino(attr.ino), attr.mode, attr.nlink),
        };
        assert!(
            is_folder || value.0.len() as u64 == attr.size,
            "size of {path}"
        );
        tree.insert(path, value);
        is_folder
    };
    for name in drive.list(root) {
        if add(name.clone()) {
            for inner in drive.list(&format!("{root}/{name}")) {
                add(format!("{name}/{inner}"));
            }
        }
    }
    tree
}

struct Run {
    drive: Drive,
    model: Model,
    snapshots: Vec<(String, Model)>,
}

impl Run {
    fn folder(&self, folder: u8) -> u64 {
        match folder {
            0 => CURRENT_INO,
            folder => {
                self.drive
                    .path(&format!("/current/{}", folder_name(folder)))
                    .unwrap()
                    .ino
            }
        }
    }

    fn ino(&self, file: u8) -> u64 {
        let (folder, name) = place_of(file);
        self.drive
            .fs()
            .lookup(self.folder(folder), name.as_bytes())
            .unwrap()
            .ino
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write {
                file,
                seed,
                offset,
                length,
            } => self.write(*file, *seed, *offset, *length),
            Step::Truncate { file, size } => {
                if let Some(at) = self.model.at(*file) {
                    let change = SetAttr {
                        size: Some(u64::from(*size)),
                        ..Default::default()
                    };
                    self.drive.fs().setattr(self.ino(*file), change).unwrap();
                    self.model.files[at].0.resize(*size as usize, 0);
                }
            }
            Step::Punch {
                file,
                offset,
                length,
            } => {
                if let (Some(at), true) = (self.model.at(*file), *length > 0) {
                    let (from, length) = (u64::from(*offset), u64::from(*length));
                    self.drive
                        .fs()
                        .fallocate(self.ino(*file), Fallocate::PunchHole, from, length)
                        .unwrap();
                    let content = &mut self.model.files[at].0;
                    let end = content.len().min((from + length) as usize);
                    if (from as usize) < end {
                        content[from as usize..end].fill(0);
                        self.model.files[at].1 = without_set_ids(self.model.files[at].1);
                    }
                }
            }
            Step::Copy { from, to } => {
                if let (Some(one), Some(other)) = (self.model.at(*from), self.model.at(*to))
                    && one != other
                {
                    let (from, to) = (self.ino(*from), self.ino(*to));
                    self.drive
                        .fs()
                        .copy_file_range(from, 0, to, 0, u64::MAX >> 2)
                        .unwrap();
                    self.drive.fs().flush(to, 0).unwrap();
                    let source = self.model.files[one].0.clone();
                    let content = &mut self.model.files[other].0;
                    content.resize(content.len().max(source.len()), 0);
                    content[..source.len()].copy_from_slice(&source);
                    if !source.is_empty() {
                        self.model.files[other].1 = without_set_ids(self.model.files[other].1);
                    }
                }
            }
            Step::Rename { from, to } => self.rename(*from, *to),
            Step::Exchange { from, to } => {
                let places = (place_of(*from), place_of(*to));
                if let (Some(one), Some(other)) = (self.model.at(*from), self.model.at(*to)) {
                    let flags = RenameFlags {
                        exchange: true,
                        no_replace: false,
                    };
                    let (old, new) = (self.folder(places.0.0), self.folder(places.1.0));
                    self.drive
                        .fs()
                        .rename(
                            old,
                            places.0.1.as_bytes(),
                            new,
                            places.1.1.as_bytes(),
                            flags,
                        )
                        .unwrap();
                    self.model.names.insert(places.0, other);
                    self.model.names.insert(places.1, one);
                }
            }
            Step::Link { from, to } => {
                let (folder, name) = place_of(*to);
                if let (Some(at), None, true) = (
                    self.model.at(*from),
                    self.model.at(*to),
                    self.model.has_folder(folder),
                ) {
                    self.drive
                        .fs()
                        .link(self.ino(*from), self.folder(folder), name.as_bytes())
                        .unwrap();
                    self.model.names.insert((folder, name), at);
                }
            }
            Step::Unlink { file } => {
                let (folder, name) = place_of(*file);
                if self.model.names.remove(&(folder, name.clone())).is_some() {
                    self.drive
                        .fs()
                        .unlink(self.folder(folder), name.as_bytes())
                        .unwrap();
                }
            }
            Step::Mkdir { folder } => {
                if self.model.folders.insert(*folder) {
                    let name = folder_name(*folder);
                    self.drive
                        .fs()
                        .mkdir(CURRENT_INO, name.as_bytes(), 0o755, 1, 1)
                        .unwrap();
                }
            }
            Step::Rmdir { folder } => {
                let is_empty = !self.model.names.keys().any(|(other, _)| other == folder);
                if self.model.folders.contains(folder) {
                    let done = self
                        .drive
                        .fs()
                        .rmdir(CURRENT_INO, folder_name(*folder).as_bytes());
                    assert_eq!(done.is_ok(), is_empty, "{done:?}");
                    if is_empty {
                        self.model.folders.remove(folder);
                    }
                }
            }
            Step::MoveFolder { from, to } => {
                if self.model.folders.contains(from) && !self.model.folders.contains(to) {
                    let (old, new) = (folder_name(*from), folder_name(*to));
                    let fs = self.drive.fs();
                    fs.rename(
                        CURRENT_INO,
                        old.as_bytes(),
                        CURRENT_INO,
                        new.as_bytes(),
                        RenameFlags::default(),
                    )
                    .unwrap();
                    self.model.folders.remove(from);
                    self.model.folders.insert(*to);
                    let moved: Vec<_> = self
                        .model
                        .names
                        .keys()
                        .filter(|(folder, _)| folder == from)
                        .cloned()
                        .collect();
                    for key in moved {
                        let file = self.model.names.remove(&key).unwrap();
                        self.model.names.insert((*to, key.1), file);
                    }
                }
            }
            Step::Chmod { file, mode } => {
                if let Some(at) = self.model.at(*file) {
                    let mode = u32::from(*mode);
                    let change = SetAttr {
                        mode: Some(mode),
                        ..Default::default()
                    };
                    self.drive.fs().setattr(self.ino(*file), change).unwrap();
                    self.model.files[at].1 = mode;
                }
            }
            Step::Snapshot => {
                let label = format!("s{}", self.snapshots.len());
                self.drive.fs().begin_snapshot(Some(&label)).unwrap();
                self.snapshots.push((label, self.model.clone()));
            }
            Step::Flush => self.drive.fs().flush_all(soon()).unwrap(),
            Step::Kill => self.drive.kill(),
            Step::Rest => std::thread::sleep(Duration::from_millis(1300)),
        }
    }

    fn write(&mut self, file: u8, seed: u8, offset: u32, length: u32) {
        let (folder, name) = place_of(file);
        if !self.model.has_folder(folder) {
            return;
        }
        let data = noise(u64::from(seed), length as usize);
        let flags = OpenFlags {
            write: true,
            ..Default::default()
        };
        let fs = self.drive.fs();
        let (attr, opened) = fs
            .create(self.folder(folder), name.as_bytes(), 0o644, 1, 1, flags)
            .unwrap();
        for (n, piece) in data.chunks(100_000).enumerate() {
            fs.write(
                attr.ino,
                opened.handle,
                u64::from(offset) + n as u64 * 100_000,
                piece,
                false,
            )
            .unwrap();
        }
        fs.flush(attr.ino, opened.handle).unwrap();
        fs.release(attr.ino, opened.handle);
        let at = match self.model.at(file) {
            Some(at) => at,
            None => {
                self.model.files.push((Vec::new(), 0o644));
                let at = self.model.files.len() - 1;
                self.model.names.insert((folder, name), at);
                at
            }
        };
        let content = &mut self.model.files[at].0;
        let end = offset as usize + data.len();
        if !data.is_empty() {
            content.resize(content.len().max(end), 0);
            content[offset as usize..end].copy_from_slice(&data);
        }
    }

    fn rename(&mut self, from: u8, to: u8) {
        let (old, new) = (place_of(from), place_of(to));
        let Some(at) = self.model.at(from).filter(|_| self.model.has_folder(new.0)) else {
            return;
        };
        let flags = RenameFlags::default();
        let (parent, new_parent) = (self.folder(old.0), self.folder(new.0));
        self.drive
            .fs()
            .rename(
                parent,
                old.1.as_bytes(),
                new_parent,
                new.1.as_bytes(),
                flags,
            )
            .unwrap();
        // Two names of one file: nothing happens.
        if self.model.at(to) != Some(at) {
            self.model.names.remove(&old);
            self.model.names.insert(new, at);
        }
    }

    fn check(&self, path: &str, model: &Model, step: &str) {
        let (found, wanted) = (tree_of(&self.drive, path), model.tree());
        let names =
            |tree: &BTreeMap<String, (Vec<u8>, u32, u32)>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&wanted), "{path} behind {step}");
        for (name, wanted) in &wanted {
            let found = &found[name];
            assert_eq!(
                (found.0.len(), found.1, found.2),
                (wanted.0.len(), wanted.1, wanted.2),
                "{path}: {name} behind {step}"
            );
            let differs = found
                .0
                .iter()
                .zip(&wanted.0)
                .position(|(one, other)| one != other);
            assert_eq!(differs, None, "{path}: {name} behind {step}");
        }
    }
}

fn run(steps: &[Step]) {
    let mut run = Run {
        drive: Drive::new(),
        model: Model::default(),
        snapshots: Vec::new(),
    };
    for (n, step) in steps.iter().enumerate() {
        run.step(step);
        if matches!(step, Step::Kill | Step::Flush | Step::Rest) {
            run.check("/current", &run.model, &format!("step {n}, {step:?}"));
        }
    }
    run.check("/current", &run.model, "the last step");
    run.drive.fs().flush_all(soon()).unwrap();
    run.check("/current", &run.model, "the last flush");
    run.drive.kill();
    run.check("/current", &run.model, "the last restart");
    run.drive.fs().flush_all(soon()).unwrap();
    for (label, model) in &run.snapshots {
        run.check(&format!("/snapshots/laptop/{label}"), model, "everything");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_drive_is_what_the_model_says(steps in steps()) {
        run(&steps);
    }
}
