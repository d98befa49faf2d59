//! What can be restored: the snapshots of all devices.
//!
//! Each device's newest commit lists the snapshots that the device keeps; forgotten marks take away
//! from that list. A commit is believed only if it verifies with the key that the keyring has for its
//! device, at a sequence that this device may have written.
//!
//! A snapshot is called by its label, or by the time it shows (`2026-11-23T09-45-00Z`, with `-2`, ...
//! where a device has two of one second).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::marks::{CommitName, Forgotten, Marks, Pin, Text};
use holdfast_backend::object::{Header, ObjectKind};
use holdfast_crypto::{DeviceId, DeviceVerifyingKey};
use jiff::Timestamp;

use crate::archive::{Archive, ArchiveError, now_seconds};
use crate::format::{Commit, CommitKind, DeviceRecord, Time, Totals};

#[cfg(test)]
mod tests;

/// One snapshot, without its tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its commit.
    pub name: CommitName,
    /// The name of its device.
    pub device: String,
    /// Its number in the archive.
    pub device_number: u16,
    /// What its folder is called.
    pub folder: String,
    /// The moment that it shows.
    pub time: Time,
    /// Why it was made.
    pub kind: CommitKind,
    /// The name that somebody gave it.
    pub label: Option<String>,
    /// Sums over it.
    pub totals: Totals,
    /// Bytes newly stored for it.
    pub stored_bytes: u64,
    /// Whether a pin keeps it.
    pub pinned: bool,
}

/// How many commits are kept in memory.
const COMMITS_IN_MEMORY: usize = 64;

impl Archive {
    /// Every snapshot of every device, by time.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, ArchiveError> {
        let newest = self.newest_commits()?;
        let marks = self.read_marks()?;
        let mut by_device: BTreeMap<DeviceId, Vec<Snapshot>> = BTreeMap::new();
        for name in newest {
            // One device whose newest commit is damaged does not hide the others.
            let commit = match self.load_commit(&name) {
                Ok(commit) => commit,
                Err(
                    error @ (ArchiveError::BadCommit { .. } | ArchiveError::UnknownDevice { .. }),
                ) => {
                    tracing::error!(%error, "the snapshots of a device cannot be listed");
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(record) = self.record(name.device) else {
                continue;
            };
            let listed = by_device.entry(name.device).or_default();
            listed.extend(list_of(&name, &commit, &record));
        }
        let mut all = Vec::new();
        for (device, mut listed) in by_device {
            let Some(record) = self.record(device) else {
                continue;
            };
            // The two ends of a fork have what was before it in common.
            listed.sort_by_key(|snapshot| snapshot.name);
            listed.dedup_by_key(|snapshot| snapshot.name);
            self.add_taken_back(&marks, &record, &mut listed);
            listed.retain_mut(|snapshot| {
                snapshot.pinned = marks.pin(&snapshot.name) == Pin::Kept;
                snapshot.pinned || !marks.is_forgotten(&snapshot.name)
            });
            name_folders(&mut listed);
            all.extend(listed);
        }
        all.sort_by(|a, b| {
            (a.time, &a.device, a.name.sequence).cmp(&(b.time, &b.device, b.name.sequence))
        });
        Ok(all)
    }

    /// Snapshots that were forgotten, left out of the device's list, and taken back: a pin keeps them.
    fn add_taken_back(&self, marks: &Marks, record: &DeviceRecord, listed: &mut Vec<Snapshot>) {
        let of_device = marks
            .pinned_commits()
            .filter(|name| name.device == record.id);
        for name in of_device {
            if listed.iter().any(|snapshot| snapshot.name == *name) {
                continue;
            }
            match self.load_commit(name) {
                Ok(commit) if commit.kind != CommitKind::Checkpoint => {
                    let own = Commit {
                        kept: Vec::new(),
                        ..(*commit).clone()
                    };
                    listed.extend(list_of(name, &own, record));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "a snapshot that is kept by name cannot be read")
                }
            }
        }
        listed.sort_by_key(|snapshot| snapshot.name.sequence);
    }

