//! The store, the time and the actors; and what must hold in every state.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use holdfast_backend::gc::{Facts, Rules, Survey, judge};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{
    CommitName, Condemned, Deleting, Forgotten, MarkTexts, Marks, Moved, Pins, Text,
};
use holdfast_backend::refs::Refs;
use holdfast_crypto::{DeviceId, Digest};

use super::actors::{Compact, Device, Gc, Undelete};

pub const GRACE: Duration = Duration::from_secs(2);
pub const A: DeviceId = DeviceId([0xaa; 8]);
pub const B: DeviceId = DeviceId([0xbb; 8]);

/// A safeguard that is left out, to see that the checker misses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flaw {
    RefsReadBeforeDeletingStored,
    DeletingNotRead,
    DeletingReadBeforeRefsStored,
    SameNameStoredAgain,
    OldMarksUsed,
    UndeleteLooksOnce,
    UnseenRefsClaimed,
}

/// Who takes part, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Scenario {
    pub flaw: Option<Flaw>,
    pub a_backs_up: bool,
    pub b_backs_up: bool,
    pub undeletes: bool,
    pub compacts: bool,
    /// A pack that nobody needs appears, so that gc goes on to have work.
    pub litters: bool,
    pub end: i64,
    pub gc_runs: u8,
    pub crashes: u8,
}

impl Scenario {
    const NONE: Self = Scenario {
        flaw: None,
        a_backs_up: false,
        b_backs_up: false,
        undeletes: false,
        compacts: false,
        litters: false,
        end: 3,
        gc_runs: 3,
        crashes: 1,
    };

    pub fn two_devices() -> Self {
        Scenario {
            a_backs_up: true,
            b_backs_up: true,
            gc_runs: 2,
            crashes: 1,
            ..Self::NONE
        }
    }

    pub fn one_device_with_crashes() -> Self {
        Scenario {
            b_backs_up: true,
            crashes: 2,
            ..Self::NONE
        }
    }

    pub fn sleeper() -> Self {
        Scenario {
            b_backs_up: true,
            litters: true,
            end: 7,
            gc_runs: 4,
            crashes: 0,
            ..Self::NONE
        }
    }

    pub fn undelete() -> Self {
        Scenario {
            undeletes: true,
            b_backs_up: true,
            ..Self::NONE
        }
    }

    pub fn compact() -> Self {
        Scenario {
            compacts: true,
            b_backs_up: true,
            end: 4,
            crashes: 0,
            ..Self::NONE
        }
    }
}

/// What a stored object holds. Index and key objects behave as packs do, so the model has packs only.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Content {
    Pack { chunks: BTreeSet<char> },
    Commit { chunk: char, pack: ObjectName },
    Refs(Refs),
    Pins(Pins),
    Forgotten(Forgotten),
    Condemned(Condemned),
    Deleting(Deleting),
    Moved(Moved),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Stored {
    pub at: i64,
    pub content: Rc<Content>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    TimePasses,
    A,
    B,
    Gc,
    Undelete,
    Compact,
    ACrashes,
    BCrashes,
    GcCrashes,
    UndeleteCrashes,
    CompactCrashes,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub scenario: Scenario,
    pub now: i64,
    pub store: BTreeMap<ObjectName, Stored>,
    pub a: Device,
    pub b: Device,
    pub gc: Gc,
    pub undelete: Undelete,
    pub compact: Compact,
    pub crashes: u8,
    /// Commits that undelete said are restored.
    pub promised: BTreeSet<CommitName>,
    /// Makes the bytes, and so the name, of each new pack different.
    pub packs_made: u8,
    surveyed: Surveyed,
}

/// The survey of a state, taken once for all actors. It follows from the rest, so it is no part of the state.
#[derive(Debug, Clone, Default)]
struct Surveyed(Rc<OnceCell<Survey>>);

impl PartialEq for Surveyed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Surveyed {}

