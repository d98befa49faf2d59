//! A disk that lies as far as disks may: what was not synced may be lost, in part and in any order.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::disk::{Disk, DiskFile, Space};

/// Sectors are written whole or not at all; a write of several may be torn between them.
const SECTOR_BYTES: usize = 512;

pub(super) struct SimDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    random: SmallRng,
    next_file: u64,
    /// Folder as processes see it, and as a power loss leaves it.
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of the folder since it was synced.
    pending_names: Vec<(PathBuf, Option<u64>)>,
    files: BTreeMap<u64, FileState>,
    /// Calls that change the disk so far.
    operations: u64,
    /// The power goes at this call: it has a part of its effect and every later one fails.
    power_off_at: Option<u64>,
    off: bool,
    pub fail_sync_at: Option<u64>,
    syncs: u64,
    /// Bytes that may be written before the disk is full.
    room_bytes: u64,
}

#[derive(Default, Clone)]
struct FileState {
    seen: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Write(offset, new) => {
                let end = *offset as usize + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset as usize..end].copy_from_slice(new);
            }
            Change::Cut(length) => bytes.resize(*length as usize, 0),
        }
    }

    /// One change per sector.
    fn sectors(&self) -> Vec<Change> {
        match self {
            Change::Write(offset, bytes) => {
                let mut parts = Vec::new();
                let mut at = 0;
                while at < bytes.len() {
                    let position = *offset as usize + at;
                    let end = (position / SECTOR_BYTES + 1) * SECTOR_BYTES;
                    let length = (end - position).min(bytes.len() - at);
                    parts.push(Change::Write(
                        position as u64,
                        bytes[at..at + length].to_vec(),
                    ));
                    at += length;
                }
                parts
            }
            Change::Cut(length) => vec![Change::Cut(*length)],
        }
    }
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        SimDisk {
            state: Arc::new(Mutex::new(State {
                random: SmallRng::seed_from_u64(seed),
                next_file: 0,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                pending_names: Vec::new(),
                files: BTreeMap::new(),
                operations: 0,
                power_off_at: None,
                off: false,
                fail_sync_at: None,
                syncs: 0,
                room_bytes: u64::MAX,
            })),
        }
    }

    pub(super) fn power_off_at(&self, operation: u64) {
        self.state.lock().power_off_at = Some(operation);
    }

    pub(super) fn fail_sync_at(&self, sync: u64) {
        self.state.lock().fail_sync_at = Some(sync);
    }

    pub(super) fn room_bytes(&self, bytes: u64) {
        self.state.lock().room_bytes = bytes;
    }

    pub(super) fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Was the power lost?
    pub(super) fn is_off(&self) -> bool {
        self.state.lock().off
    }

    /// What a computer finds that is started again.
    pub(super) fn lose_power(&self) {
        let mut state = self.state.lock();
        let State {
            random,
            names,
            durable_names,
            pending_names,
            files,
            ..
        } = &mut *state;
        // Folder changes survive one by one, in order for each name.
        for (path, file) in pending_names.drain(..) {
            if random.random_bool(0.5) {
                match file {
                    Some(file) => durable_names.insert(path, file),
                    None => durable_names.remove(&path),
                };
            }
        }
        *names = durable_names.clone();
        let mode = random.random_range(0..4);
        for file in files.values_mut() {
            let mut changes: Vec<Change> =
                file.pending.drain(..).flat_map(|c| c.sectors()).collect();
            match mode {
                0 => {}
                // A prefix, torn at a sector.
                1 => changes.truncate(random.random_range(0..=changes.len())),
                // Any of them, in order.
                2 => changes.retain(|_| random.random_bool(0.7)),
                // Most recent ones overtake.
                _ => {
                    changes.shuffle(random);
                    changes.truncate(random.random_range(0..=changes.len()));
                }
            }
            for change in &changes {
                change.apply(&mut file.durable);
            }
            file.seen = file.durable.clone();
        }
        state.restart();
    }

    /// What the next process finds after kill -9: everything that was written.
    pub(super) fn kill(&self) {
        self.state.lock().restart();
    }

    /// Damages a byte that is on disk. False when there is no such file or byte.
    pub(super) fn flip(&self, path: &Path, offset: usize) -> bool {
        let mut state = self.state.lock();
        let Some(number) = state.names.get(path).copied() else {
            return false;
        };
        let file = state.files.get_mut(&number).expect("named files exist");
        if offset >= file.seen.len() {
            return false;
        }
        file.seen[offset] ^= 0x10;
        file.durable = file.seen.clone();
        true
    }

    pub(super) fn names(&self) -> Vec<PathBuf> {
        self.state.lock().names.keys().cloned().collect()
    }
}