    /// The snapshot that a person means: `latest`, `device/latest`, a label, a folder name, or
    /// `device/name` where `device` is a device's name or id.
    pub fn resolve(&self, wanted: &str) -> Result<Snapshot, ArchiveError> {
        let snapshots = self.snapshots()?;
        let (device, name) = match wanted.split_once('/') {
            Some((device, name)) => (Some(device), name),
            None => (None, wanted),
        };
        let of_device = |snapshot: &&Snapshot| {
            device.is_none_or(|device| {
                snapshot.device == device || snapshot.name.device.to_string() == device
            })
        };
        let missing = || ArchiveError::NoSuchSnapshot {
            name: wanted.to_owned(),
        };
        if name == "latest" {
            let own =
                |snapshot: &&Snapshot| device.is_some() || snapshot.name.device == self.device();
            let candidates: Vec<&Snapshot> = snapshots.iter().filter(of_device).collect();
            let newest = candidates
                .iter()
                .rev()
                .find(|snapshot| own(snapshot))
                .or(candidates.last());
            return newest
                .map(|snapshot| (*snapshot).clone())
                .ok_or_else(missing);
        }
        let is_called = |snapshot: &&Snapshot| {
            snapshot.folder == name || snapshot.label.as_deref() == Some(name)
        };
        let found: Vec<&Snapshot> = snapshots
            .iter()
            .filter(of_device)
            .filter(is_called)
            .collect();
        match found.as_slice() {
            [] => Err(missing()),
            [one] => Ok((*one).clone()),
            // This device's own is meant unless another one is named.
            several => {
                let own: Vec<_> = several
                    .iter()
                    .filter(|found| found.name.device == self.device())
                    .collect();
                match own.as_slice() {
                    [one] => Ok((**one).clone()),
                    _ => Err(ambiguous(wanted, several)),
                }
            }
        }
    }

    /// A snapshot's commit.
    pub fn load_snapshot(&self, wanted: &str) -> Result<(Snapshot, Arc<Commit>), ArchiveError> {
        let snapshot = self.resolve(wanted)?;
        let commit = self.load_commit(&snapshot.name)?;
        Ok((snapshot, commit))
    }

    /// A commit, verified.
    pub fn load_commit(&self, name: &CommitName) -> Result<Arc<Commit>, ArchiveError> {
        if let Some(commit) = self.commits.lock().get(name) {
            return Ok(Arc::clone(commit));
        }
        let object = ObjectName::from(*name);
        let bad = |why: String| ArchiveError::BadCommit { name: object, why };
        let bytes = match self.ask(self.store.get(&object)) {
            Ok(bytes) => bytes,
            Err(ArchiveError::Store(error))
                if error.kind() == holdfast_backend::store::StoreErrorKind::Damaged =>
            {
                return Err(bad(error.to_string()));
            }
            Err(error) => return Err(error),
        };
        let commit = self.open_commit(name, &bytes)?;
        let mut commits = self.commits.lock();
        if commits.len() >= COMMITS_IN_MEMORY {
            commits.clear();
        }
        commits.insert(*name, Arc::clone(&commit));
        Ok(commit)
    }

    /// Opens and verifies a commit's object.
    pub(crate) fn open_commit(
        &self,
        name: &CommitName,
        bytes: &[u8],
    ) -> Result<Arc<Commit>, ArchiveError> {
        let bad = |why: String| ArchiveError::BadCommit {
            name: ObjectName::from(*name),
            why,
        };
        let record = self
            .record(name.device)
            .ok_or(ArchiveError::UnknownDevice {
                device: name.device,
            })?;
        if !record.may_have_written(name.sequence) {
            return Err(bad(
                "the device may not have written this sequence".to_owned()
            ));
        }
        let (header, _) =
            Header::parse(ObjectKind::Commit, bytes).map_err(|error| bad(error.to_string()))?;
        let keys = self
            .keychain
            .epoch(header.epoch)
            .ok_or_else(|| bad("its epoch is unknown".to_owned()))?;
        let signer =
            DeviceVerifyingKey::from_bytes(&record.key).map_err(|error| bad(error.to_string()))?;
        let commit = Commit::from_object(name.device, name.sequence, bytes, &keys.commit, &signer);
        Ok(Arc::new(commit.map_err(|error| bad(error.to_string()))?))
    }