impl Hash for Surveyed {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

pub fn commit_name(device: DeviceId, sequence: u64) -> CommitName {
    CommitName {
        device,
        sequence,
        digest: Digest([sequence as u8; 32]),
    }
}

impl World {
    /// Device A has given up its commit 1; `w` is needed by it only. In the pack of `w` is also `x`, which A's
    /// commit 2 needs only where compact takes part.
    pub fn begin(scenario: Scenario) -> Self {
        let mut world = World {
            scenario,
            now: 1,
            store: BTreeMap::new(),
            a: Device::new(A, 3, scenario.a_backs_up),
            b: Device::new(B, 2, scenario.b_backs_up),
            gc: Gc::Idle { runs: 0 },
            undelete: if scenario.undeletes {
                Undelete::Begin
            } else {
                Undelete::Done
            },
            compact: if scenario.compacts {
                Compact::Begin
            } else {
                Compact::Done
            },
            crashes: scenario.crashes,
            promised: BTreeSet::new(),
            packs_made: 0,
            surveyed: Surveyed::default(),
        };
        let mixed = world.store_pack(&['w', 'x']);
        let other = if scenario.compacts {
            mixed
        } else {
            world.store_pack(&['x'])
        };
        let third = world.store_pack(&['y']);
        for (device, sequence, chunk, pack) in
            [(A, 1, 'w', mixed), (A, 2, 'x', other), (B, 1, 'y', third)]
        {
            world.store_text(
                &Refs::full(device, sequence, BTreeSet::from([pack])),
                Content::Refs,
            );
            world.store_commit(device, sequence, chunk, pack);
        }
        let commits = BTreeSet::from([commit_name(A, 1)]);
        world.store_text(
            &Forgotten {
                device: A,
                n: 1,
                time: 1,
                commits,
            },
            Content::Forgotten,
        );
        world.store.values_mut().for_each(|stored| stored.at = 0);
        world.surveyed = Surveyed::default();
        world
    }

    pub fn rules(&self) -> Rules {
        Rules {
            now: self.now,
            grace: GRACE,
            safety_age: Duration::from_secs(1),
            clock_tolerance: Duration::ZERO,
        }
    }

    pub fn has(&self, flaw: Flaw) -> bool {
        self.scenario.flaw == Some(flaw)
    }

    pub fn put(&mut self, name: ObjectName, content: Content) {
        let stored = Stored {
            at: self.now,
            content: Rc::new(content),
        };
        self.store.entry(name).or_insert(stored);
    }

    pub fn store_text<T: Text + Clone>(
        &mut self,
        text: &T,
        content: impl Fn(T) -> Content,
    ) -> ObjectName {
        let name = text.to_object().name();
        self.put(name, content(text.clone()));
        name
    }

    pub fn store_pack(&mut self, chunks: &[char]) -> ObjectName {
        self.packs_made += 1;
        let name = ObjectName::Pack(Digest([self.packs_made; 32]));
        self.put(
            name,
            Content::Pack {
                chunks: chunks.iter().copied().collect(),
            },
        );
        name
    }

    pub fn store_commit(&mut self, device: DeviceId, sequence: u64, chunk: char, pack: ObjectName) {
        self.put(
            commit_name(device, sequence).into(),
            Content::Commit { chunk, pack },
        );
    }

    pub fn packs_with(&self, chunk: char) -> impl Iterator<Item = ObjectName> {
        self.store
            .iter()
            .filter_map(move |(name, stored)| match &*stored.content {
                Content::Pack { chunks } if chunks.contains(&chunk) => Some(*name),
                _ => None,
            })
    }

    /// All that a program finds in the store now.
    pub fn survey(&self) -> Survey {
        self.surveyed.0.get_or_init(|| self.take_survey()).clone()
    }

    fn take_survey(&self) -> Survey {
        let mut texts = MarkTexts::default();
        let mut refs = Vec::new();
        let mut objects = BTreeMap::new();
        for (name, stored) in &self.store {
            match &*stored.content {
                Content::Pack { .. } | Content::Commit { .. } => {}
                Content::Refs(text) => refs.push(text.clone()),
                Content::Pins(text) => texts.pins.push(text.clone()),
                Content::Forgotten(text) => texts.forgotten.push(text.clone()),
                Content::Condemned(text) => texts
                    .condemned
                    .push((text.clone(), stored.at.max(text.time))),
                Content::Deleting(text) => texts.deleting.push(text.clone()),
                Content::Moved(text) => texts.moved.push((text.clone(), stored.at)),
            }
            if matches!(
                &*stored.content,
                Content::Pack { .. } | Content::Commit { .. } | Content::Refs(_)
            ) {
                objects.insert(
                    *name,
                    Facts {
                        size: 1,
                        stored_at: Some(stored.at),
                    },
                );
            }
        }
        let marks =
            Marks::from_texts(texts, self.now).expect("the actors number their marks without gaps");
        Survey {
            objects,
            refs: refs.into_iter().collect(),
            marks,
        }
    }