impl State {
    fn restart(&mut self) {
        self.off = false;
        self.power_off_at = None;
        self.fail_sync_at = None;
        self.room_bytes = u64::MAX;
    }

    /// Counts a changing call; an error once the power is gone. `Ok(true)`: it goes in this one.
    fn operate(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(io::Error::other("power lost"));
        }
        let now = self.operations;
        self.operations += 1;
        self.off = self.power_off_at == Some(now);
        Ok(self.off)
    }
}

struct SimFile {
    number: u64,
    state: Arc<Mutex<State>>,
}

impl Disk for SimDisk {
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        Ok(state
            .names
            .keys()
            .filter(|path| path.parent() == Some(folder))
            .filter_map(|path| path.file_name()?.to_str().map(str::to_owned))
            .collect())
    }

    fn create(&self, path: &Path, size_bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state.lock();
        let last = state.operate()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let number = state.next_file;
        state.next_file += 1;
        state.names.insert(path.to_owned(), number);
        state.pending_names.push((path.to_owned(), Some(number)));
        let file = FileState {
            seen: vec![0; size_bytes as usize],
            durable: Vec::new(),
            // Whether the size survives is as open as everything else; zeros and an end read alike.
            pending: vec![Change::Cut(size_bytes)],
        };
        state.files.insert(number, file);
        if last {
            return Err(io::Error::other("power lost"));
        }
        Ok(Arc::new(SimFile {
            number,
            state: self.state.clone(),
        }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let number = self.state.lock().names.get(path).copied();
        match number {
            Some(number) => Ok(Arc::new(SimFile {
                number,
                state: self.state.clone(),
            })),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let last = state.operate()?;
        state.names.remove(path);
        state.pending_names.push((path.to_owned(), None));
        match last {
            true => Err(io::Error::other("power lost")),
            false => Ok(()),
        }
    }

    fn sync_folder(&self, _folder: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.operate()? {
            return Err(io::Error::other("power lost"));
        }
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }

    fn space(&self, _folder: &Path) -> io::Result<Space> {
        Ok(Space {
            total: 1 << 40,
            available: 1 << 40,
        })
    }

    fn random_id(&self) -> io::Result<[u8; 16]> {
        Ok(self.state.lock().random.random())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state.lock();
        let bytes = &state.files[&self.number].seen;
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_all_at(&self, offset: u64, parts: &[&[u8]]) -> io::Result<()> {
        let mut state = self.state.lock();
        let last = state.operate()?;
        let mut bytes = parts.concat();
        let full = bytes.len() as u64 > state.room_bytes;
        if full {
            bytes.truncate(state.room_bytes as usize);
        } else if last {
            let kept = state.random.random_range(0..=bytes.len());
            bytes.truncate(kept);
        }
        state.room_bytes -= bytes.len() as u64;
        let change = Change::Write(offset, bytes);
        let file = state.files.get_mut(&self.number).expect("files stay");
        change.apply(&mut file.seen);
        file.pending.push(change);
        match (full, last) {
            (true, _) => Err(io::ErrorKind::StorageFull.into()),
            (_, true) => Err(io::Error::other("power lost")),
            _ => Ok(()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        let last = state.operate()?;
        state.syncs += 1;
        let failed = state.fail_sync_at == Some(state.syncs - 1);
        if failed || last {
            return Err(io::Error::other("sync failed"));
        }
        let file = state.files.get_mut(&self.number).expect("files stay");
        file.durable = file.seen.clone();
        file.pending.clear();
        Ok(())
    }

    fn set_len(&self, size_bytes: u64) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.operate()? {
            return Err(io::Error::other("power lost"));
        }
        let file = state.files.get_mut(&self.number).expect("files stay");
        file.seen.resize(size_bytes as usize, 0);
        file.pending.push(Change::Cut(size_bytes));
        Ok(())
    }
}
