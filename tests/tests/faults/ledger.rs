//! Work on a drive with a record of what was acknowledged, and at which level.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::IntoRawFd;
use std::path::Path;

use holdfast_tests::trees::random_bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Content of a file: so many bytes of a seed. A longer one of the same seed begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    seed: u64,
    length: usize,
}

/// What a call that was not answered may have left.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    old: Option<Content>,
    /// `None` where the file was being removed.
    new: Option<Content>,
    /// The new content may be cut short, but not below this.
    shortest: usize,
}

/// What was acknowledged.
pub(crate) struct Ledger {
    random: StdRng,
    next: u64,
    /// Acknowledged states of each name, in order; `None` while there is none.
    states: BTreeMap<String, Vec<Option<Content>>>,
    /// How many of them were there when the drive was last flushed.
    flushed: BTreeMap<String, usize>,
    doubts: BTreeMap<String, Doubt>,
    /// Calls that were answered, by level.
    pub(crate) closed: u64,
    pub(crate) synced: u64,
    pub(crate) flushes: u64,
}

const LENGTHS: [usize; 5] = [10, 5_000, 70_000, 400_000, 3_000_000];
const PIECE_BYTES: usize = 64 << 10;

impl Ledger {
    /// Nothing was done yet. The same seed does the same.
    pub(crate) fn new(seed: u64) -> Ledger {
        Ledger {
            random: StdRng::seed_from_u64(seed),
            next: 1,
            states: BTreeMap::new(),
            flushed: BTreeMap::new(),
            doubts: BTreeMap::new(),
            closed: 0,
            synced: 0,
            flushes: 0,
        }
    }

    /// Works in `drive/current` until a call fails, or so many calls were answered.
    pub(crate) fn work(&mut self, drive: &Path, calls: usize) -> io::Result<()> {
        for _ in 0..calls {
            self.one_call(drive)?;
        }
        Ok(())
    }

    fn one_call(&mut self, drive: &Path) -> io::Result<()> {
        let folder = drive.join("current");
        self.next += 1;
        let length = LENGTHS[self.random.random_range(0..LENGTHS.len())];
        let fresh = Content {
            seed: self.next,
            length,
        };
        let known = self.pick();
        match (self.random.random_range(0..20), known) {
            (0..8, _) | (_, None) => self.create(&folder, format!("f{}", self.next), fresh),
            (8..12, Some((name, old))) => self.replace(&folder, name, old, fresh),
            (12..15, Some((name, old))) => self.append(&folder, name, old),
            (15..18, Some((name, old))) => self.remove(&folder, name, old),
            _ => self.flush(drive),
        }
    }

    /// A file that is there.
    fn pick(&mut self) -> Option<(String, Content)> {
        let there: Vec<(String, Content)> = self
            .states
            .iter()
            .filter_map(|(name, states)| Some((name.clone(), (*states.last()?)?)))
            .collect();
        let at = self.random.random_range(0..there.len().max(1));
        there.into_iter().nth(at)
    }

    fn create(&mut self, folder: &Path, name: String, new: Content) -> io::Result<()> {
        self.doubt(&name, None, Some(new), 0);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(folder.join(&name))?;
        write(&mut file, &random_bytes(new.seed, new.length))?;
        close(file)?;
        self.closed += 1;
        self.acknowledge(name, Some(new));
        Ok(())
    }

    /// As editors do: a new file, then a rename over the old one.
    fn replace(
        &mut self,
        folder: &Path,
        name: String,
        old: Content,
        new: Content,
    ) -> io::Result<()> {
        let temporary = format!("t{}", self.next);
        self.create(folder, temporary.clone(), new)?;
        self.doubt(&temporary, Some(new), None, 0);
        self.doubt(&name, Some(old), Some(new), new.length);
        fs::rename(folder.join(&temporary), folder.join(&name))?;
        self.acknowledge(temporary, None);
        self.acknowledge(name, Some(new));
        Ok(())
    }

    fn append(&mut self, folder: &Path, name: String, old: Content) -> io::Result<()> {
        let new = Content {
            length: old.length + 9_000,
            ..old
        };
        self.doubt(&name, Some(old), Some(new), old.length);
        let mut file = OpenOptions::new().append(true).open(folder.join(&name))?;
        write(&mut file, &random_bytes(new.seed, new.length)[old.length..])?;
        file.sync_all()?;
        self.synced += 1;
        close(file)?;
        self.acknowledge(name, Some(new));
        Ok(())
    }