    pub fn successors(&self) -> Vec<(Action, World)> {
        let mut successors = Vec::new();
        let mut add = |action: Action, step: &dyn Fn(&mut World) -> bool| {
            let mut next = self.clone();
            if step(&mut next) {
                next.surveyed = Surveyed::default();
                successors.push((action, next));
            }
        };
        add(Action::TimePasses, &|world| {
            world.now += 1;
            if world.scenario.litters && world.now == 2 {
                world.store_pack(&[]);
            }
            world.now <= world.scenario.end
        });
        add(Action::A, &|world| Device::step(world, A));
        add(Action::B, &|world| Device::step(world, B));
        add(Action::Gc, &Gc::step);
        add(Action::Undelete, &Undelete::step);
        add(Action::Compact, &Compact::step);
        if self.crashes > 0 {
            add(Action::ACrashes, &|world| {
                world.crash(|world| world.a.crash())
            });
            add(Action::BCrashes, &|world| {
                world.crash(|world| world.b.crash())
            });
            add(Action::GcCrashes, &|world| {
                world.crash(|world| world.gc.crash())
            });
            add(Action::UndeleteCrashes, &|world| {
                world.crash(|world| world.undelete.crash())
            });
            add(Action::CompactCrashes, &|world| {
                world.crash(|world| world.compact.crash())
            });
        }
        successors
    }

    fn crash(&mut self, crash: impl Fn(&mut World) -> bool) -> bool {
        self.crashes -= 1;
        crash(self)
    }

    /// What must hold whatever happened. Written without gc's functions, but for the last rule.
    pub fn check(&self) -> Result<(), String> {
        for (name, stored) in &self.store {
            let Content::Commit { chunk, pack } = &*stored.content else {
                continue;
            };
            let commit = CommitName::try_from(*name).expect("commits have names of commits");
            if self.is_kept(commit) {
                self.check_commit(commit, *chunk, *pack)?;
            }
        }
        let is_gone = |commit: &&CommitName| !self.store.contains_key(&(**commit).into());
        if let Some(commit) = self.promised.iter().find(is_gone) {
            return Err(format!("{commit} was promised by undelete and is gone"));
        }
        // gc must never be stopped by what the protocol itself brings about.
        judge(&self.survey(), &self.rules())
            .map(drop)
            .map_err(|error| format!("gc would stop: {error}"))
    }

    fn check_commit(
        &self,
        commit: CommitName,
        chunk: char,
        pack: ObjectName,
    ) -> Result<(), String> {
        let mut places = BTreeSet::from([pack]);
        for stored in self.store.values() {
            if let Content::Moved(moved) = &*stored.content {
                places.extend(
                    moved
                        .moves
                        .iter()
                        .filter(|(old, _)| **old == pack)
                        .flat_map(|(_, new)| new),
                );
            }
        }
        if !self.packs_with(chunk).any(|pack| places.contains(&pack)) {
            return Err(format!("{commit} has lost its chunk {chunk}"));
        }
        let refs = self.store.values().any(|stored| match &*stored.content {
            Content::Refs(refs) => (refs.device, refs.sequence) == (commit.device, commit.sequence),
            _ => false,
        });
        if refs {
            Ok(())
        } else {
            Err(format!("{commit} has lost its refs"))
        }
    }

    /// Only A's commit 1 is ever forgotten here; undelete's promise counts, its attempt does not.
    fn is_kept(&self, commit: CommitName) -> bool {
        commit != commit_name(A, 1) || self.promised.contains(&commit)
    }
}
