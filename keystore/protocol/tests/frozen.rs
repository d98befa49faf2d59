//! A keystore made once by the first release of its format still opens, and its shares still print the same.
//!
//! `vectors/keystore-1.json` is never made anew: if a test here fails, keystores out there stay sealed. The pages that describe the
//! bytes: `docs/format/keystore.md`.

#![allow(clippy::unwrap_used, reason = "a test says what failed by failing")]

use std::sync::Arc;

use holdfast_protocol::*;

struct Vectors(serde_json::Value);

impl Vectors {
    fn read() -> Vectors {
        Vectors(serde_json::from_str(include_str!("vectors/keystore-1.json")).unwrap())
    }

    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_else(|| panic!("no {name}"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        hex::decode(self.text(name)).unwrap()
    }

    fn shares(&self) -> Vec<&str> {
        let shares = self.0["shares"].as_array().unwrap();
        shares.iter().map(|share| share.as_str().unwrap()).collect()
    }

    fn store(&self) -> Arc<MemoryRecords> {
        let store = Arc::new(MemoryRecords::new());
        store
            .restore(&mut self.bytes("snapshot").as_slice())
            .unwrap();
        store
    }
}

fn path(text: &str) -> RecordPath {
    text.parse().unwrap()
}

const HOLDERS: [&str; 5] = ["ada", "bob", "cleo", "dora", "emil"];

#[test]
fn shares_still_print_and_commit_the_same() {
    let v = Vectors::read();
    let cluster: [u8; 16] = v.bytes("cluster").try_into().unwrap();
    for (place, text) in v.shares().into_iter().enumerate() {
        let share = Share::parse(text).unwrap();
        assert_eq!(share.to_printed().as_str(), text);
        let label = share.label();
        assert_eq!((label.epoch, label.threshold), (2, 3));
        assert_eq!(usize::from(label.number), place + 1);
        assert_eq!(label.cluster_tag, cluster[..6]);
        let commitment = v.0["commitments"][place].as_str().unwrap();
        assert_eq!(hex::encode(share.commitment(&cluster).0), commitment);
    }
}

#[test]
fn the_keystore_still_opens_and_its_records_are_read() {
    let v = Vectors::read();
    let store = v.store();
    let mut again = Vec::new();
    store.snapshot(&mut again).unwrap();
    assert_eq!(again, v.bytes("snapshot"));
    let stored = store.get(&path("seal/header")).unwrap().unwrap();
    let header = std::str::from_utf8(&stored.value[32..]).unwrap();
    assert_eq!(header, v.text("header"));

    let mut keystore = load(store.clone()).unwrap().unwrap();
    assert_eq!(keystore.header().cluster.as_slice(), v.bytes("cluster"));
    let ceremony = keystore.start_unseal(0, 60).unwrap();
    let (id, digest) = (ceremony.id(), ceremony.digest());
    let shares = v.shares();
    let mut opened = None;
    for place in [4, 0, 2] {
        match keystore.submit((&id, &digest), HOLDERS[place], shares[place], 1) {
            Submission::Waiting(same, _) => keystore = same,
            Submission::Unsealed(open, _) => {
                opened = Some(open);
                break;
            }
            Submission::Refused(_, refusal) => panic!("{refusal:?}"),
            Submission::Failed(_, error) => panic!("{error}"),
        }
    }
    let opened = opened.unwrap();
    let read = |record: &str| opened.read(&path(record)).unwrap().unwrap().to_vec();
    assert_eq!(read("first/term"), b"of term 1");
    assert_eq!(read("second/term"), b"of term 2");
    assert_eq!(opened.list(""), [path("first/term"), path("second/term")]);
    assert_eq!((opened.term(), opened.term_created()), (2, 1_000));
    assert_eq!((opened.generation(), opened.term_writes()), (7, 5));
    // Opening it has stored nothing.
    let mut after = Vec::new();
    store.snapshot(&mut after).unwrap();
    assert_eq!(after, again);
}
