//! What every store and every wrapper must do, as one suite. Wants an empty store.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt as _, future::join_all, stream};
use holdfast_crypto::{Ciphertext, DeviceId};

use super::{ObjectStore, StoreErrorKind, Stored};
use crate::{
    layout::{Folder, ObjectName},
    object::{EnvelopedPlacement, Object, TextPlacement},
    pack::{PackBuilder, Trailer},
};

/// Whether [`Stored::New`] and [`Stored::AlreadyThere`] must be exact. They cannot be where an
/// answer may be lost and the request is made again, or where the store only overwrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// As they are.
    Exact,
    /// A repeated put may give either.
    Loose,
}

/// Runs everything; panics at the first difference. Leaves the store empty.
pub async fn conformance(store: &dyn ObjectStore, answers: Answers) {
    what_is_stored_is_loaded(store, answers).await;
    what_is_not_there_is_said_so(store).await;
    ranges_are_exact(store).await;
    folders_list_their_objects(store).await;
    storing_at_once_is_storing_once(store, answers).await;
    what_was_deleted_can_be_stored_again(store).await;
    probing_leaves_nothing(store).await;
    assert_eq!(
        all_names(store).await,
        BTreeSet::new(),
        "the suite deletes what it stores"
    );
}

/// More objects than one page of a listing has (1000 on S3).
pub async fn long_listings_are_complete(store: &dyn ObjectStore, count: u64) {
    let device = DeviceId([7; 8]);
    let objects: Vec<_> = (0..count)
        .map(|n| Object::text(TextPlacement::Pin { device, n }, &format!("pin {n}")))
        .collect();
    stream::iter(&objects)
        .for_each_concurrent(32, |object| async { put(store, object).await })
        .await;
    let expected: BTreeSet<_> = objects.iter().map(Object::name).collect();
    assert_eq!(names(store, Folder::Pins).await, expected);
    stream::iter(&objects)
        .for_each_concurrent(32, |object| async { delete(store, &object.name()).await })
        .await;
}

async fn what_is_stored_is_loaded(store: &dyn ObjectStore, answers: Answers) {
    let pack = pack(9 << 20);
    for object in samples().iter().chain([&pack]) {
        let stored = store.put_new(object).await.expect("stores a new object");
        if answers == Answers::Exact {
            assert_eq!(stored, Stored::New, "{object:?}");
        }
        let loaded = store
            .get(&object.name())
            .await
            .expect("loads what was stored");
        assert!(loaded == object.bytes(), "{object:?} came back changed");
        let again = store.put_new(object).await.expect("stores an object again");
        if answers == Answers::Exact {
            assert_eq!(again, Stored::AlreadyThere, "{object:?}");
        }
        let loaded = store
            .get(&object.name())
            .await
            .expect("loads what was stored twice");
        assert!(
            loaded == object.bytes(),
            "{object:?} was changed by storing it again"
        );
        delete(store, &object.name()).await;
    }
}

async fn what_is_not_there_is_said_so(store: &dyn ObjectStore) {
    for object in samples() {
        let name = object.name();
        let error = store.get(&name).await.expect_err("was not stored");
        assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
        assert!(
            error.to_string().contains(&name.to_string()),
            "{error} names the object"
        );
        let error = store
            .get_range(&name, 0..1)
            .await
            .expect_err("was not stored");
        assert_eq!(error.kind(), StoreErrorKind::NotFound, "{error}");
        delete(store, &name).await;
    }
}

async fn ranges_are_exact(store: &dyn ObjectStore) {
    let object = pack(70_000);
    let (name, size) = (object.name(), object.len());
    put(store, &object).await;
    let trailer = size - 48..size;
    for range in [
        0..size,
        0..1,
        12..13,
        size - 1..size,
        1000..66_000,
        trailer,
        5..5,
        0..0,
    ] {
        let loaded = store
            .get_range(&name, range.clone())
            .await
            .expect("is inside the object");
        let expected = object
            .bytes()
            .slice(range.start as usize..range.end as usize);
        assert!(loaded == expected, "{range:?} of {size} bytes");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "damaged tables may say so")]
    let outside = [
        0..size + 1,
        size - 1..size + 1,
        size..size + 10,
        size * 2..size * 3,
        9..3,
    ];
    for range in outside {
        let error = store
            .get_range(&name, range.clone())
            .await
            .expect_err("is outside");
        assert_eq!(error.kind(), StoreErrorKind::Damaged, "{range:?}: {error}");
    }
    delete(store, &name).await;
}

