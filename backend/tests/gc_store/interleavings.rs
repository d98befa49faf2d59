//! The real code with its operations on the store mixed at random: devices back up, somebody forgets,
//! undeletes and compacts, gc runs (sometimes two at once), time passes, and tasks are dropped half way.
//!
//! The model (`tests/gc_model`) takes surveys in one step; here a survey is as many requests as it really is.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use holdfast_backend::gc::{Rules, Run, Selection, Survey, collect, forget, judge, undelete};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{CommitName, Marks, Moved, Text};
use holdfast_backend::refs::Refs;
use holdfast_crypto::DeviceId;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, IteratorRandom};
use rand::{Rng, SeedableRng};

use super::archive::{A, B, commit, pack, put};
use super::timed::TimedStore;

const GRACE: i64 = 100;
const CHUNKS: u8 = 4;
const SEEDS: u64 = 60;

/// What the test knows beside the store: it stands in for the encrypted contents.
#[derive(Default)]
struct Truth {
    packs: BTreeMap<ObjectName, BTreeSet<u8>>,
    commits: BTreeMap<CommitName, BTreeMap<u8, ObjectName>>,
    moved: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    forgotten: BTreeSet<CommitName>,
    restored: BTreeSet<CommitName>,
}

struct World {
    store: TimedStore,
    truth: RefCell<Truth>,
    random: RefCell<StdRng>,
    care: Care,
    /// Why a gc refused to go on. Only careless devices can bring that about.
    stopped: RefCell<Option<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Devices do as the protocol says.
    Careful,
    /// Devices commit without reading `deleting` after they stored their refs.
    DeletingNotRead,
}

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

impl World {
    fn rules(&self) -> Rules {
        Rules {
            grace: Duration::from_secs(GRACE as u64),
            safety_age: Duration::from_secs(10),
            clock_tolerance: Duration::from_secs(3000),
            ..Rules::at(self.store.now())
        }
    }

    async fn new_pack(&self, chunks: BTreeSet<u8>) -> ObjectName {
        let object = pack();
        self.truth.borrow_mut().packs.insert(object.name(), chunks);
        put(&self.store, &object).await
    }

    fn packs_with(&self, chunk: u8) -> Vec<ObjectName> {
        let truth = self.truth.borrow();
        truth
            .packs
            .iter()
            .filter(|(_, chunks)| chunks.contains(&chunk))
            .map(|(name, _)| *name)
            .collect()
    }

    /// One backup of a few chunks, as `docs/protocol/gc.md` asks for.
    async fn back_up(&self, device: DeviceId) {
        let chunks: BTreeSet<u8> = {
            let mut random = self.random.borrow_mut();
            let count = random.random_range(1..=2);
            (0..CHUNKS)
                .choose_multiple(&mut *random, count)
                .into_iter()
                .collect()
        };
        let Some((mut marks, mut survey)) = self.look().await else {
            return;
        };
        let newest = survey
            .commits()
            .filter(|commit| commit.device == device)
            .map(|commit| commit.sequence)
            .max();
        let sequence = newest.map_or(1, |newest| newest + 1);

        let mut places = BTreeMap::new();
        for chunk in chunks {
            if !marks.is_current(self.store.now(), Duration::from_secs(GRACE as u64)) {
                let Some(again) = self.look().await else {
                    return;
                };
                (marks, survey) = again;
            }
            places.insert(chunk, self.place(&marks, &survey, chunk).await);
        }
        let mut refs = match survey.refs.of(device, sequence).next() {
            None => Refs::full(device, sequence, places.values().copied().collect()),
            Some(earlier) => {
                let before = survey.refs.resolve(&earlier).expect("own bases stand");
                survey.refs.texts()[&earlier].replacing(before, places.values().copied().collect())
            }
        };
        put(&self.store, &refs.to_object()).await;
        loop {
            if self.care == Care::DeletingNotRead {
                break;
            }
            let Some((fresh, survey)) = self.look().await else {
                return;
            };
            let grace = Duration::from_secs(GRACE as u64);
            let now = self.store.now();
            let doubtful =
                fresh.must_be_stored_again(&marks, now, grace, places.values(), |pack| {
                    survey.exists(pack)
                });
            let bad: Vec<(u8, ObjectName)> = places
                .iter()
                .filter(|(_, pack)| doubtful.contains(pack))
                .map(|(chunk, pack)| (*chunk, *pack))
                .collect();
            if bad.is_empty() {
                break;
            }
            let mut add = BTreeSet::new();
            for (chunk, _) in &bad {
                let again = self.new_pack(BTreeSet::from([*chunk])).await;
                places.insert(*chunk, again);
                add.insert(again);
            }
            refs = refs.replacing(bad.into_iter().map(|(_, pack)| pack).collect(), add);
            put(&self.store, &refs.to_object()).await;
            marks = fresh;
        }
        let object = commit(device, sequence);
        let name = object.name().try_into().expect("a commit");
        self.truth.borrow_mut().commits.insert(name, places);
        put(&self.store, &object).await;
    }

