//! Every kind of change is found and the first bad line named; no line, no act.

use std::fs;
use std::process::Command;

use proptest::prelude::*;
use tempfile::TempDir;

use super::verify::{Wrong, file};
use super::*;
use crate::names::HexBytes;

struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("audit.log")
    }

    fn open(&self) -> AuditLog {
        AuditLog::open(&self.path()).unwrap()
    }

    /// A log of so many lines, all different.
    fn log_of(&self, lines: u64) -> AuditLog {
        let log = self.open();
        for share in 0..lines {
            log.append(&actor(), event(share)).unwrap();
        }
        log
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, lines: &[String]) {
        fs::write(self.path(), lines.join("\n") + "\n").unwrap();
    }

    fn finding(&self, known: Option<Head>) -> Option<(u64, Wrong)> {
        let report = file(&self.path(), known).unwrap();
        report.finding.map(|finding| (finding.line, finding.wrong))
    }
}

fn actor() -> Actor {
    Actor {
        name: Some("alice".parse().unwrap()),
        address: Some("192.0.2.7".parse().unwrap()),
    }
}

fn event(number: u64) -> Event {
    match number % 3 {
        0 => Event::ShareAccepted {
            kind: Ceremony::Unseal,
            share: number as u8,
            have: 1,
            need: 3,
        },
        1 => Event::CeremonyStarted {
            kind: Ceremony::Unseal,
            ceremony: HexBytes([number as u8; 16]),
        },
        _ => Event::ServerStarted,
    }
}

#[test]
fn a_log_goes_on_where_it_ended_and_is_good() {
    let folder = Folder::new();
    let head = folder.log_of(5).head();
    let log = folder.open();
    assert_eq!(log.head(), head);
    log.append(&Actor::SERVER, Event::ServerEnding).unwrap();
    assert_eq!(log.verify().unwrap().finding, None);
    assert_eq!(log.head().sequence, 6);
    let tail = log.tail(2).unwrap();
    assert_eq!(tail.len(), 2);
    assert_eq!((tail[0].sequence, &tail[0].by), (5, &actor().name));
    assert_eq!(
        (tail[1].sequence, &tail[1].event),
        (6, &Event::ServerEnding)
    );
    assert_eq!(log.tail(100).unwrap().len(), 6);
    // Longer than one block.
    for number in 0..600 {
        log.append(&actor(), event(number)).unwrap();
    }
    let tail = log.tail(550).unwrap();
    assert_eq!((tail.len(), tail[0].sequence), (550, 57));
}

/// Each line in turn: one character changed, the line removed, moved to another place, doubled, exchanged with its neighbour.
#[test]
fn the_first_bad_line_is_named_whatever_was_done_to_it() {
    let folder = Folder::new();
    let head = folder.log_of(9).head();
    let good = folder.lines();
    assert_eq!(folder.finding(Some(head)), None);
    for place in 0..good.len() {
        let number = place as u64 + 1;
        let mut lines = good.clone();
        lines[place] = lines[place].replace("alice", "mallo");
        folder.write(&lines);
        assert_eq!(
            folder.finding(Some(head)),
            Some((number, Wrong::Changed)),
            "changed {number}"
        );

        let mut lines = good.clone();
        lines.remove(place);
        folder.write(&lines);
        assert_eq!(
            folder.finding(Some(head)),
            Some((number, Wrong::Missing)),
            "missing {number}"
        );

        let mut lines = good.clone();
        lines.insert(place, good[place].clone());
        folder.write(&lines);
        assert_eq!(
            folder.finding(Some(head)),
            Some((number, Wrong::Moved)),
            "doubled {number}"
        );

        for to in (0..good.len()).filter(|to| *to > place) {
            let mut lines = good.clone();
            let line = lines.remove(place);
            lines.insert(to, line);
            folder.write(&lines);
            assert_eq!(
                folder.finding(Some(head)),
                Some((number, Wrong::Moved)),
                "{place} to {to}"
            );
        }
    }
}

