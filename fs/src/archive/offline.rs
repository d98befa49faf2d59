//! Opening while the store is away: what was read last time stands in for it.
//!
//! `state/keyring` and `state/head` hold the newest keyring object and this device's newest commit,
//! both encrypted as they are in the store. An archive that was opened with them takes data in (into
//! the log) and shows what is cached; it catches up before its first commit, and tries to in the
//! background. Chunks do not count as known until then, so nothing relies on stale marks.
//!
//! `state/next` names the commit that was being stored. If the process died right after that commit
//! stood, the next one finds it in the store, knows it for its own, and goes on from it; without that
//! it would look like a fork.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::CommitName;
use holdfast_backend::object::Object;
use holdfast_backend::store::StoreErrorKind;

use super::keyrings::Newest;
use super::{Archive, ArchiveError};
use crate::home::{Home, HomeError};

const KEYRING: &str = "keyring";
const HEAD: &str = "head";
const NEXT: &str = "next";

/// Opening waits this long for a store before it goes on without it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_secs(15);

/// Whether an error means that the store is away, rather than that something is wrong.
pub(super) fn is_away(error: &ArchiveError) -> bool {
    match error {
        ArchiveError::TimedOut => true,
        ArchiveError::Store(error) => error.kind() == StoreErrorKind::Transient,
        ArchiveError::Marks(holdfast_backend::marks::MarksError::Store(error)) => {
            error.kind() == StoreErrorKind::Transient
        }
        _ => false,
    }
}

/// Name on the first line, then the object.
fn save(home: &Home, file: &str, name: &ObjectName, object: &[u8]) -> Result<(), HomeError> {
    home.save_state(file, &[format!("{name}\n").as_bytes(), object].concat())
}

fn load(home: &Home, file: &str) -> Result<Option<(ObjectName, Vec<u8>)>, HomeError> {
    let Some(bytes) = home.load_state(file)? else {
        return Ok(None);
    };
    let split = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .map(|end| bytes.split_at(end));
    let Some((name, object)) = split else {
        return Ok(None);
    };
    let name = std::str::from_utf8(name)
        .ok()
        .and_then(|name| name.parse::<ObjectName>().ok());
    Ok(name.map(|name| (name, object[1..].to_vec())))
}

/// Keeps the newest keyring, if there is exactly one.
pub(super) fn keep_keyring(home: &Home, newest: &Newest) {
    if let [object] = newest.objects.as_slice() {
        let digest = holdfast_crypto::Digest::of(object);
        let name = ObjectName::Keyring {
            version: newest.version,
            digest,
        };
        if let Err(error) = save(home, KEYRING, &name, object) {
            tracing::warn!(%error, "the keyring could not be kept for when the store is away");
        }
    }
}

/// The keyring that was kept.
pub(super) fn kept_keyring(home: &Home) -> Result<Option<Newest>, HomeError> {
    Ok(match load(home, KEYRING)? {
        Some((ObjectName::Keyring { version, .. }, object)) => Some(Newest {
            version,
            objects: vec![object.into()],
        }),
        _ => None,
    })
}

impl Archive {
    /// Keeps this device's newest commit for when the store is away.
    pub(crate) fn keep_head(&self, name: CommitName, object: &[u8]) {
        if let Err(error) = save(&self.home, HEAD, &name.into(), object) {
            tracing::warn!(%error, "the newest commit could not be kept for when the store is away");
        }
    }

    /// Says which commit is about to be stored.
    pub(crate) fn announce(&self, name: CommitName) -> Result<(), ArchiveError> {
        Ok(save(&self.home, NEXT, &name.into(), b"")?)
    }

    /// Whether this device's newest commit is none that this computer has stored, or was about to store.
    /// A computer that has stored none yet cannot tell.
    pub(crate) fn is_foreign(&self, newest: &CommitName) -> Result<bool, ArchiveError> {
        let kept = load(&self.home, HEAD)?;
        let kept = kept.and_then(|(name, _)| CommitName::try_from(name).ok());
        Ok(match kept {
            Some(kept) => kept != *newest && self.announced()? != Some(*newest),
            None => false,
        })
    }

    fn announced(&self) -> Result<Option<CommitName>, ArchiveError> {
        Ok(load(&self.home, NEXT)?.and_then(|(name, _)| name.try_into().ok()))
    }

    /// This commit's object, if it is the one that was kept.
    pub(crate) fn commit_object_here(&self, wanted: CommitName) -> Option<Object> {
        let (name, bytes) = load(&self.home, HEAD).ok()??;
        let object = Object::from_stored(name, bytes.into()).ok()?;
        (name == wanted.into()).then_some(object)
    }

    /// Takes the newest commit from this computer.
    pub(super) fn start_without_store(&self) -> Result<(), ArchiveError> {
        self.offline.store(true, Ordering::Release);
        let kept = load(&self.home, HEAD)?;
        let kept = kept.and_then(|(name, bytes)| Some((CommitName::try_from(name).ok()?, bytes)));
        if let Some((name, bytes)) = kept {
            let commit = self.open_commit(&name, &bytes)?;
            self.take_head(name, commit);
        }
        Ok(())
    }

    /// Whether the store has not been reached since opening.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Does what opening could not do without the store. Does nothing when that was done.
    pub fn catch_up(&self) -> Result<(), ArchiveError> {
        if !self.is_offline() {
            return Ok(());
        }
        let _one = self.catching_up.lock();
        if !self.is_offline() {
            return Ok(());
        }
        let before = self.head().map(|(name, _)| name);
        self.start_with_store()?;
        let after = self.head().map(|(name, _)| name);
        if after != before && after != self.announced()? {
            let sequence = after.map_or(0, |name| name.sequence);
            self.head.lock().forked = Some(sequence);
        }
        self.offline.store(false, Ordering::Release);
        tracing::info!("the store answers again");
        Ok(())
    }

    /// Tries to catch up until it works or the archive is gone.
    pub(super) fn catch_up_later(self: &Arc<Self>) {
        let archive = Arc::downgrade(self);
        self.runtime.spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                let Some(archive) = archive.upgrade() else {
                    return;
                };
                let attempt = super::runtime::waiting().spawn_blocking(move || {
                    let until = Instant::now() + PATIENCE;
                    crate::blocking::with_deadline(until, || archive.catch_up())
                });
                match attempt.await {
                    Ok(Ok(())) | Err(_) => return,
                    Ok(Err(error)) if is_away(&error) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "the archive cannot be used as it is");
                        return;
                    }
                }
            }
        });
    }
}