    /// Marks, with what kept commits need spared. `None` = gc would stop too; never expected.
    async fn look(&self) -> Option<(Marks, Survey)> {
        let survey = Survey::take(&self.store, self.store.now())
            .await
            .expect("readable");
        let needed = judge(&survey, &self.rules()).ok()?.needed;
        let mut marks = survey.marks.clone();
        marks.spare(needed);
        Some((marks, survey))
    }

    async fn place(&self, marks: &Marks, survey: &Survey, chunk: u8) -> ObjectName {
        let known = self
            .packs_with(chunk)
            .into_iter()
            .find(|pack| survey.exists(pack) && !marks.is_condemned(pack));
        match known {
            Some(pack) => pack,
            None => self.new_pack(BTreeSet::from([chunk])).await,
        }
    }

    async fn forget_one(&self) {
        let commit = {
            let mut truth = self.truth.borrow_mut();
            let commits: Vec<CommitName> = truth.commits.keys().copied().collect();
            let Some(commit) = commits.choose(&mut *self.random.borrow_mut()).copied() else {
                return;
            };
            if !self.store.memory.names().contains(&commit.into())
                || truth.restored.contains(&commit)
            {
                return;
            }
            truth.forgotten.insert(commit);
            commit
        };
        forget(
            &self.store,
            commit.device,
            self.store.now(),
            BTreeSet::from([commit]),
        )
        .await
        .expect("stored");
    }

    async fn undelete_some(&self) {
        let report = undelete(&self.store, A, &self.rules(), &Selection::All).await;
        let Ok(report) = report else {
            panic!("{}", report.expect_err("an error"))
        };
        self.truth.borrow_mut().restored.extend(report.restorable);
    }

    async fn collect(&self) {
        if let Err(error) = collect(&self.store, &self.rules(), Run::Real).await {
            *self.stopped.borrow_mut() = Some(format!("gc stopped: {error}"));
        }
    }

    /// Rewrites one pack for the commits that use it.
    async fn compact(&self) {
        let Some((_, survey)) = self.look().await else {
            return;
        };
        let packs: Vec<ObjectName> = survey
            .objects
            .keys()
            .copied()
            .filter(|name| matches!(name, ObjectName::Pack(_)))
            .collect();
        let Some(old) = packs.choose(&mut *self.random.borrow_mut()).copied() else {
            return;
        };
        let mut chunks = BTreeSet::new();
        let mut seen = BTreeSet::new();
        for commit in survey.commits() {
            let truth = self.truth.borrow();
            let used: Vec<u8> = truth.commits[&commit]
                .iter()
                .filter(|(_, pack)| **pack == old)
                .map(|(chunk, _)| *chunk)
                .collect();
            // It does not read what is forgotten, so it claims nothing for its refs.
            if !used.is_empty() && !truth.forgotten.contains(&commit) {
                chunks.extend(used);
                seen.extend(survey.refs.of(commit.device, commit.sequence));
            }
        }
        if chunks.is_empty() {
            return;
        }
        let new = self.new_pack(chunks).await;
        let n = Marks::read(&self.store, self.store.now())
            .await
            .expect("readable")
            .next_moved_n();
        self.truth
            .borrow_mut()
            .moved
            .entry(old)
            .or_default()
            .insert(new);
        let moves = BTreeMap::from([(old, BTreeSet::from([new]))]);
        let mark = Moved {
            device: A,
            n,
            time: self.store.now(),
            seen,
            moves,
        };
        put(&self.store, &mark.to_object()).await;
    }