/// A line cannot be rewritten with the hashes after it put right, because the head is known elsewhere.
#[test]
fn a_log_that_was_written_anew_or_cut_short_is_found_against_a_head() {
    let folder = Folder::new();
    let head = folder.log_of(4).head();
    let good = folder.lines();
    folder.write(&good[..2]);
    assert_eq!(
        folder.finding(None),
        None,
        "a log cut short is a good log by itself"
    );
    assert_eq!(folder.finding(Some(head)), Some((3, Wrong::Missing)));
    // Another history of the same length.
    fs::remove_file(folder.path()).unwrap();
    let log = folder.open();
    for _ in 0..4 {
        log.append(&Actor::SERVER, Event::ServerStarted).unwrap();
    }
    assert_eq!(folder.finding(None), None);
    assert_eq!(folder.finding(Some(head)), Some((4, Wrong::Changed)));
}

/// Every event is read again as it was written: a field that hides one of the line's own would break the chain.
#[test]
fn every_event_is_read_again() {
    use super::event::{AccessRefusal, CallName, SealReason, ShareRefusal};
    use crate::names::Role;
    let (kind, id, hash) = (Ceremony::Reshare, HexBytes([1; 16]), HexBytes([2; 32]));
    let name: crate::names::PersonName = "bob".parse().unwrap();
    let fingerprint = hash;
    let events = [
        Event::ServerStarted,
        Event::TornLineRemoved { bytes: u64::MAX },
        Event::ServerEnding,
        Event::AuditResumed,
        Event::CallAllowed {
            call: CallName::of("init"),
        },
        Event::AccessRefused {
            call: CallName::of("init"),
            reason: AccessRefusal::Role,
            fingerprint: Some(hash),
        },
        Event::Initialised {
            cluster: id,
            epoch: u64::MAX,
            threshold: 3,
            shares: 5,
        },
        Event::CeremonyStarted { kind, ceremony: id },
        Event::CeremonyCancelled { kind, ceremony: id },
        Event::CeremonyExpired { kind },
        Event::ShareAccepted {
            kind,
            share: 1,
            have: 2,
            need: 3,
        },
        Event::ShareRefused {
            kind,
            share: None,
            reason: ShareRefusal::Wrong,
        },
        Event::ShareVerified {
            share: Some(1),
            refused: None,
        },
        Event::Unsealed {
            epoch: 1,
            generation: u64::MAX,
        },
        Event::UnsealFailed,
        Event::Sealed {
            reason: SealReason::Ending,
        },
        Event::Reshared {
            epoch: 1,
            threshold: 2,
            shares: 3,
        },
        Event::DataKeyRotated { term: 2 },
        Event::PersonAdded {
            name: name.clone(),
            role: Role::Holder,
            fingerprint,
        },
        Event::PersonRemoved { name, fingerprint },
        Event::PersonsChangedOutside,
        Event::DatabaseRolledBack {
            generation: 1,
            expected: 2,
        },
        Event::AuditLogCutShort { line: 1 },
        Event::HeadRemembered {
            line: 1,
            hash,
            generation: 2,
        },
        Event::SnapshotSaved { epoch: 1, bytes: 2 },
        Event::SnapshotOverdue,
        Event::SnapshotRestored {
            cluster: id,
            epoch: 1,
        },
    ];
    for event in events {
        let line = Line::after(&Head::EMPTY, Timestamp::UNIX_EPOCH, &actor(), event);
        assert_eq!(Line::parse(&line.to_bytes()), Some(line));
    }
}

#[test]
fn nothing_can_hide_in_a_line() {
    let folder = Folder::new();
    let log = folder.log_of(2);
    let good = folder.lines();
    for bad in [
        good[0].replacen('{', "{\"note\":\"free text\",", 1),
        good[0].replacen(',', ", ", 1),
        "x".repeat(10_000),
        String::new(),
        "{}".to_owned(),
        "[".repeat(5_000),
    ] {
        folder.write(&[bad.clone(), good[1].clone()]);
        assert_eq!(folder.finding(None), Some((1, Wrong::Changed)), "{bad}");
    }
    drop(log);
    assert!(matches!(
        AuditLog::open(&folder.path()),
        Err(OpenError::Broken { .. })
    ));
}

