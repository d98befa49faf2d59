//! The state machine against its promises.

use std::sync::Arc;

use super::*;
use holdfast_crypto::Share;
use proptest::prelude::*;

mod crashes;
mod tampering;

const HOLDERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const HOUR: i64 = 3_600;

fn plan(threshold: u8, holders: &[&str]) -> InitPlan {
    InitPlan::new(
        threshold,
        holders.iter().map(|name| (*name).to_owned()).collect(),
    )
    .unwrap()
}

fn texts(shares: Vec<Share>) -> Vec<String> {
    shares
        .iter()
        .map(|share| share.to_printed().to_string())
        .collect()
}

fn new() -> (Arc<MemoryRecords>, Keystore<Sealed>, Vec<String>) {
    let store = Arc::new(MemoryRecords::new());
    let (keystore, shares) = initialise(store.clone(), None, &plan(3, &HOLDERS), 0).unwrap();
    (store, keystore, texts(shares))
}

fn path(text: &str) -> RecordPath {
    text.parse().unwrap()
}

/// Submits by number, from 0; gives the open keystore or what the last share came to.
fn open(
    mut keystore: Keystore<Sealed>,
    shares: &[String],
    places: &[usize],
) -> Result<Keystore<Unsealed>, String> {
    let ceremony = keystore.start_unseal(0, HOUR).unwrap();
    let quoted = (ceremony.id(), ceremony.digest());
    for place in places {
        let submission =
            keystore.submit((&quoted.0, &quoted.1), HOLDERS[*place], &shares[*place], 1);
        keystore = match submission {
            Submission::Waiting(keystore, _) => keystore,
            Submission::Unsealed(keystore, _) => return Ok(keystore),
            Submission::Refused(_, refusal) => return Err(format!("{refusal:?}")),
            Submission::Failed(_, error) => return Err(error.to_string()),
        };
    }
    Err("waiting".to_owned())
}

fn load_sealed(store: &Arc<MemoryRecords>) -> Keystore<Sealed> {
    load(store.clone()).unwrap().unwrap()
}

/// The first three holders of the old shares agree.
fn reshare(
    keystore: &mut Keystore<Unsealed>,
    old: &[String],
    plan: &InitPlan,
    holders: &[&str],
) -> Vec<String> {
    let shares = texts(keystore.start_reshare(plan, 0, HOUR).unwrap());
    let ceremony = keystore.reshare().unwrap();
    let quoted = (ceremony.id(), ceremony.digest());
    let agreeing = HOLDERS.iter().zip(old).take(3);
    for (holder, share) in agreeing.chain(holders.iter().zip(&shares)) {
        keystore
            .submit_reshare((&quoted.0, &quoted.1), holder, share, 1)
            .unwrap()
            .unwrap();
    }
    shares
}

/// All 10 triples open, in all orders; a pair only waits.
#[test]
fn any_three_of_five_open_it() {
    let (store, _, shares) = new();
    for a in 0..5 {
        for b in (0..5).filter(|b| *b != a) {
            assert_eq!(
                open(load_sealed(&store), &shares, &[a, b]).err().unwrap(),
                "waiting"
            );
            for c in (0..5).filter(|c| *c != a && *c != b) {
                open(load_sealed(&store), &shares, &[a, b, c]).unwrap();
            }
        }
    }
}

/// What is refused takes nothing away, and is refused for its own reason.
#[test]
fn a_refused_share_changes_nothing() {
    let (_, mut keystore, shares) = new();
    let (_, _, foreign) = new();
    let ceremony = keystore.start_unseal(0, HOUR).unwrap();
    let quoted = (ceremony.id(), ceremony.digest());
    let quoted = (&quoted.0, &quoted.1);
    let Submission::Waiting(mut keystore, progress) = keystore.submit(quoted, "a", &shares[0], 1)
    else {
        panic!("it counts");
    };
    assert_eq!(
        progress,
        Progress {
            share: 1,
            have: 1,
            need: 3
        }
    );
    let other = [1; 32];
    let tries = [
        (quoted, "a", &shares[0], RefusalReason::Repeated),
        (quoted, "a", &shares[1], RefusalReason::OtherHolder),
        (quoted, "b", &foreign[1], RefusalReason::Foreign),
        (
            quoted,
            "b",
            &"hfs1nonsense".to_owned(),
            RefusalReason::Unreadable,
        ),
        (
            (quoted.0, &other),
            "b",
            &shares[1],
            RefusalReason::NoSuchCeremony,
        ),
    ];
    for (quoted, holder, share, reason) in tries {
        let Submission::Refused(same, refusal) = keystore.submit(quoted, holder, share, 1) else {
            panic!("{reason:?}");
        };
        assert_eq!(refusal.reason, reason);
        keystore = same;
        assert_eq!(keystore.ceremony().unwrap().have(), [1]);
    }
    let Submission::Refused(mut keystore, refusal) = keystore.submit(quoted, "b", &shares[1], HOUR)
    else {
        panic!("the time is over");
    };
    assert_eq!(refusal.reason, RefusalReason::NoSuchCeremony);
    assert!(keystore.expire(HOUR));
    assert!(keystore.ceremony().is_none());
}