    fn remove(&mut self, folder: &Path, name: String, old: Content) -> io::Result<()> {
        self.doubt(&name, Some(old), None, 0);
        fs::remove_file(folder.join(&name))?;
        self.acknowledge(name, None);
        Ok(())
    }

    fn flush(&mut self, drive: &Path) -> io::Result<()> {
        File::open(drive)?.sync_all()?;
        self.flushes += 1;
        let counts = self.states.iter();
        self.flushed = counts
            .map(|(name, states)| (name.clone(), states.len()))
            .collect();
        Ok(())
    }

    fn doubt(&mut self, name: &str, old: Option<Content>, new: Option<Content>, shortest: usize) {
        let doubt = Doubt { old, new, shortest };
        self.doubts.insert(name.to_owned(), doubt);
    }

    fn acknowledge(&mut self, name: String, state: Option<Content>) {
        self.doubts.remove(&name);
        self.states.entry(name).or_default().push(state);
    }

    /// After a crash and a new mount: everything that was closed is there as it was, what was under way is a
    /// part of it. Takes what is found as the state to go on from.
    #[track_caller]
    pub(crate) fn check_after_mount(&mut self, drive: &Path) {
        let folder = drive.join("current");
        for (name, states) in &self.states {
            if !self.doubts.contains_key(name) {
                let wanted = states.last().copied().flatten();
                assert!(
                    is(&read(&folder, name), wanted),
                    "{name}: acknowledged was {wanted:?}, found {}",
                    shown(&folder, name)
                );
            }
        }
        for (name, doubt) in std::mem::take(&mut self.doubts) {
            let found = read(&folder, &name);
            let state = doubt
                .explains(&found)
                .unwrap_or_else(|| panic!("{name}: {doubt:?} leaves no {}", shown(&folder, &name)));
            self.states.entry(name).or_default().push(state);
        }
    }

    /// On another computer, from the store alone: each file as it was when the drive was last flushed, or later.
    #[track_caller]
    pub(crate) fn check_recovered(&self, drive: &Path) {
        let folder = drive.join("current");
        for (name, states) in &self.states {
            let first = self.flushed.get(name).map_or(0, |count| count - 1);
            let found = read(&folder, name);
            let was_absent = !self.flushed.contains_key(name) && found.is_none();
            let later = states[first..].iter().any(|state| is(&found, *state));
            let doubted = self.doubts.get(name);
            let doubted = doubted.is_some_and(|doubt| doubt.explains(&found).is_some());
            assert!(
                was_absent || later || doubted,
                "{name}: none of {:?}, found {}",
                &states[first..],
                shown(&folder, name)
            );
        }
    }
}

impl Doubt {
    /// The state that was found, if it is one that may be.
    fn explains(&self, found: &Option<Vec<u8>>) -> Option<Option<Content>> {
        let Some(bytes) = found else {
            return (self.old.is_none() || self.new.is_none()).then_some(None);
        };
        if is(found, self.old) {
            return Some(self.old);
        }
        let new = self.new?;
        let cut = Content {
            length: bytes.len(),
            ..new
        };
        let fits = (self.shortest..=new.length).contains(&cut.length);
        (fits && is(found, Some(cut))).then_some(Some(cut))
    }
}

fn is(found: &Option<Vec<u8>>, wanted: Option<Content>) -> bool {
    match (found, wanted) {
        (None, None) => true,
        (Some(found), Some(wanted)) => *found == random_bytes(wanted.seed, wanted.length),
        _ => false,
    }
}

fn read(folder: &Path, name: &str) -> Option<Vec<u8>> {
    match fs::read(folder.join(name)) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{name}: {error}"),
    }
}

fn shown(folder: &Path, name: &str) -> String {
    read(folder, name).map_or("nothing".into(), |bytes| format!("{} bytes", bytes.len()))
}

fn write(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    bytes
        .chunks(PIECE_BYTES)
        .try_for_each(|piece| file.write_all(piece))
}

/// close(2) with its result, which dropping a file does not show.
pub(crate) fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was ours and is used nowhere else.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
