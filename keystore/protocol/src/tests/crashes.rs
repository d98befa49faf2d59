//! A keystore's life, ended at each write in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Dies at the n-th `apply`: before it, or (`after`) after it, so that nobody has seen the answer.
struct Crashing {
    store: Arc<MemoryRecords>,
    left: AtomicUsize,
    after: bool,
}

impl RecordStore for Crashing {
    fn get(&self, path: &RecordPath) -> Result<Option<StoredRecord>, StoreError> {
        self.store.get(path)
    }

    fn apply(&self, changes: &[Change]) -> Result<(), StoreError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) > 1 {
            return self.store.apply(changes);
        }
        if self.after {
            self.store.apply(changes)?;
        }
        Err(StoreError::Io("died".to_owned()))
    }

    fn scan(
        &self,
        prefix: &str,
        after: Option<&RecordPath>,
        limit: usize,
    ) -> Result<Vec<RecordPath>, StoreError> {
        self.store.scan(prefix, after, limit)
    }

    fn snapshot(&self, out: &mut dyn std::io::Write) -> Result<(), StoreError> {
        self.store.snapshot(out)
    }

    fn restore(&self, from: &mut dyn std::io::Read) -> Result<(), StoreError> {
        self.store.restore(from)
    }
}

/// Of a record; `None`: it is deleted.
type Content = Option<&'static [u8]>;