#[test]
fn records_are_read_as_they_were_written_after_sealing_and_rotating() {
    let (store, keystore, shares) = new();
    let mut keystore = open(keystore, &shares, &[0, 1, 2]).unwrap();
    keystore.write(&path("x/1"), b"one", None).unwrap();
    assert!(keystore.write(&path("x/1"), b"again", None).is_err());
    assert_eq!(keystore.rotate_data_key(5).unwrap(), 2);
    keystore.write(&path("x/2"), b"two", None).unwrap();
    let version = keystore.version(&path("x/1"));
    keystore.write(&path("x/1"), b"new", version).unwrap();
    let version = keystore.version(&path("x/2")).unwrap();
    keystore.delete(&path("x/2"), version).unwrap();
    assert!(keystore.write(&path("seal/header"), b"", None).is_err());
    drop(keystore.seal());
    let keystore = open(load_sealed(&store), &shares, &[2, 3, 4]).unwrap();
    assert_eq!(
        keystore.read(&path("x/1")).unwrap().unwrap().as_slice(),
        b"new"
    );
    assert!(keystore.read(&path("x/2")).unwrap().is_none());
    assert_eq!(keystore.list("x/"), [path("x/1")]);
    assert_eq!((keystore.term(), keystore.term_created()), (2, 5));
}

/// All of them or none, in one buckets or in several, and all of it is there after it was opened again.
#[test]
fn writes_that_belong_together_are_done_together() {
    let (store, keystore, shares) = new();
    let mut keystore = open(keystore, &shares, &[0, 1, 2]).unwrap();
    let paths: Vec<RecordPath> = (0..200).map(|i| path(&format!("many/{i}"))).collect();
    let all = |plaintext: &'static [u8], keystore: &Keystore<Unsealed>| -> Vec<_> {
        let write = |path| RecordWrite {
            path,
            plaintext,
            expected: keystore.version(path),
        };
        paths.iter().map(write).collect()
    };
    let writes = all(b"first", &keystore);
    let generation = keystore.generation();
    keystore.write_all(&writes).unwrap();
    assert_eq!(keystore.generation(), generation + 1);
    // One that expects something else: nothing is written.
    let mut writes = all(b"second", &keystore);
    writes[150].expected = None;
    assert!(keystore.write_all(&writes).is_err());
    let twice = [all(b"second", &keystore)[7]; 2];
    assert!(keystore.write_all(&twice).is_err());
    let seal = path("seal/header");
    let forbidden = RecordWrite {
        path: &seal,
        plaintext: b"",
        expected: None,
    };
    assert!(keystore.write_all(&[forbidden]).is_err());
    drop(keystore.seal());
    let keystore = open(load_sealed(&store), &shares, &[2, 3, 4]).unwrap();
    for path in &paths {
        let read = keystore.read(path).unwrap().unwrap();
        assert_eq!(read.as_slice(), b"first", "{path}");
    }
}

/// Each record of the database in turn: edited, cut, removed, put back from before, exchanged with another one. Nothing of it is ever read.
#[test]
fn a_database_that_was_tampered_with_is_refused() {
    let (store, keystore, shares) = new();
    let mut keystore = open(keystore, &shares, &[0, 1, 2]).unwrap();
    for record in ["x/1", "x/2", "y"] {
        keystore.write(&path(record), b"first", None).unwrap();
    }
    let mut old = Vec::new();
    store.snapshot(&mut old).unwrap();
    for record in ["x/1", "x/2", "y"] {
        let version = keystore.version(&path(record));
        keystore.write(&path(record), b"second", version).unwrap();
    }
    keystore.rotate_data_key(1).unwrap();
    let mut good = Vec::new();
    store.snapshot(&mut good).unwrap();
    let before = restored(&old);
    let all = restored(&good).scan("", None, 1_000).unwrap();
    assert!(all.len() > 6);
    for record in &all {
        let whole = restored(&good).get(record).unwrap().unwrap();
        let mut attacks: Vec<Option<StoredRecord>> = vec![None];
        for byte in [0, whole.value.len() / 2, whole.value.len() - 1] {
            let mut edited = whole.clone();
            edited.value[byte] ^= 1;
            attacks.push(Some(edited));
        }
        let mut cut = whole.clone();
        cut.value.truncate(cut.value.len() - 1);
        attacks.push(Some(cut));
        for other in [
            before.get(record).unwrap(),
            restored(&good).get(&path("y")).unwrap(),
        ]
        .into_iter()
        .flatten()
        {
            // With its own version, and with the one that is expected.
            attacks.push(Some(StoredRecord {
                version: whole.version,
                ..other.clone()
            }));
            attacks.push(Some(other));
        }
        for attack in attacks
            .into_iter()
            .filter(|attack| attack.as_ref() != Some(&whole))
        {
            let store = restored(&good);
            let change = Change {
                path: record.clone(),
                expected: Some(whole.version),
                put: attack,
            };
            store.apply(&[change]).unwrap();
            assert!(!reads_everything(store, &shares), "{record}");
        }
    }
    assert!(reads_everything(restored(&good), &shares));
    // A record that was deleted is not there again because its bytes are.
    let version = keystore.version(&path("y")).unwrap();
    let bytes = store.get(&path("y")).unwrap();
    keystore.delete(&path("y"), version).unwrap();
    store
        .apply(&[Change {
            path: path("y"),
            expected: None,
            put: bytes,
        }])
        .unwrap();
    let keystore = open(load_sealed(&store), &shares, &[0, 1, 2]).unwrap();
    assert!(keystore.read(&path("y")).unwrap().is_none());
}

