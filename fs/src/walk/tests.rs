use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_crypto::DeviceId;

use super::*;
use crate::chunks::{ChunkSink, MemoryChunks};
use crate::format::{
    Attributes, CommitKind, LinkedInode, ListRef, Piece, Time, Totals, TreeRef, Xattrs,
};

impl SnapshotSource for MemoryChunks {
    fn name_hash(&self, name: &[u8]) -> u64 {
        let hash = blake3::hash(name);
        u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap()) >> 1 | 16
    }
}

/// A snapshot that is put together by hand.
pub(crate) struct Sketch {
    pub(crate) chunks: Arc<MemoryChunks>,
    next: u64,
    links: BTreeMap<u64, Option<LinkedInode>>,
}

/// The entries of a folder.
pub(crate) type Entries = Vec<Entry>;

impl Sketch {
    pub(crate) fn new() -> Sketch {
        Sketch {
            chunks: Arc::new(MemoryChunks::new()),
            next: 2,
            links: BTreeMap::new(),
        }
    }

    pub(crate) fn inode(&mut self, kind: FileKind, mode: u32, body: Body) -> Inode {
        self.next += 1;
        let time = Time {
            seconds: 1_700_000_000 + self.next as i64,
            nanos: 123_456_789,
        };
        Inode {
            file: self.next,
            attributes: Attributes {
                kind,
                mode,
                uid: rustix::process::geteuid().as_raw(),
                gid: rustix::process::getegid().as_raw(),
                owner: Arc::from(&b"someone"[..]),
                group: Arc::from(&b""[..]),
                mtime: time,
                ctime: time,
                atime: time,
                rdev: 0,
            },
            xattrs: Arc::new(Xattrs::new()),
            fingerprint: 0,
            body,
        }
    }

    /// A file of these pieces; `None` is a hole of 64 KiB.
    pub(crate) fn file(&mut self, mode: u32, pieces: &[Option<&[u8]>]) -> Inode {
        let mut allocated = 0;
        let mut size = 0;
        let mut list = Vec::new();
        for piece in pieces {
            let piece = match piece {
                None => Piece::Hole { length: 64 << 10 },
                Some(bytes) => {
                    allocated += bytes.len() as u64;
                    let id = self.chunks.store(ChunkKind::Data, bytes).unwrap();
                    Piece::Chunk {
                        id,
                        length: bytes.len() as u32,
                    }
                }
            };
            size += piece.length();
            list.push(piece);
        }
        let list = ListRef::Inline(list.into());
        self.inode(
            FileKind::Regular,
            mode,
            Body::Regular {
                size,
                allocated,
                list,
            },
        )
    }

    pub(crate) fn folder(&mut self, mode: u32, entries: Entries) -> Inode {
        let tree = self.tree(entries);
        self.inode(FileKind::Directory, mode, Body::Directory { tree })
    }

    pub(crate) fn symlink(&mut self, target: &[u8]) -> Inode {
        self.inode(
            FileKind::Symlink,
            0o777,
            Body::Symlink {
                target: target.to_vec(),
            },
        )
    }

    pub(crate) fn linked(&mut self, inode: Inode, names: &[&str]) -> Entries {
        let target = Target::Linked {
            file: inode.file,
            kind: inode.attributes.kind,
        };
        self.links.insert(
            inode.file,
            Some(LinkedInode {
                inode,
                links: names.len() as u32,
            }),
        );
        names
            .iter()
            .map(|name| Entry {
                name: name.as_bytes().to_vec(),
                target: target.clone(),
            })
            .collect()
    }

    fn tree(&self, entries: Entries) -> Option<TreeRef> {
        let changes = entries.into_iter().map(|entry| {
            (
                (self.chunks.name_hash(&entry.name), entry.name.clone()),
                Some(entry),
            )
        });
        tree::apply(
            &*self.chunks,
            &*self.chunks,
            None,
            changes.collect(),
            &mut |_| (),
        )
        .unwrap()
    }

    pub(crate) fn snapshot(&mut self, entries: Entries) -> SnapshotTree {
        let root = self.folder(0o755, entries);
        let links = std::mem::take(&mut self.links);
        let links =
            tree::apply_links(&*self.chunks, &*self.chunks, None, links, &mut |_| ()).unwrap();
        let commit = Commit {
            device: DeviceId([1; 8]),
            sequence: 1,
            previous: None,
            time: Time {
                seconds: 1_800_000_000,
                nanos: 0,
            },
            kind: CommitKind::Requested,
            label: None,
            root,
            links,
            next_file: self.next + 1,
            totals: Totals::default(),
            stored_bytes: 0,
            kept: Vec::new(),
        };
        SnapshotTree::new(Arc::clone(&self.chunks) as _, Arc::new(commit))
    }
}

pub(crate) fn named(name: &str, inode: Inode) -> Entry {
    Entry {
        name: name.as_bytes().to_vec(),
        target: Target::Inline(inode),
    }
}

#[test]
fn paths_lead_to_what_they_name_or_say_where_they_end() {
    let mut sketch = Sketch::new();
    let file = sketch.file(0o644, &[Some(b"content")]);
    let twice = sketch.file(0o600, &[Some(b"twice")]);
    let mut inner = sketch.linked(twice, &["one", "two"]);
    inner.push(named("file", file));
    let folder = sketch.folder(0o700, inner);
    let tree = sketch.snapshot(vec![named("folder", folder)]);

    assert_eq!(tree.find(b"").unwrap().inode, *tree.root());
    assert_eq!(
        tree.find(b"/folder//file").unwrap().inode.attributes.mode,
        0o644
    );
    let found = tree.find(b"folder/two").unwrap();
    assert_eq!((found.links, found.inode.attributes.mode), (2, 0o600));
    assert!(
        matches!(tree.find(b"folder/three"), Err(WalkError::NotThere { path }) if path == "folder/three")
    );
    assert!(
        matches!(tree.find(b"folder/file/x"), Err(WalkError::NotAFolder { path }) if path == "folder/file")
    );
    let names: Vec<_> = tree.by_name(&tree.find(b"folder").unwrap().inode).unwrap();
    let names: Vec<_> = names.iter().map(|entry| entry.name.as_slice()).collect();
    assert_eq!(names, [&b"file"[..], b"one", b"two"]);
}

#[test]
fn a_page_that_is_lost_ends_the_listing_with_an_error() {
    let mut sketch = Sketch::new();
    let inner = sketch.file(0o644, &[]);
    let folder = sketch.folder(0o700, vec![named("file", inner)]);
    let Body::Directory { tree: Some(lost) } = folder.body else {
        panic!()
    };
    let tree = sketch.snapshot(vec![named("folder", folder)]);
    sketch.chunks.lose(ChunkKind::Tree, &lost.id);
    let found = tree.find(b"folder").unwrap();
    assert_eq!(tree.entries(&found.inode).filter(Result::is_err).count(), 1);
    assert!(matches!(
        tree.find(b"folder/file"),
        Err(WalkError::Load { .. })
    ));
}
