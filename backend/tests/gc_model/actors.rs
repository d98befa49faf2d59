//! What each process does, one operation on the store at a time.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_backend::gc::{
    Selection, deletion_stages, judge, plan_cleaning, plan_condemning, plan_deleting,
    plan_undelete, what_is_lost,
};
use holdfast_backend::layout::ObjectName;
use holdfast_backend::marks::{Condemned, Deleting, MarkTexts, Marks, Moved, Pins};
use holdfast_backend::refs::Refs;
use holdfast_crypto::DeviceId;

use super::world::{A, Content, Flaw, GRACE, World, commit_name};

/// A device that backs up the chunk `w`, which other commits may have stored already.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Device {
    id: DeviceId,
    sequence: u64,
    state: Backup,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Backup {
    Begin,
    /// Marks were read: these packs may be relied on.
    Knows {
        read_at: i64,
        usable: BTreeSet<ObjectName>,
    },
    /// The chunk is in this pack.
    Placed {
        read_at: i64,
        pack: ObjectName,
    },
    /// Refs that name the pack are stored.
    Named {
        read_at: i64,
        pack: ObjectName,
        refs: Refs,
    },
    /// `deleting` was read and does not name it.
    Checked {
        pack: ObjectName,
    },
    Done,
}

const CHUNK: char = 'w';

impl Device {
    pub fn new(id: DeviceId, sequence: u64, backs_up: bool) -> Self {
        Device {
            id,
            sequence,
            state: if backs_up {
                Backup::Begin
            } else {
                Backup::Done
            },
        }
    }

    pub fn crash(&mut self) -> bool {
        let dies = !matches!(self.state, Backup::Begin | Backup::Done);
        self.state = if dies {
            Backup::Begin
        } else {
            self.state.clone()
        };
        dies
    }

    pub fn step(world: &mut World, id: DeviceId) -> bool {
        let mut device = if id == A {
            world.a.clone()
        } else {
            world.b.clone()
        };
        let next = device.next(world);
        let changed = next != device.state;
        device.state = next;
        *(if id == A { &mut world.a } else { &mut world.b }) = device;
        changed
    }

    fn next(&self, world: &mut World) -> Backup {
        match self.state.clone() {
            Backup::Begin => Backup::Knows {
                read_at: world.now,
                usable: usable(world),
            },
            // Between this look at the clock and the moment when the refs arrive, any time may pass: the
            // computer may be suspended, the network may be slow.
            Backup::Knows { read_at, .. } if !is_current(world, read_at) => Backup::Begin,
            Backup::Knows { read_at, usable } => {
                let known = world.packs_with(CHUNK).find(|pack| usable.contains(pack));
                let pack = known.unwrap_or_else(|| world.store_pack(&[CHUNK]));
                Backup::Placed { read_at, pack }
            }
            Backup::Placed { pack, .. } if world.has(Flaw::DeletingReadBeforeRefsStored) => {
                let named = !world.survey().marks.named_in_deleting([&pack]).is_empty();
                if named {
                    return Backup::Begin;
                }
                Backup::Named {
                    read_at: world.now,
                    pack,
                    refs: Refs::full(self.id, self.sequence, BTreeSet::from([pack])),
                }
            }
            Backup::Placed { read_at, pack } => {
                let refs = self.store_refs(world, pack);
                Backup::Named {
                    read_at,
                    pack,
                    refs,
                }
            }
            Backup::Named { refs, pack, .. } if world.has(Flaw::DeletingReadBeforeRefsStored) => {
                world.store_text(&refs, Content::Refs);
                Backup::Checked { pack }
            }
            Backup::Named { pack, .. } if world.has(Flaw::DeletingNotRead) => {
                Backup::Checked { pack }
            }
            Backup::Named {
                read_at,
                pack,
                refs,
            } => self.look_again(world, read_at, pack, refs),
            Backup::Checked { pack } => {
                world.store_commit(self.id, self.sequence, CHUNK, pack);
                Backup::Done
            }
            Backup::Done => Backup::Done,
        }
    }

    /// After a crash, refs of this sequence may be there already: they are replaced.
    fn store_refs(&self, world: &mut World, pack: ObjectName) -> Refs {
        let survey = world.survey();
        let earlier = survey.refs.of(self.id, self.sequence).next();
        let refs = match earlier {
            None => Refs::full(self.id, self.sequence, BTreeSet::from([pack])),
            Some(name) => {
                let text = survey.refs.texts()[&name].clone();
                let before = survey
                    .refs
                    .resolve(&name)
                    .expect("a device's own bases stand");
                if before.contains(&pack) {
                    text
                } else {
                    text.replacing(before, BTreeSet::from([pack]))
                }
            }
        };
        world.store_text(&refs, Content::Refs);
        refs
    }