fn restored(snapshot: &[u8]) -> Arc<MemoryRecords> {
    let store = Arc::new(MemoryRecords::new());
    store.restore(&mut &*snapshot).unwrap();
    store
}

fn reads_everything(store: Arc<MemoryRecords>, shares: &[String]) -> bool {
    let Ok(Some(keystore)) = load(store) else {
        return false;
    };
    let Ok(keystore) = open(keystore, shares, &[0, 1, 2]) else {
        return false;
    };
    ["x/1", "x/2", "y"]
        .iter()
        .all(|record| match keystore.read(&path(record)) {
            Ok(Some(read)) => read.as_slice() == b"second",
            _ => false,
        })
}

/// Whoever starts a reshare, and hands all new shares to himself, changes nothing: as many holders of the old shares
/// have to agree as open the keystore, each over his own certificate and each once.
#[test]
fn reshare_needs_the_holders_of_the_old_shares() {
    let (store, keystore, old) = new();
    let mut keystore = open(keystore, &old, &[0, 1, 2]).unwrap();
    let mine = ["mallory", "mallory too"];
    let new = texts(keystore.start_reshare(&plan(2, &mine), 0, HOUR).unwrap());
    let ceremony = keystore.reshare().unwrap();
    let quoted = (ceremony.id(), ceremony.digest());
    let submit = |keystore: &mut Keystore<Unsealed>, holder: &str, share: &str| {
        keystore
            .submit_reshare((&quoted.0, &quoted.1), holder, share, 1)
            .unwrap()
    };
    for (holder, share) in mine.iter().zip(&new) {
        let taken = submit(&mut keystore, holder, share);
        assert!(matches!(taken, Ok(NewSubmission::Waiting(_))));
    }
    let reason = |refused: Result<NewSubmission, Refusal>| refused.unwrap_err().reason;
    for share in &old {
        let taken = submit(&mut keystore, "mallory", share);
        assert_eq!(reason(taken), RefusalReason::OtherHolder);
    }
    for place in [4, 2] {
        let taken = submit(&mut keystore, HOLDERS[place], &old[place]);
        assert!(matches!(taken, Ok(NewSubmission::Waiting(_))));
        let again = submit(&mut keystore, HOLDERS[place], &old[place]);
        assert_eq!(reason(again), RefusalReason::Repeated);
    }
    assert_eq!(keystore.header().epoch, 1);
    assert_eq!(keystore.reshare().unwrap().approved(), [3, 5]);
    assert!(open(load_sealed(&store), &old, &[0, 1, 2]).is_ok());
    let last = submit(&mut keystore, HOLDERS[0], &old[0]).unwrap();
    let progress = Progress {
        share: 1,
        have: 5,
        need: 5,
    };
    assert_eq!(last, NewSubmission::Reshared(progress));
    assert_eq!(keystore.header().epoch, 2);
}