    /// Every commit that stands and is kept has all its chunks, and gc can tell so.
    fn check(&self) -> Result<(), String> {
        if let Some(stopped) = self.stopped.take() {
            return Err(stopped);
        }
        let truth = self.truth.borrow();
        let names: BTreeSet<ObjectName> = self.store.memory.names().into_iter().collect();
        let newest = |device| {
            let commits = truth
                .commits
                .keys()
                .filter(|commit| commit.device == device && names.contains(&(**commit).into()));
            commits.map(|commit| commit.sequence).max()
        };
        for (commit, places) in &truth.commits {
            let is_stored = names.contains(&(*commit).into());
            if !is_stored && truth.restored.contains(commit) {
                return Err(format!("{commit} was restored and is gone"));
            }
            let is_kept = !truth.forgotten.contains(commit)
                || truth.restored.contains(commit)
                || newest(commit.device) == Some(commit.sequence);
            if !is_stored || !is_kept {
                continue;
            }
            for (chunk, pack) in places {
                let mut reachable = BTreeSet::from([*pack]);
                loop {
                    let further: BTreeSet<_> = reachable
                        .iter()
                        .filter_map(|pack| truth.moved.get(pack))
                        .flatten()
                        .copied()
                        .collect();
                    let before = reachable.len();
                    reachable.extend(further);
                    if reachable.len() == before {
                        break;
                    }
                }
                let stands =
                    |pack: &&ObjectName| names.contains(pack) && truth.packs[pack].contains(chunk);
                if !reachable.iter().any(|pack| stands(&pack)) {
                    return Err(format!("{commit} has lost chunk {chunk}"));
                }
            }
        }
        Ok(())
    }
}

/// Which task a slot begins next. A device, undelete and compact run once at a time; two gcs may run.
fn begin(world: &World, slot: usize) -> Task<'_> {
    match slot {
        0 => Box::pin(world.back_up(A)),
        1 => Box::pin(world.back_up(B)),
        2 | 3 => Box::pin(world.collect()),
        4 => match world.random.borrow_mut().random_range(0..4) {
            0 => Box::pin(world.undelete_some()),
            1 => Box::pin(world.compact()),
            _ => Box::pin(world.forget_one()),
        },
        _ => unreachable!("there are five slots"),
    }
}

/// Mixes for a while; how many commits gc deleted, or what was lost.
fn run(seed: u64, care: Care) -> Result<usize, String> {
    let world = World {
        store: TimedStore::new(1_000_000),
        truth: RefCell::default(),
        random: RefCell::new(StdRng::seed_from_u64(seed)),
        care,
        stopped: RefCell::default(),
    };
    let mut tasks: [Option<Task<'_>>; 5] = [const { None }; 5];
    // Devices are suspended now and then, for longer than a grace period.
    let mut asleep_until = [0; 2];
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..4000 {
        let (slot, event) = {
            let mut random = world.random.borrow_mut();
            (random.random_range(0..5), random.random_range(0..1000))
        };
        match event {
            0..20 => {
                let seconds = world.random.borrow_mut().random_range(1..40);
                world.store.wait(seconds);
            }
            20..24 => tasks[slot] = None,
            24..34 if slot < 2 => asleep_until[slot] = world.store.now() + GRACE * 2,
            _ if slot < 2 && asleep_until[slot] > world.store.now() => {}
            _ => {
                let task = tasks[slot].get_or_insert_with(|| begin(&world, slot));
                if task.as_mut().poll(&mut context).is_ready() {
                    tasks[slot] = None;
                    world
                        .check()
                        .map_err(|lost| format!("seed {seed}: {lost}"))?;
                }
            }
        }
    }
    let stored = world
        .store
        .memory
        .names()
        .into_iter()
        .filter(|name| matches!(name, ObjectName::Commit { .. }));
    Ok(world.truth.borrow().commits.len() - stored.count())
}

#[test]
fn random_interleavings_lose_nothing() {
    let deleted: usize = (0..SEEDS)
        .map(|seed| run(seed, Care::Careful).expect("nothing is lost"))
        .sum();
    assert!(deleted > 20, "gc did something: {deleted} commits deleted");
}

#[test]
fn random_interleavings_find_a_device_that_does_not_read_deleting() {
    let found = (0..10 * SEEDS).find_map(|seed| run(seed, Care::DeletingNotRead).err());
    println!("{}", found.expect("a chunk is lost"));
}