/// What the people outside know when it ended.
#[derive(Default)]
struct Life {
    /// Sets of shares that were handed out.
    shares: Vec<Vec<String>>,
    /// The last one of them that was said to hold.
    holds: Option<usize>,
    /// Records whose last change was acknowledged, and their content.
    records: Vec<(&'static str, Content)>,
    /// The record that was being changed, with what was there before and what should have come.
    doubtful: Option<(&'static str, Content, Content)>,
    ended: Option<&'static str>,
}

impl Life {
    /// Init, first unseal, seal, second unseal, new record, rotation, changed record, reshare, deleted record, another rotation.
    fn live(&mut self, store: Arc<Crashing>) -> Result<(), KeystoreError> {
        self.ended = Some("init");
        let (keystore, shares) = initialise(store, None, &plan(3, &HOLDERS), 0)?;
        self.shares.push(texts(shares));
        self.holds = Some(0);
        self.ended = Some("unseal");
        let keystore = opened(keystore, &self.shares[0])?;
        let mut keystore = opened(keystore.seal(), &self.shares[0])?;
        self.change(&mut keystore, "x/1", Some(b"1"))?;
        self.ended = Some("rotate");
        keystore.rotate_data_key(1)?;
        self.change(&mut keystore, "x/1", Some(b"2"))?;
        self.change(&mut keystore, "x/2", Some(b"1"))?;
        self.ended = Some("reshare");
        let new = keystore.start_reshare(&plan(3, &HOLDERS), 0, HOUR)?;
        self.shares.push(texts(new));
        let ceremony = keystore.reshare().expect("just started");
        let (id, digest) = (ceremony.id(), ceremony.digest());
        let agreeing = HOLDERS.iter().zip(&self.shares[0]).take(3);
        for (holder, share) in agreeing.chain(HOLDERS.iter().zip(&self.shares[1])) {
            let taken = keystore.submit_reshare((&id, &digest), holder, share, 1)?;
            taken.expect("it is the right one");
        }
        self.holds = Some(1);
        self.change(&mut keystore, "x/2", None)?;
        self.ended = Some("rotate");
        keystore.rotate_data_key(2)?;
        self.ended = None;
        Ok(())
    }

    fn change(
        &mut self,
        keystore: &mut Keystore<Unsealed>,
        record: &'static str,
        to: Content,
    ) -> Result<(), KeystoreError> {
        self.ended = Some("write");
        let there = self.records.iter().position(|(path, _)| *path == record);
        let before = there.and_then(|there| self.records.swap_remove(there).1);
        self.doubtful = Some((record, before, to));
        let version = keystore.version(&path(record));
        match to {
            Some(content) => keystore.write(&path(record), content, version)?,
            None => keystore.delete(&path(record), version.expect("it is there"))?,
        }
        self.doubtful = None;
        self.records.push((record, to));
        Ok(())
    }
}

fn opened(
    mut keystore: Keystore<Sealed>,
    shares: &[String],
) -> Result<Keystore<Unsealed>, KeystoreError> {
    let ceremony = keystore.start_unseal(0, HOUR)?;
    let (id, digest) = (ceremony.id(), ceremony.digest());
    for (holder, share) in HOLDERS.iter().zip(shares) {
        keystore = match keystore.submit((&id, &digest), holder, share, 1) {
            Submission::Waiting(keystore, _) => keystore,
            Submission::Unsealed(keystore, _) => return Ok(keystore),
            Submission::Refused(_, refusal) => panic!("{refusal:?}"),
            Submission::Failed(_, error) => return Err(error),
        };
    }
    panic!("three were enough")
}

/// Exactly one set of shares opens it: the one that was said to hold, or the next one, if we died before that could be said.
fn survivor<'a>(store: &Arc<MemoryRecords>, life: &'a Life) -> (Keystore<Unsealed>, &'a [String]) {
    let works = |shares: &Vec<String>| open(load_sealed(store), shares, &[4, 0, 2]).is_ok();
    let good: Vec<usize> = (0..life.shares.len())
        .filter(|set| works(&life.shares[*set]))
        .collect();
    let holds = life.holds.expect("it was initialised");
    assert_eq!(good.len(), 1, "of the sets {good:?} hold");
    assert!(good[0] >= holds, "{good:?} instead of {holds}");
    let shares = &life.shares[good[0]];
    let keystore = open(load_sealed(store), shares, &[1, 3, 2]).expect("the same again");
    (keystore, shares)
}

/// Every `apply` of a life, dying before and after it, until a life goes through: the store opens with exactly one set of shares, every
/// acknowledged record is there as acknowledged, the one in doubt is as before or as it should become, and the life can go on.
#[test]
fn every_crash_point_leaves_an_openable_store() {
    for after in [false, true] {
        let mut died_in = Vec::new();
        for at in 1.. {
            let store = Arc::new(MemoryRecords::new());
            let left = AtomicUsize::new(at);
            let crashing = Crashing {
                store: store.clone(),
                left,
                after,
            };
            let mut life = Life::default();
            let lived = life.live(Arc::new(crashing));
            assert_eq!(lived.is_err(), life.ended.is_some());
            if life.holds.is_none() {
                // Nothing, or what nobody has shares of: it is initialised again, and opens.
                let before = load(store.clone()).unwrap();
                assert_eq!(before.is_some(), after);
                let plan = plan(3, &HOLDERS);
                let again = initialise(store.clone(), before.as_ref(), &plan, 0).unwrap();
                open(again.0, &texts(again.1), &[0, 1, 2]).unwrap();
            } else {
                let (mut keystore, shares) = survivor(&store, &life);
                let read = |record: &str| {
                    let read = keystore.read(&path(record)).unwrap();
                    read.map(|read| read.to_vec())
                };
                for (record, content) in &life.records {
                    assert_eq!(read(record).as_deref(), *content, "{record}, {at}");
                }
                if let Some((record, before, to)) = life.doubtful {
                    let found = read(record);
                    let expected = if after { to } else { before };
                    assert_eq!(found.as_deref(), expected, "{record}, {at}");
                }
                keystore.write(&path("after"), b"on", None).unwrap();
                keystore.rotate_data_key(9).unwrap();
                reshare(&mut keystore, shares, &plan(3, &HOLDERS), &HOLDERS);
            }
            match life.ended {
                Some(act) => died_in.push(act),
                None => break,
            }
        }
        let acts = [
            "init", "unseal", "write", "rotate", "write", "write", "reshare", "write", "rotate",
        ];
        assert_eq!(died_in, acts);
    }
}
