//! Chunks of source files, straight to the packer: what is not stored when we die is read again.

use std::collections::BTreeSet;

use holdfast_crypto::{ChunkId, ChunkKind};
use parking_lot::Mutex;

use crate::archive::Archive;
use crate::chunks::{ChunkSink, SinkError};
use crate::packer::Ticket;

/// A sink that remembers the packs in which its chunks are on their way.
pub(super) struct DirectSink<'a> {
    archive: &'a Archive,
    tickets: Mutex<BTreeSet<Ticket>>,
}

impl<'a> DirectSink<'a> {
    pub(super) fn new(archive: &'a Archive) -> Self {
        DirectSink {
            archive,
            tickets: Mutex::default(),
        }
    }

    /// The packs that have to be stored before anything may name the chunks.
    pub(super) fn into_tickets(self) -> Vec<Ticket> {
        self.tickets.into_inner().into_iter().collect()
    }

    /// Whether a chunk need not be sent: it is stored, or on its way in a pack.
    fn is_there(&self, id: &ChunkId) -> bool {
        let packer = self.archive.packer();
        if packer.ticket(id).is_none() && !self.archive.known(id) {
            return false;
        }
        // Somebody may have queued it between the two questions. If there is no ticket now, it is
        // stored.
        if let Some(ticket) = packer.ticket(id) {
            self.tickets.lock().insert(ticket);
        }
        true
    }
}

impl ChunkSink for DirectSink<'_> {
    fn store(&self, kind: ChunkKind, plaintext: &[u8]) -> Result<ChunkId, SinkError> {
        let id = self.archive.keychain().chunk_id(kind, plaintext);
        if !self.is_there(&id) {
            let ticket = self.archive.pack_anew(kind, id, plaintext)?;
            self.tickets.lock().insert(ticket);
        }
        Ok(id)
    }
}