    /// Gives up snapshots: pins of them are released, then a forgotten mark is stored. The newest
    /// commit of a device stays whatever is said here.
    pub fn forget(&self, commits: &BTreeSet<CommitName>) -> Result<(), ArchiveError> {
        if commits.is_empty() {
            return Ok(());
        }
        let marks = self.read_marks()?;
        let pinned: BTreeSet<CommitName> = commits
            .iter()
            .copied()
            .filter(|commit| marks.pin(commit) == Pin::Kept)
            .collect();
        if !pinned.is_empty() {
            self.store_pin(BTreeSet::new(), pinned)?;
        }
        let (device, n, time) = (self.device(), marks.next_forgotten_n(), now_seconds());
        let mark = Forgotten {
            device,
            n,
            time,
            commits: commits.clone(),
        };
        self.ask(self.store.put_new(&mark.to_object()))?;
        self.read_marks().map(drop)
    }

    /// Commits of this device that are no snapshots and that a later commit has taken the place of:
    /// checkpoints. They are for [`Archive::forget`], now and then.
    pub fn superseded_checkpoints(&self) -> Result<BTreeSet<CommitName>, ArchiveError> {
        // After a fork nothing is anybody's to give up.
        let head = self.head().filter(|_| self.fork().is_none());
        let Some((newest, commit)) = head else {
            return Ok(BTreeSet::new());
        };
        let kept: BTreeSet<u64> = commit.kept.iter().map(|kept| kept.sequence).collect();
        let marks = self.read_marks()?;
        let names = self.names(Folder::Commits(Some(self.device())))?;
        let given_up = |name: &CommitName| {
            name.sequence < newest.sequence
                && !kept.contains(&name.sequence)
                && !marks.is_forgotten(name)
        };
        Ok(names
            .into_iter()
            .filter_map(|name| name.try_into().ok())
            .filter(given_up)
            .collect())
    }

    /// Each device's newest commit that it may have written; after a fork both of them.
    pub fn newest_commits(&self) -> Result<Vec<CommitName>, ArchiveError> {
        let mut newest: BTreeMap<DeviceId, Vec<CommitName>> = BTreeMap::new();
        let names: Vec<CommitName> = self
            .names(Folder::Commits(None))?
            .into_iter()
            .filter_map(|name| name.try_into().ok())
            .collect();
        let is_unknown = |name: &CommitName| self.record(name.device).is_none();
        if names.iter().any(is_unknown)
            && let Err(error) = self.refresh_keyring()
        {
            tracing::warn!(%error, "the snapshots of a device that has joined are listed later");
        }
        for name in names {
            let Some(record) = self.record(name.device) else {
                continue;
            };
            if !record.may_have_written(name.sequence) {
                continue;
            }
            let of_device = newest.entry(name.device).or_default();
            let highest = of_device.first().map_or(0, |highest| highest.sequence);
            if name.sequence > highest {
                of_device.clear();
            }
            if name.sequence >= highest {
                of_device.push(name);
            }
        }
        let newest: Vec<CommitName> = newest.into_values().flatten().collect();
        self.notice_others(&newest);
        Ok(newest)
    }

    /// A commit of another device that was not there before needs index objects that were not there either.
    fn notice_others(&self, newest: &[CommitName]) {
        let own = self.device();
        let listed = newest.iter().filter(|name| name.device != own);
        let listed: BTreeSet<CommitName> = listed.copied().collect();
        let mut others = self.others.lock();
        if !listed.is_subset(&others) {
            self.index_age.outdate();
        }
        *others = listed;
    }