#[test]
fn reshare_needs_every_new_share_and_then_the_old_ones_are_void() {
    let (store, keystore, old) = new();
    let mut keystore = open(keystore, &old, &[0, 1, 2]).unwrap();
    keystore.write(&path("x"), b"kept", None).unwrap();
    let generation = keystore.generation();
    // Given up: nothing has changed.
    keystore
        .start_reshare(&plan(2, &["a", "b"]), 0, HOUR)
        .unwrap();
    let id = keystore.reshare().unwrap().id();
    keystore.cancel_reshare(&id).unwrap();
    assert!(open(load_sealed(&store), &old, &[0, 1, 2]).is_ok());
    let new = reshare(
        &mut keystore,
        &old,
        &plan(2, &["a", "b", "c"]),
        &["a", "b", "c"],
    );
    assert_eq!(
        (keystore.header().epoch, keystore.header().threshold),
        (2, 2)
    );
    assert!(keystore.generation() > generation);
    drop(keystore);
    let refused = open(load_sealed(&store), &old, &[0, 1, 2]).err().unwrap();
    assert!(
        refused.contains("OtherEpoch { of: 1, needed: 2 }"),
        "{refused}"
    );
    let keystore = open(load_sealed(&store), &new, &[2, 0]).unwrap();
    assert_eq!(
        keystore.read(&path("x")).unwrap().unwrap().as_slice(),
        b"kept"
    );
}

#[test]
fn it_is_initialised_again_only_before_it_was_open() {
    let (store, keystore, lost) = new();
    let again = initialise(store.clone(), Some(&keystore), &plan(2, &["a", "b"]), 0).unwrap();
    let shares = texts(again.1);
    assert!(open(load_sealed(&store), &lost, &[0]).is_err());
    let keystore = open(load_sealed(&store), &shares, &[0, 1]).unwrap().seal();
    let refused = initialise(store.clone(), Some(&keystore), &plan(2, &["a", "b"]), 0);
    assert!(matches!(refused, Err(KeystoreError::WasOpen)));
    let loaded = load_sealed(&store);
    let refused = initialise(store, Some(&loaded), &plan(2, &["a", "b"]), 0);
    assert!(matches!(refused, Err(KeystoreError::WasOpen)));
}

#[derive(Clone, Debug)]
enum Act {
    Start,
    Cancel,
    Share {
        holder: usize,
        share: usize,
        quoted: bool,
    },
    Wait,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => Just(Act::Start),
        1 => Just(Act::Cancel),
        8 => (0_usize..5, 0_usize..5, prop::bool::weighted(0.9))
            .prop_map(|(holder, share, quoted)| Act::Share { holder, share, quoted }),
        1 => Just(Act::Wait),
    ]
}

proptest! {
    /// Whatever is done in whatever order: it opens exactly when three different shares have come from their own holders in one
    /// ceremony in its time.
    #[test]
    fn it_opens_exactly_when_three_holders_have_given_theirs(acts in prop::collection::vec(act(), 1..60)) {
        let (_, mut keystore, shares) = new();
        let mut now = 0;
        let mut model: Option<(std::collections::BTreeSet<usize>, i64)> = None;
        for act in acts {
            model = model.filter(|(_, until)| now < *until);
            match act {
                Act::Start => {
                    let started = keystore.start_unseal(now, HOUR).is_ok();
                    prop_assert_eq!(started, model.is_none());
                    model.get_or_insert((Default::default(), now + HOUR));
                }
                Act::Cancel => {
                    if let Some(id) = keystore.ceremony().map(Ceremony::id) {
                        keystore.cancel_unseal(&id).unwrap();
                    }
                    model = None;
                }
                Act::Wait => now += HOUR / 3,
                Act::Share { holder, share, quoted } => {
                    let ceremony = keystore.ceremony().map(|ceremony| (ceremony.id(), ceremony.digest()));
                    let right = quoted && ceremony.is_some();
                    let (id, digest) = ceremony.filter(|_| quoted).unwrap_or(([0; 16], [0; 32]));
                    let counts = right
                        && holder == share
                        && model.as_ref().is_some_and(|(have, _)| !have.contains(&share));
                    match keystore.submit((&id, &digest), HOLDERS[holder], &shares[share], now) {
                        Submission::Unsealed(..) => {
                            prop_assert!(counts && model.unwrap().0.len() == 2);
                            return Ok(());
                        }
                        Submission::Waiting(same, progress) => {
                            let have = &mut model.as_mut().unwrap().0;
                            have.insert(share);
                            prop_assert!(counts && usize::from(progress.have) == have.len() && have.len() < 3);
                            keystore = same;
                        }
                        Submission::Refused(same, _) => {
                            prop_assert!(!counts);
                            keystore = same;
                        }
                        Submission::Failed(_, error) => panic!("{error}"),
                    }
                }
            }
        }
    }

    /// Hostile bytes for a snapshot's records and for a header are an error, never a panic.
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let _ = MemoryRecords::new().restore(&mut bytes.as_slice());
        let store = Arc::new(MemoryRecords::new());
        let put = Some(StoredRecord { version: 1, value: bytes });
        store.apply(&[Change { path: path("seal/header"), expected: None, put }]).unwrap();
        prop_assert!(load(store).is_err());
    }
}
