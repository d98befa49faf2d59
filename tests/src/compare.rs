//! Whether two trees are the same in everything that the drive keeps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::SeekFrom;
use sha2::{Digest, Sha256};

/// What is compared of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The type and what is in it: hash, target, device number.
    pub content: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Last change of the content.
    pub mtime: (i64, i64),
    /// Number of names.
    pub links: u64,
    /// The first path with the same inode.
    pub same_as: Option<PathBuf>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where data begins and ends, in a file with holes, rounded to 64 KiB.
    pub data: Vec<(u64, u64)>,
}

/// Which facts count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// All of them.
    Everything,
    /// All but where the holes are.
    ExceptHoles,
}

/// All facts of a tree by path, without the root's own.
pub fn facts(root: &Path, strictness: Strictness) -> BTreeMap<PathBuf, Facts> {
    let mut tree = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut names: Vec<_> = fs::read_dir(root.join(&folder))
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        for name in names {
            let path = folder.join(name);
            let metadata = fs::symlink_metadata(root.join(&path))
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let mut facts = of_file(&root.join(&path), &metadata, strictness);
            if !metadata.is_dir() && metadata.nlink() > 1 {
                facts.same_as = Some(
                    first_names
                        .entry(metadata.ino())
                        .or_insert_with(|| path.clone())
                        .clone(),
                );
            }
            tree.insert(path, facts);
        }
    }
    // Which name of several is met first depends on the order of folders: take the smallest.
    let mut groups: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for (path, facts) in &tree {
        if let Some(first) = &facts.same_as {
            groups.entry(first.clone()).or_default().push(path.clone());
        }
    }
    for group in groups.values() {
        for path in group {
            if let Some(facts) = tree.get_mut(path) {
                facts.same_as = Some(group[0].clone());
            }
        }
    }
    tree
}

fn of_file(path: &Path, metadata: &fs::Metadata, strictness: Strictness) -> Facts {
    let kind = metadata.file_type();
    let content = if kind.is_file() {
        format!("file {} {}", metadata.len(), hash(path))
    } else if kind.is_symlink() {
        format!("link {:?}", fs::read_link(path).expect("a symlink"))
    } else if kind.is_dir() {
        "folder".into()
    } else if kind.is_fifo() {
        "fifo".into()
    } else if kind.is_socket() {
        "socket".into()
    } else {
        format!("device {} {}", kind.is_char_device(), metadata.rdev())
    };
    let with_holes = kind.is_file() && strictness == Strictness::Everything;
    Facts {
        content,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        links: if kind.is_dir() { 0 } else { metadata.nlink() },
        same_as: None,
        xattrs: xattrs(path),
        data: if with_holes {
            data_ranges(path)
        } else {
            Vec::new()
        },
    }
}

fn hash(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut hasher = Hasher(Sha256::new());
    io::copy(&mut file, &mut hasher).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    hex::encode(hasher.0.finalize())
}

struct Hasher(Sha256);

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let Ok(names) = xattr::list(path) else {
        return BTreeMap::new();
    };
    names
        .filter(|name| !name.as_bytes().starts_with(b"security.selinux"))
        .filter_map(|name| Some((name.as_bytes().to_vec(), xattr::get(path, &name).ok()??)))
        .collect()
}

/// Data by SEEK_DATA and SEEK_HOLE, rounded outwards to 64 KiB: file systems round differently.
fn data_ranges(path: &Path) -> Vec<(u64, u64)> {
    const GRAIN: u64 = 64 << 10;
    let file = File::open(path).expect("it was hashed");
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(&file, SeekFrom::Data(at)) {
        let Ok(end) = rustix::fs::seek(&file, SeekFrom::Hole(start)) else {
            break;
        };
        let (start, rounded) = (start / GRAIN * GRAIN, end.div_ceil(GRAIN) * GRAIN);
        match ranges.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(rounded),
            _ => ranges.push((start, rounded)),
        }
        at = end;
    }
    ranges
}

/// Fails naming the first differences.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path, strictness: Strictness) {
    let (left_facts, right_facts) = (facts(left, strictness), facts(right, strictness));
    let mut differences = Vec::new();
    for (path, facts) in &left_facts {
        match right_facts.get(path) {
            None => differences.push(format!("{} is missing", path.display())),
            Some(other) if other != facts => {
                differences.push(format!(
                    "{} differs:\n  {facts:?}\n  {other:?}",
                    path.display()
                ));
            }
            Some(_) => {}
        }
    }
    for path in right_facts
        .keys()
        .filter(|path| !left_facts.contains_key(*path))
    {
        differences.push(format!("{} is too much", path.display()));
    }
    let shown = differences
        .iter()
        .take(8)
        .cloned()
        .collect::<Vec<_>>()
        .join("\n");
    assert!(
        differences.is_empty(),
        "{} and {} differ in {} places:\n{shown}",
        left.display(),
        right.display(),
        differences.len()
    );
}