    fn look_again(&self, world: &mut World, read_at: i64, pack: ObjectName, refs: Refs) -> Backup {
        let survey = world.survey();
        let again = marks_of(world).must_be_stored_again(
            &marks_read_at(world, read_at),
            world.now,
            GRACE,
            [&pack],
            |pack| survey.exists(pack),
        );
        if again.is_empty() {
            return Backup::Checked { pack };
        }
        if world.has(Flaw::SameNameStoredAgain) {
            world.put(
                pack,
                Content::Pack {
                    chunks: BTreeSet::from([CHUNK]),
                },
            );
            return Backup::Checked { pack };
        }
        let again = world.store_pack(&[CHUNK]);
        let refs = refs.replacing(BTreeSet::from([pack]), BTreeSet::from([again]));
        world.store_text(&refs, Content::Refs);
        Backup::Named {
            read_at: world.now,
            pack: again,
            refs,
        }
    }
}

fn is_current(world: &World, read_at: i64) -> bool {
    marks_read_at(world, read_at).is_current(world.now, GRACE)
}

/// Stands for marks that were read earlier: what the device took from them is in its state.
fn marks_read_at(world: &World, read_at: i64) -> Marks {
    let read_at = if world.has(Flaw::OldMarksUsed) {
        world.now
    } else {
        read_at
    };
    Marks::from_texts(MarkTexts::default(), read_at).expect("no marks have no gap")
}

/// The marks as a device reads them now.
fn marks_of(world: &World) -> Marks {
    let survey = world.survey();
    let needed = judge(&survey, &world.rules())
        .expect("checked in every state")
        .needed;
    let mut marks = survey.marks;
    marks.spare(needed);
    marks
}

