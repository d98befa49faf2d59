//! Which chunks the kept commits use, and whose refs have been read so.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use holdfast_backend::gc::{Judgement, Survey};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::CommitName;
use holdfast_backend::refs::RefsError;
use holdfast_crypto::{ChunkId, ChunkKind};

use crate::archive::Archive;
use crate::chunks::{ChunkSource, LoadError};
use crate::format::Commit;
use crate::refs_memo::{Children, Node, children_of};

/// What was found by walking every kept commit, of all devices.
#[derive(Default)]
pub(super) struct Used {
    chunks: HashSet<u64>,
    /// Nodes with everything below them.
    done: HashSet<Node>,
    /// Refs of which every commit that may rely on them was read completely.
    pub(super) seen: BTreeSet<ObjectName>,
    /// Kept commits that could not be read, and why.
    pub(super) unread: BTreeMap<CommitName, String>,
}

impl Used {
    /// Walks. What cannot be read is noted; the refs of such commits are not among `seen`.
    pub(super) fn walk(
        archive: &Archive,
        survey: &Survey,
        judgement: &Judgement,
        progress: &dyn Fn(),
    ) -> Self {
        let mut used = Self::default();
        for name in &judgement.kept {
            progress();
            let read = archive
                .load_commit(name)
                .map_err(|error| error.to_string())
                .and_then(|commit| {
                    used.commit(archive, &commit)
                        .map_err(|error| error.to_string())
                });
            if let Err(why) = read {
                tracing::warn!(commit = %name, %why, "a commit cannot be read: what it needs stays as it is");
                used.unread.insert(*name, why);
            }
        }
        // Of two commits with one sequence (a fork) both must have been read: the refs may be both's.
        let unseen: BTreeSet<_> = judgement
            .forgotten
            .iter()
            .chain(used.unread.keys())
            .map(|commit| (commit.device, commit.sequence))
            .collect();
        let read: BTreeSet<_> = judgement
            .kept
            .iter()
            .map(|commit| (commit.device, commit.sequence))
            .filter(|commit| !unseen.contains(commit))
            .collect();
        let is_read = |name: &ObjectName| match *name {
            ObjectName::Refs {
                device, sequence, ..
            } => read.contains(&(device, sequence)),
            _ => false,
        };
        let refs = survey.refs.texts().keys().copied();
        used.seen = refs.filter(is_read).collect();
        used
    }

    /// Whether a kept commit uses the chunk. Eight bytes of its id are remembered: that two chunks
    /// agree in them keeps one too many, never one too few.
    pub(super) fn contains(&self, id: &ChunkId) -> bool {
        self.chunks.contains(&short(id))
    }

    fn commit(&mut self, source: &dyn ChunkSource, commit: &Commit) -> Result<(), LoadError> {
        let top = Children::of_commit(&commit.root, commit.links.as_ref());
        self.chunks.extend(top.data.iter().map(short));
        for node in top.nodes {
            self.node(source, node)?;
        }
        Ok(())
    }

    /// With a stack of its own: folders may be nested deeper than the thread's stack is. A node is done
    /// when everything below it is, so that what does not load is tried again for each commit.
    fn node(&mut self, source: &dyn ChunkSource, top: Node) -> Result<(), LoadError> {
        let mut stack: Vec<(Node, Vec<Node>)> = Vec::new();
        if !self.done.contains(&top) {
            stack.push((top, self.enter(source, top)?));
        }
        while let Some((node, left)) = stack.last_mut() {
            match left.pop() {
                Some(next) if self.done.contains(&next) => {}
                Some(next) => {
                    let below = self.enter(source, next)?;
                    stack.push((next, below));
                }
                None => {
                    self.done.insert(*node);
                    stack.pop();
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, source: &dyn ChunkSource, node: Node) -> Result<Vec<Node>, LoadError> {
        let (kind, id) = node.chunk();
        let bytes = source.load(kind, &id)?;
        let children = children_of(node, &bytes).ok_or(damaged(kind, id))?;
        self.chunks.insert(short(&id));
        self.chunks.extend(children.data.iter().map(short));
        Ok(children.nodes)
    }
}

fn damaged(kind: ChunkKind, id: ChunkId) -> LoadError {
    LoadError::Damaged {
        kind,
        id,
        object: None,
    }
}

fn short(id: &ChunkId) -> u64 {
    let [first, ..] = id.hash.as_chunks::<8>().0 else {
        unreachable!("a hash has 32 bytes")
    };
    u64::from_le_bytes(*first)
}

/// What is needed by refs that were not seen through: backups under way, commits that could not be
/// read or that a pin keeps and that are gone. None of it would be freed.
pub(super) fn held(
    survey: &Survey,
    judgement: &Judgement,
    seen: &BTreeSet<ObjectName>,
) -> Result<BTreeSet<ObjectName>, RefsError> {
    let mut held = BTreeSet::new();
    for name in judgement.live.difference(seen) {
        let needs = survey
            .refs
            .needs(name, survey.marks.moved(), |new| survey.exists(new))?;
        held.extend(needs);
    }
    Ok(held)
}