async fn folders_list_their_objects(store: &dyn ObjectStore) {
    let before = SystemTime::now();
    let objects = samples();
    for object in &objects {
        put(store, object).await;
    }
    for folder in Folder::ALL {
        let listed = store.list(folder).await.expect("lists a folder");
        let expected: Vec<_> = objects
            .iter()
            .filter(|object| folder.contains(&object.name()))
            .collect();
        assert_eq!(listed.len(), expected.len(), "{folder}");
        for line in listed {
            let object = expected.iter().find(|object| object.name() == line.name);
            assert_eq!(
                object.map(|object| object.len()),
                Some(line.size),
                "{}",
                line.name
            );
            // gc condemns nothing whose age it does not know. Clocks of stores differ; some have
            // whole seconds.
            let stored_at = line.stored_at.expect("a listing tells when");
            let hour = Duration::from_secs(3600);
            assert!(stored_at > before - hour && stored_at < before + hour);
        }
    }
    let device = DeviceId([1; 8]);
    for (folder, of_all) in [
        (Folder::Refs(Some(device)), Folder::Refs(None)),
        (Folder::Commits(Some(device)), Folder::Commits(None)),
    ] {
        let listed = names(store, folder).await;
        assert_eq!(listed.len(), 1, "{folder} has the objects of one device");
        assert_eq!(names(store, of_all).await.len(), 2);
    }
    for object in &objects {
        delete(store, &object.name()).await;
    }
}

async fn storing_at_once_is_storing_once(store: &dyn ObjectStore, answers: Answers) {
    let object = pack(100_000);
    let answered = join_all((0..8).map(|_| store.put_new(&object))).await;
    let answered: Vec<_> = answered
        .into_iter()
        .map(|stored| stored.expect("stores"))
        .collect();
    if answers == Answers::Exact {
        let new = answered
            .iter()
            .filter(|stored| **stored == Stored::New)
            .count();
        assert_eq!(new, 1, "one put is the first: {answered:?}");
    }
    let loaded = store
        .get(&object.name())
        .await
        .expect("loads what many stored");
    assert!(loaded == object.bytes());
    assert_eq!(
        names(store, Folder::Packs).await,
        BTreeSet::from([object.name()])
    );
    delete(store, &object.name()).await;
}

async fn what_was_deleted_can_be_stored_again(store: &dyn ObjectStore) {
    let object = Object::key(1, b"wrapped");
    for _ in 0..2 {
        put(store, &object).await;
        delete(store, &object.name()).await;
        let error = store.get(&object.name()).await.expect_err("was deleted");
        assert!(error.is_not_found(), "{error}");
        assert!(names(store, Folder::Keys).await.is_empty());
    }
}

async fn probing_leaves_nothing(store: &dyn ObjectStore) {
    let first = store.probe().await.expect("can be probed");
    let second = store.probe().await.expect("can be probed twice");
    assert_eq!(first, second);
    assert!(first.ranges);
    assert_eq!(all_names(store).await, BTreeSet::new());
}

async fn put(store: &dyn ObjectStore, object: &Object) {
    store
        .put_new(object)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
}

async fn delete(store: &dyn ObjectStore, name: &ObjectName) {
    store
        .delete(name)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
}

async fn names(store: &dyn ObjectStore, folder: Folder) -> BTreeSet<ObjectName> {
    let listed = store
        .list(folder)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let names: BTreeSet<_> = listed.iter().map(|line| line.name).collect();
    assert_eq!(names.len(), listed.len(), "{folder} lists no name twice");
    names
}

async fn all_names(store: &dyn ObjectStore) -> BTreeSet<ObjectName> {
    let mut all = BTreeSet::new();
    for folder in Folder::ALL {
        all.extend(names(store, folder).await);
    }
    all
}

/// At least one object of each sort; two devices.
fn samples() -> Vec<Object> {
    let (device, other) = (DeviceId([1; 8]), DeviceId([0xfe; 8]));
    let body = ciphertext(100);
    let commit = |device| EnvelopedPlacement::Commit {
        device,
        sequence: 3,
    };
    let mut samples = vec![
        pack(1000),
        Object::enveloped(EnvelopedPlacement::Index, 1, &body),
        Object::enveloped(commit(device), 1, &body),
        Object::enveloped(commit(other), 2, &body),
        Object::key(1, body.as_bytes()),
        Object::keyring(4, 1, body.as_bytes()),
    ];
    let texts = [
        TextPlacement::Refs {
            device,
            sequence: 3,
        },
        TextPlacement::Refs {
            device: other,
            sequence: 3,
        },
        TextPlacement::Pin { device, n: 0 },
        TextPlacement::Forgotten {
            device,
            n: 9_999_999_999,
        },
        TextPlacement::Condemned { n: 1 },
        TextPlacement::Deleting { n: 1 },
        TextPlacement::Moved { device, n: 12 },
    ];
    samples.extend(texts.map(|placement| Object::text(placement, "holdfast sample 1\n")));
    samples
}

fn pack(bytes: usize) -> Object {
    let mut builder = PackBuilder::new(1);
    builder.append(&ciphertext(bytes));
    let table = ciphertext(64);
    let trailer = Trailer {
        table_offset: builder.len(),
        table_length: table.len() as u32,
    };
    let trailer = [&[0x55; 24][..], &trailer.encode(), &[0xaa; 16]].concat();
    builder.finish(
        &table,
        &Ciphertext::from_stored(trailer).expect("is long enough"),
    )
}

/// Stands for an encryption: stores cannot tell.
fn ciphertext(bytes: usize) -> Ciphertext {
    let bytes: Bytes = (0..bytes as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    Ciphertext::from_stored(bytes.to_vec()).expect("is long enough")
}
