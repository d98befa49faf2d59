//! From the log to the namespace, when a drive is opened.
//!
//! Operations up to the last commit that stands are in its trees; the `Committed` record says so,
//! and how the commit has those files that were changed between its freeze and itself. What is
//! behind its freeze is applied over that. Neither the store nor a tree is needed.

use std::collections::HashMap;

use holdfast_crypto::{ChunkId, ChunkKind, Digest};

use crate::archive::Archive;
use crate::format::codec::{DecodeError, Decoded, Reader, Writer};
use crate::format::{FileNo, Inode, TreeRef};
use crate::log::{LogError, LogPosition, Record, Replay};
use crate::namespace::operation::{Operation, decode_group, encode_group};
use crate::namespace::{Base, NameHash, Namespace, Reason};
use crate::packer::PackedChunks;
use crate::write_path::WritePath;

/// The log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A record that authenticates and cannot be read.
    #[error("the local log has a record that this version cannot read: {0}")]
    Record(#[from] DecodeError),
}

/// A commit stands; what is up to its freeze in the log is in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Committed {
    /// The log up to here is in the commit.
    pub sequence: u64,
    /// The commit.
    pub base: Base,
    /// Files that were changed since its freeze, as the commit has them.
    pub raised: Vec<Operation>,
}

impl Committed {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.varint(self.sequence);
        self.base.root.write(&mut writer);
        writer.option(self.base.links, |writer, links| links.write(writer));
        writer.varint(self.base.next_file);
        writer.raw(&encode_group(&self.raised));
        writer.finish()
    }

    /// From its bytes.
    pub fn decode(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader::new("a commit record of the log", bytes);
        let sequence = reader.varint()?;
        let root = Inode::read(&mut reader)?;
        let links = reader.option(TreeRef::read)?;
        let next_file = reader.varint()?;
        Ok(Committed {
            sequence,
            base: Base {
                root,
                links,
                next_file,
            },
            raised: decode_group(reader.rest())?,
        })
    }
}

/// What was found in the log.
#[derive(Default)]
pub struct Found {
    committed: Option<Committed>,
    events: Vec<(u64, Event)>,
    chunks: Vec<(LogPosition, ChunkId, ChunkKind, u32, Digest)>,
    packs: Vec<PackedChunks>,
}

enum Event {
    Group(Vec<Operation>),
    Extent {
        file: FileNo,
        offset: u64,
        length: u32,
        position: LogPosition,
    },
}

impl Found {
    /// Reads the log. Session keys and stored packs are told to the archive on the way.
    pub fn read(replay: Replay, archive: &Archive) -> Result<Self, ReplayError> {
        let mut found = Found::default();
        for record in replay {
            let (position, record) = record?;
            found.take(position, record, archive)?;
        }
        Ok(found)
    }

    fn take(
        &mut self,
        position: LogPosition,
        record: Record,
        archive: &Archive,
    ) -> Result<(), ReplayError> {
        match record {
            Record::SessionKey { object, .. } => {
                if let Err(error) = archive.register_session_key(&object) {
                    tracing::error!(%error, "a session key of the log cannot be used");
                }
            }
            Record::Chunk {
                id,
                kind,
                raw_length,
                key,
                ..
            } => {
                self.chunks.push((position, id, kind, raw_length, key));
            }
            Record::Extent { file, offset, data } => {
                let extent = Event::Extent {
                    file,
                    offset,
                    length: data.len() as u32,
                    position,
                };
                self.events.push((position.sequence, extent));
            }
            Record::Operation(bytes) => {
                self.events
                    .push((position.sequence, Event::Group(decode_group(&bytes)?)));
            }
            Record::PackStored(bytes) => {
                let pack = PackedChunks::decode(&bytes)?;
                // A pack that the index does not take is uploaded again.
                match archive.register_pack(&pack) {
                    Ok(()) => self.packs.push(pack),
                    Err(error) => tracing::warn!(%error, "a stored pack is not in the local index"),
                }
            }
            Record::Committed(bytes) => {
                let committed = Committed::decode(&bytes)?;
                let behind = |sequence: u64| sequence > committed.sequence;
                self.events.retain(|(sequence, _)| behind(*sequence));
                self.chunks
                    .retain(|(position, ..)| behind(position.sequence));
                self.committed = Some(committed);
            }
        }
        Ok(())
    }

    /// Whether the log knows what it stands on.
    pub fn has_base(&self) -> bool {
        self.committed.is_some()
    }

    /// The namespace as it was; `base` counts when the log is new.
    pub fn restore(self, base: Base, hash: NameHash, write: &WritePath) -> Namespace {
        let (base, raised) = match self.committed {
            Some(committed) => (committed.base, committed.raised),
            None => (base, Vec::new()),
        };
        for (position, id, kind, raw_length, key) in self.chunks {
            write.replayed(id, kind, raw_length, key, position);
        }
        self.packs.iter().for_each(|pack| write.mark_stored(pack));
        let mut namespace = Namespace::new(base, hash);
        apply_parents_first(&mut namespace, &raised);
        namespace.note_raised(raised);
        for (sequence, event) in self.events {
            match event {
                Event::Group(group) => {
                    for operation in &group {
                        namespace.apply(operation);
                        if let Operation::Freeze(moment) = operation {
                            namespace.freeze(sequence, Reason::Requested(moment.clone()));
                            write.frozen(sequence);
                        }
                    }
                }
                Event::Extent {
                    file,
                    offset,
                    length,
                    position,
                } => {
                    namespace.apply_extent(file, offset, length, position);
                }
            }
        }
        // Nobody holds them any more.
        for file in namespace.orphans() {
            namespace.drop_orphan(file);
        }
        namespace
    }
}

/// A file enters the changes of its folder, so the folder has to be there.
fn apply_parents_first(namespace: &mut Namespace, raised: &[Operation]) {
    let by_file: HashMap<FileNo, &Operation> = raised
        .iter()
        .filter_map(|operation| match operation {
            Operation::Inode { inode, .. } => Some((inode.file, operation)),
            _ => None,
        })
        .collect();
    for file in by_file.keys() {
        let mut chain = Vec::new();
        let mut at = *file;
        while let Some(operation @ Operation::Inode { parent, .. }) = by_file.get(&at)
            && namespace.changed(at).is_none()
        {
            chain.push(*operation);
            if *parent == at {
                break;
            }
            at = *parent;
        }
        chain
            .into_iter()
            .rev()
            .for_each(|operation| namespace.apply(operation));
    }
}