/// The packs that a device may rely on.
fn usable(world: &World) -> BTreeSet<ObjectName> {
    let marks = marks_of(world);
    let names = world.survey().objects.into_keys();
    names.filter(|name| !marks.is_condemned(name)).collect()
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Gc {
    Idle {
        runs: u8,
    },
    Planned {
        runs: u8,
        due: BTreeSet<ObjectName>,
    },
    Announced {
        runs: u8,
        due: BTreeSet<ObjectName>,
    },
    Deleting {
        runs: u8,
        rest: Vec<ObjectName>,
        condemned: BTreeSet<ObjectName>,
        past: BTreeSet<ObjectName>,
    },
}

impl Gc {
    fn runs(&self) -> u8 {
        match self {
            Gc::Idle { runs }
            | Gc::Planned { runs, .. }
            | Gc::Announced { runs, .. }
            | Gc::Deleting { runs, .. } => *runs,
        }
    }

    pub fn crash(&mut self) -> bool {
        let dies = !matches!(self, Gc::Idle { .. });
        *self = Gc::Idle { runs: self.runs() };
        dies
    }

    pub fn step(world: &mut World) -> bool {
        let (survey, rules, runs) = (world.survey(), world.rules(), world.gc.runs());
        let plan = |plan: Result<BTreeSet<ObjectName>, _>| plan.expect("checked in every state");
        let after_deleting = |deleted: BTreeSet<ObjectName>| {
            let rest = |names: BTreeSet<ObjectName>| names.difference(&deleted).copied().collect();
            let condemned = rest(plan(plan_condemning(&survey, &rules)));
            let past = plan(plan_cleaning(&survey, &rules));
            let rest = deletion_stages(&deleted)
                .concat()
                .into_iter()
                .rev()
                .collect();
            Gc::Deleting {
                runs,
                rest,
                condemned,
                past,
            }
        };
        let before = world.gc.clone();
        world.gc = match before.clone() {
            Gc::Idle { .. } if runs == world.scenario.gc_runs => return false,
            Gc::Idle { .. } => {
                let due = plan(plan_deleting(&survey, &rules));
                if !due.is_empty() {
                    Gc::Planned {
                        runs: runs + 1,
                        due,
                    }
                } else {
                    match after_deleting(due) {
                        Gc::Deleting {
                            condemned, past, ..
                        } if condemned.is_empty() && past.is_empty() => return false,
                        Gc::Deleting {
                            rest,
                            condemned,
                            past,
                            ..
                        } => Gc::Deleting {
                            runs: runs + 1,
                            rest,
                            condemned,
                            past,
                        },
                        other => other,
                    }
                }
            }
            Gc::Planned { due, .. } => {
                let n = survey.marks.next_deleting_n();
                world.store_text(
                    &Deleting {
                        n,
                        time: world.now,
                        names: due.clone(),
                    },
                    Content::Deleting,
                );
                if world.has(Flaw::RefsReadBeforeDeletingStored) {
                    after_deleting(due)
                } else {
                    Gc::Announced { runs, due }
                }
            }
            Gc::Announced { due, .. } => {
                let still_due = plan(plan_deleting(&survey, &rules));
                after_deleting(due.intersection(&still_due).copied().collect())
            }
            Gc::Deleting {
                mut rest,
                condemned,
                past,
                ..
            } => match rest.pop() {
                Some(name) => {
                    world.store.remove(&name);
                    Gc::Deleting {
                        runs,
                        rest,
                        condemned,
                        past,
                    }
                }
                None if !condemned.is_empty() => {
                    let n = survey.marks.next_condemned_n();
                    world.store_text(
                        &Condemned {
                            n,
                            time: world.now,
                            names: condemned,
                        },
                        Content::Condemned,
                    );
                    Gc::Deleting {
                        runs,
                        rest,
                        condemned: BTreeSet::new(),
                        past,
                    }
                }
                None => {
                    world.store.retain(|name, _| !past.contains(name));
                    Gc::Idle { runs }
                }
            },
        };
        world.gc != before
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Undelete {
    Begin,
    Chosen,
    Pinned,
    Done,
}

impl Undelete {
    pub fn crash(&mut self) -> bool {
        let dies = matches!(self, Undelete::Chosen | Undelete::Pinned);
        *self = if dies { Undelete::Begin } else { *self };
        dies
    }

    pub fn step(world: &mut World) -> bool {
        let (survey, rules, commit) = (world.survey(), world.rules(), commit_name(A, 1));
        let these = BTreeSet::from([commit]);
        let pins = |keep, release| Pins {
            device: A,
            n: survey.marks.next_pins_n(),
            time: rules.now,
            keep,
            release,
        };
        world.undelete = match world.undelete {
            Undelete::Begin => {
                let plan = plan_undelete(&survey, &rules, &Selection::All)
                    .expect("checked in every state");
                if plan.restorable.contains(&commit) {
                    Undelete::Chosen
                } else {
                    Undelete::Done
                }
            }
            Undelete::Chosen => {
                world.store_text(&pins(these, BTreeSet::new()), Content::Pins);
                Undelete::Pinned
            }
            Undelete::Pinned => {
                let lost = what_is_lost(&survey, &commit);
                if lost.is_none() || world.has(Flaw::UndeleteLooksOnce) {
                    world.promised.insert(commit);
                } else {
                    world.store_text(&pins(BTreeSet::new(), these), Content::Pins);
                }
                Undelete::Done
            }
            Undelete::Done => return false,
        };
        true
    }
}

/// Rewrites the pack that holds `w` and `x` for those refs that it sees.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Compact {
    Begin,
    Seen {
        old: ObjectName,
        seen: BTreeSet<ObjectName>,
        chunks: Vec<char>,
    },
    Copied {
        old: ObjectName,
        seen: BTreeSet<ObjectName>,
        chunks: Vec<char>,
        new: ObjectName,
    },
    Moved {
        seen: BTreeSet<ObjectName>,
        chunks: Vec<char>,
        new: ObjectName,
    },
    Done,
}

impl Compact {
    pub fn crash(&mut self) -> bool {
        let dies = !matches!(self, Compact::Begin | Compact::Done);
        *self = if dies { Compact::Begin } else { self.clone() };
        dies
    }

    pub fn step(world: &mut World) -> bool {
        let survey = world.survey();
        let mark = |old, new, seen| Moved {
            device: A,
            n: survey.marks.next_moved_n(),
            time: world.now,
            seen,
            moves: BTreeMap::from([(old, BTreeSet::from([new]))]),
        };
        world.compact = match world.compact.clone() {
            Compact::Begin => see(world),
            Compact::Seen { old, seen, chunks } => {
                let new = world.store_pack(&chunks);
                Compact::Copied {
                    old,
                    seen,
                    chunks,
                    new,
                }
            }
            Compact::Copied {
                old,
                mut seen,
                chunks,
                new,
            } => {
                if world.has(Flaw::UnseenRefsClaimed) {
                    seen.extend(survey.refs.texts().keys());
                }
                let mark = mark(old, new, seen.clone());
                world.store_text(&mark, Content::Moved);
                Compact::Moved { seen, chunks, new }
            }
            // The new pack waited so long for its mark that a gc is about to delete it: once more.
            Compact::Moved { seen, chunks, new } => {
                match survey.marks.named_in_deleting([&new]).is_empty() {
                    true => Compact::Done,
                    false => {
                        let again = world.store_pack(&chunks);
                        Compact::Copied {
                            old: new,
                            seen,
                            chunks,
                            new: again,
                        }
                    }
                }
            }
            Compact::Done => return false,
        };
        true
    }
}

/// What compact copies: the chunks of the commits whose refs name the old pack. Refs without a commit it
/// cannot see through, so it does not claim them.
fn see(world: &World) -> Compact {
    let survey = world.survey();
    let Some(old) = world.packs_with('x').next() else {
        return Compact::Done;
    };
    let mut chunks = Vec::new();
    let mut seen = BTreeSet::new();
    for stored in world.store.iter() {
        let (name, Content::Commit { chunk, pack }) = (stored.0, &*stored.1.content) else {
            continue;
        };
        let ObjectName::Commit {
            device, sequence, ..
        } = *name
        else {
            continue;
        };
        // The forgotten commit's chunk is what compacting gets rid of.
        if *pack == old && (device, sequence) != (A, 1) {
            chunks.push(*chunk);
            seen.extend(survey.refs.of(device, sequence));
        }
    }
    Compact::Seen { old, seen, chunks }
}