    /// Finds this device's newest commit; notices forks and stores that were rolled back.
    pub(crate) fn load_head(&self) -> Result<(), ArchiveError> {
        let device = self.device();
        let names = self.names(Folder::Commits(Some(device)))?;
        let names: Vec<CommitName> = names
            .into_iter()
            .filter_map(|name| name.try_into().ok())
            .collect();
        let found = names.iter().map(|name| name.sequence).max().unwrap_or(0);
        let seen = self.seen.lock().sequence(device, found);
        if let (Err(seen), true) = (seen, self.is_writable()) {
            return Err(ArchiveError::RolledBack {
                what: "commit of this device",
                seen,
                found,
            });
        }
        let mut newest: Vec<&CommitName> =
            names.iter().filter(|name| name.sequence == found).collect();
        newest.sort();
        let Some(name) = newest.first() else {
            return Ok(());
        };
        let foreign = newest.len() > 1 || self.is_foreign(name)?;
        let commit = self.load_commit(name)?;
        self.take_head(**name, commit);
        self.head.lock().forked = foreign.then_some(found);
        Ok(())
    }

    pub(crate) fn take_head(&self, name: CommitName, commit: Arc<Commit>) {
        if commit.kind == CommitKind::Checkpoint {
            self.stored_base
                .store(commit.stored_bytes, std::sync::atomic::Ordering::Release);
        }
        self.head.lock().commit = Some((name, commit));
    }

    fn record(&self, device: DeviceId) -> Option<DeviceRecord> {
        self.keyring.read().device(device).cloned()
    }
}

fn list_of(name: &CommitName, commit: &Commit, record: &DeviceRecord) -> Vec<Snapshot> {
    let device = name.device;
    let snapshot = |name, time, kind, label: &Option<String>, totals, stored_bytes| Snapshot {
        name,
        device: record.name.clone(),
        device_number: record.number,
        folder: String::new(),
        time,
        kind,
        label: label.clone(),
        totals,
        stored_bytes,
        pinned: false,
    };
    let mut listed: Vec<Snapshot> = commit
        .kept
        .iter()
        .map(|kept| {
            let name = CommitName {
                device,
                sequence: kept.sequence,
                digest: kept.digest,
            };
            snapshot(
                name,
                kept.time,
                kept.kind,
                &kept.label,
                kept.totals,
                kept.stored_bytes,
            )
        })
        .collect();
    if commit.kind != CommitKind::Checkpoint {
        let (time, totals) = (commit.time, commit.totals);
        listed.push(snapshot(
            *name,
            time,
            commit.kind,
            &commit.label,
            totals,
            commit.stored_bytes,
        ));
    }
    listed
}

/// Gives each snapshot of one device a name of its own, in the order of their sequence.
fn name_folders(snapshots: &mut [Snapshot]) {
    let mut taken: HashMap<String, usize> = HashMap::new();
    for snapshot in snapshots {
        let name = snapshot
            .label
            .clone()
            .unwrap_or_else(|| time_name(snapshot.time));
        let count = taken.entry(name.clone()).or_default();
        *count += 1;
        snapshot.folder = if *count == 1 {
            name
        } else {
            format!("{name}-{count}")
        };
    }
}

/// `2026-11-23T09-45-00Z`.
pub fn time_name(time: Time) -> String {
    match Timestamp::from_second(time.seconds) {
        Ok(time) => time.strftime("%Y-%m-%dT%H-%M-%SZ").to_string(),
        Err(_) => format!("{}s", time.seconds),
    }
}

fn ambiguous(name: &str, found: &[&Snapshot]) -> ArchiveError {
    let found: Vec<String> = found
        .iter()
        .map(|snapshot| format!("{}/{}", snapshot.device, snapshot.folder))
        .collect();
    ArchiveError::AmbiguousSnapshot {
        name: name.to_owned(),
        found: found.join(", "),
    }
}