#[test]
fn a_torn_last_line_is_removed_and_told() {
    let folder = Folder::new();
    drop(folder.log_of(3));
    let whole = fs::read(folder.path()).unwrap();
    let line = folder.lines()[2].len();
    for cut in 1..=line {
        fs::write(folder.path(), &whole[..whole.len() - cut]).unwrap();
        let log = folder.open();
        assert_eq!(log.head().sequence, 3);
        assert_eq!(
            log.tail(1).unwrap()[0].event,
            Event::TornLineRemoved {
                bytes: (line + 1 - cut) as u64
            }
        );
        assert_eq!(log.verify().unwrap().finding, None);
    }
}

#[test]
fn no_line_is_written_when_the_file_is_deleted_replaced_or_cut() {
    type Attack = fn(&Path);
    let attacks: [(Trouble, Attack); 4] = [
        (Trouble::Deleted, |path| fs::remove_file(path).unwrap()),
        (Trouble::Replaced, |path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(&copy, path).unwrap();
        }),
        (Trouble::ChangedByOthers, |path| {
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.set_len(10).unwrap();
        }),
        (Trouble::ChangedByOthers, |path| {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            file.write_all(b"more\n").unwrap();
        }),
    ];
    for (trouble, attack) in attacks {
        let folder = Folder::new();
        let log = folder.log_of(3);
        assert_eq!(log.trouble(), None);
        attack(&folder.path());
        assert_eq!(log.trouble(), Some(trouble), "noticed without a line");
        let refused = log.append(&actor(), event(9)).unwrap_err();
        assert_eq!(refused.trouble, trouble);
        // It does not heal by itself: the lines in between would be lost.
        fs::write(folder.path(), "").unwrap();
        assert!(log.append(&actor(), event(9)).is_err());
        assert_eq!(log.head().sequence, 3);
    }
}

/// A mounted file system of a few pages; unmounted also when the test fails.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> SmallDisk {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "holdfast-test"])
            .arg(folder.path())
            .status()
            .expect("mount can be started");
        assert!(
            mounted.success(),
            "this test mounts a small tmpfs: run it as root"
        );
        SmallDisk(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[test]
fn a_full_disk_stops_every_act_and_is_over_when_there_is_room() {
    let disk = SmallDisk::new();
    let path = disk.0.path().join("audit.log");
    let log = AuditLog::open(&path).unwrap();
    log.append(&actor(), event(0)).unwrap();
    let filler = disk.0.path().join("filler");
    // Fails when the disk is full, which is what we want.
    let _ = fs::write(&filler, vec![0; 64 << 10]);
    let mut written = log.head().sequence;
    let refused = loop {
        match log.append(&actor(), event(1)) {
            Ok(line) => written = line.sequence,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.trouble, Trouble::NoSpace);
    assert_eq!(log.trouble(), Some(Trouble::NoSpace));
    fs::remove_file(&filler).unwrap();
    assert_eq!(
        log.append(&actor(), event(2)).unwrap().sequence,
        written + 1
    );
    assert_eq!(log.trouble(), None);
    let report = log.verify().unwrap();
    assert_eq!((report.finding, report.head.sequence), (None, written + 1));
}

proptest! {
    /// Hostile bytes are never a panic, and never a good log with a line that we did not write.
    #[test]
    fn any_bytes_can_be_walked(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        let walked = verify::walk(&mut bytes.as_slice()).unwrap();
        prop_assert_eq!(walked.head.sequence, 0);
    }

    /// One changed byte anywhere is found against the head.
    #[test]
    fn any_changed_byte_is_found(place in 0_usize..2_000, with in 1_u8..=255) {
        let folder = Folder::new();
        let head = folder.log_of(4).head();
        let mut bytes = fs::read(folder.path()).unwrap();
        let place = place % bytes.len();
        bytes[place] ^= with;
        fs::write(folder.path(), &bytes).unwrap();
        prop_assert!(folder.finding(Some(head)).is_some());
    }
}
