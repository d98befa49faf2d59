use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_backend::gc::{
    GcError, Lost, Rules, Run, Selection, collect, forget, pin, release, undelete,
};
use holdfast_backend::layout::{Folder, ObjectName};
use holdfast_backend::marks::{Marks, MarksError, Moved, Text};
use holdfast_backend::store::ObjectStore;

use super::archive::{A, B, BEGIN, Backup, DAY, GRACE, back_up, gc, has, pack, put, rules};
use super::timed::TimedStore;

/// Device A has three backups, the second shares the first one's pack; device B has one. The first is forgotten.
async fn archive() -> (TimedStore, [Backup; 3]) {
    let store = TimedStore::new(BEGIN);
    let first = back_up(&store, A, 1, &[]).await;
    let second = back_up(&store, A, 2, &[]).await;
    let third = back_up(&store, A, 3, &[second.pack]).await;
    back_up(&store, B, 1, &[]).await;
    store.wait(2 * DAY);
    forget(
        &store,
        A,
        store.now(),
        BTreeSet::from([first.commit, second.commit]),
    )
    .await
    .expect("stored");
    (store, [first, second, third])
}

#[tokio::test]
async fn nothing_is_deleted_before_the_grace_period_is_over() {
    let (store, [first, second, third]) = archive().await;
    let report = gc(&store).await;
    assert_eq!((report.kept_commits, report.forgotten_commits), (2, 2));
    assert_eq!(
        report.condemned.objects, 5,
        "two commits, two refs, one pack"
    );
    store.wait(GRACE - 1);
    let report = gc(&store).await;
    assert_eq!(
        (
            report.condemned.objects,
            report.deleted.objects,
            report.waiting.objects
        ),
        (0, 0, 5)
    );
    assert_eq!(report.next_due, Some(store.now() + 1));
    store.wait(1);
    let report = gc(&store).await;
    assert_eq!(
        (
            report.deleted.objects,
            report.waiting.objects,
            report.forgotten_commits
        ),
        (5, 0, 0)
    );
    for gone in [
        first.pack,
        first.refs,
        first.commit.into(),
        second.refs,
        second.commit.into(),
    ] {
        assert!(!has(&store, gone).await, "{gone}");
    }
    for kept in [second.pack, third.pack, third.refs, third.commit.into()] {
        assert!(has(&store, kept).await, "{kept}");
    }
    let again = gc(&store).await;
    assert_eq!((again.condemned.objects, again.deleted.objects), (0, 0));
}

#[tokio::test]
async fn a_dry_run_tells_what_the_real_one_does_and_changes_nothing() {
    let (store, _) = archive().await;
    for _ in 0..2 {
        let before = store.memory.names();
        let dry = collect(&store, &rules(&store), Run::Dry)
            .await
            .expect("gc runs");
        assert_eq!(store.memory.names(), before);
        let real = gc(&store).await;
        assert_eq!((dry.condemned, dry.deleted), (real.condemned, real.deleted));
        store.wait(GRACE);
    }
}

#[tokio::test]
async fn uploads_under_way_are_not_condemned() {
    let (store, _) = archive().await;
    let new = put(&store, &pack()).await;
    gc(&store).await;
    let marks = Marks::read(&store, store.now()).await.expect("readable");
    assert!(!marks.is_condemned(&new));
    store.wait(2 * DAY);
    gc(&store).await;
    let marks = Marks::read(&store, store.now()).await.expect("readable");
    assert!(
        marks.is_condemned(&new),
        "whoever stored it has given it up, or stores refs in time"
    );
}

#[tokio::test]
async fn refs_without_a_commit_protect_what_they_name() {
    let (store, [first, ..]) = archive().await;
    gc(&store).await;
    let refs = holdfast_backend::refs::Refs::full(B, 2, BTreeSet::from([first.pack]));
    put(&store, &refs.to_object()).await;
    store.wait(GRACE);
    let report = gc(&store).await;
    assert!(has(&store, first.pack).await);
    assert_eq!(report.spared.objects, 1);
}

#[tokio::test]
async fn undelete_brings_back_what_is_complete() {
    let (store, [first, second, _]) = archive().await;
    gc(&store).await;
    let these = Selection::These(BTreeSet::from([first.commit]));
    let report = undelete(&store, B, &rules(&store), &these)
        .await
        .expect("undelete runs");
    assert_eq!(report.restorable, BTreeSet::from([first.commit]));
    store.wait(2 * GRACE);
    gc(&store).await;
    assert!(has(&store, first.pack).await && has(&store, first.commit.into()).await);
    assert!(!has(&store, second.commit.into()).await);

    let both = Selection::These(BTreeSet::from([first.commit, second.commit]));
    let report = undelete(&store, B, &rules(&store), &both)
        .await
        .expect("undelete runs");
    let lost = BTreeMap::from([
        (first.commit, Lost::NotForgotten),
        (second.commit, Lost::Gone),
    ]);
    assert_eq!((report.restorable.len(), report.lost), (0, lost));
}

#[tokio::test]
async fn what_was_taken_back_and_released_waits_a_full_grace_period_again() {
    let (store, [first, ..]) = archive().await;
    gc(&store).await;
    undelete(&store, A, &rules(&store), &Selection::All)
        .await
        .expect("undelete runs");
    store.wait(2 * GRACE);
    gc(&store).await;
    release(&store, A, store.now(), BTreeSet::from([first.commit]))
        .await
        .expect("stored");
    gc(&store).await;
    store.wait(GRACE - 1);
    gc(&store).await;
    assert!(has(&store, first.pack).await);
    store.wait(1);
    gc(&store).await;
    assert!(!has(&store, first.pack).await);
}

#[tokio::test]
async fn a_forgotten_commit_keeps_its_time_even_if_its_pack_was_condemned_long_before() {
    let (store, [first, ..]) = archive().await;
    gc(&store).await;
    store.wait(GRACE - DAY);
    let user = back_up(&store, B, 2, &[first.pack]).await;
    back_up(&store, B, 3, &[]).await;
    store.wait(2 * DAY);
    forget(&store, B, store.now(), BTreeSet::from([user.commit]))
        .await
        .expect("stored");
    let report = gc(&store).await;
    assert!(has(&store, first.pack).await, "{report:?}");
    store.wait(GRACE - 1);
    gc(&store).await;
    let report = undelete(&store, B, &rules(&store), &Selection::All)
        .await
        .expect("undelete runs");
    assert_eq!(report.restorable, BTreeSet::from([user.commit]));
}

#[tokio::test]
async fn a_pin_keeps_a_commit_that_is_forgotten_later() {
    let (store, [.., third]) = archive().await;
    back_up(&store, A, 4, &[]).await;
    pin(&store, B, store.now(), BTreeSet::from([third.commit]))
        .await
        .expect("stored");
    forget(&store, A, store.now(), BTreeSet::from([third.commit]))
        .await
        .expect("stored");
    for _ in 0..3 {
        store.wait(GRACE);
        gc(&store).await;
    }
    assert!(has(&store, third.pack).await && has(&store, third.commit.into()).await);
}

#[tokio::test]
async fn the_newest_commit_of_a_device_is_kept_even_if_it_is_forgotten() {
    let (store, [.., third]) = archive().await;
    forget(&store, A, store.now(), BTreeSet::from([third.commit]))
        .await
        .expect("stored");
    for _ in 0..3 {
        store.wait(GRACE);
        gc(&store).await;
    }
    assert!(has(&store, third.pack).await);
}

#[tokio::test]
async fn moved_packs_wait_a_full_grace_period() {
    let (store, [_, second, third]) = archive().await;
    store.wait(2 * DAY);
    gc(&store).await;
    let new = put(&store, &pack()).await;
    let moved = Moved {
        device: A,
        n: 1,
        time: store.now(),
        seen: BTreeSet::from([third.refs]),
        moves: BTreeMap::from([(third.pack, BTreeSet::from([new]))]),
    };
    put(&store, &moved.to_object()).await;
    let marks = Marks::read(&store, store.now()).await.expect("readable");
    assert!(marks.is_condemned(&third.pack) && !marks.is_condemned(&second.pack));
    gc(&store).await;
    store.wait(GRACE - 1);
    gc(&store).await;
    assert!(has(&store, third.pack).await);
    store.wait(1);
    gc(&store).await;
    assert!(
        !has(&store, third.pack).await && has(&store, new).await && has(&store, second.pack).await
    );
}

/// Condemned long before, needed again, and then moved: what was said of it before the move does not count.
#[tokio::test]
async fn a_moved_pack_waits_anew_even_if_it_was_condemned_long_before() {
    let (store, [first, ..]) = archive().await;
    gc(&store).await;
    let again = back_up(&store, A, 4, &[first.pack]).await;
    store.wait(2 * GRACE);
    let replaced = put(&store, &pack()).await;
    let moved = Moved {
        device: B,
        n: 1,
        time: store.now(),
        seen: BTreeSet::from([again.refs]),
        moves: BTreeMap::from([(first.pack, BTreeSet::from([replaced]))]),
    };
    put(&store, &moved.to_object()).await;
    gc(&store).await;
    assert!(has(&store, first.pack).await, "readers may still want it");
    assert_eq!(gc(&store).await.next_due, Some(store.now() + GRACE));
    store.wait(GRACE - 1);
    gc(&store).await;
    assert!(has(&store, first.pack).await);
    store.wait(1);
    gc(&store).await;
    assert!(!has(&store, first.pack).await && has(&store, replaced).await);
}

#[tokio::test]
async fn old_marks_are_cleaned_but_for_the_newest() {
    let (store, _) = archive().await;
    for round in 0..5 {
        put(&store, &pack()).await;
        store.wait(GRACE);
        gc(&store).await;
        let listed = store.list(Folder::Deleting).await.expect("listed").len();
        assert!(listed <= 3, "round {round}: {listed}");
    }
    let cleaned = store.list(Folder::Deleting).await.expect("listed");
    assert!(!cleaned.is_empty());
    assert!(
        cleaned
            .iter()
            .all(|mark| !matches!(mark.name, ObjectName::Deleting { n: 1, .. }))
    );
}

async fn stops(store: &TimedStore) -> GcError {
    let before = store.memory.names();
    let error = collect(store, &rules(store), Run::Real)
        .await
        .expect_err("gc stops");
    let after = store.memory.names();
    assert!(
        before.iter().all(|name| after.contains(name)),
        "nothing is deleted"
    );
    error
}

#[tokio::test]
async fn gc_stops_at_a_missing_commit() {
    let (store, [.., third]) = archive().await;
    back_up(&store, A, 4, &[]).await;
    store.delete(&third.commit.into()).await.expect("deleted");
    let error = stops(&store).await;
    assert!(
        matches!(
            error,
            GcError::Gap {
                device: A,
                sequence: 3
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn gc_stops_at_a_missing_first_commit() {
    let store = TimedStore::new(BEGIN);
    back_up(&store, A, 2, &[]).await;
    let error = stops(&store).await;
    assert!(matches!(error, GcError::Gap { sequence: 1, .. }), "{error}");
}

#[tokio::test]
async fn gc_stops_at_a_kept_commit_without_refs() {
    let (store, [.., third]) = archive().await;
    store.delete(&third.refs).await.expect("deleted");
    let error = stops(&store).await;
    assert!(
        matches!(error, GcError::CommitWithoutRefs { commit } if commit == third.commit),
        "{error}"
    );
}

#[tokio::test]
async fn gc_stops_at_marks_and_refs_that_it_cannot_read() {
    let (store, [.., third]) = archive().await;
    store.memory.corrupt(&third.refs, "holdfast refs 1\n");
    let error = stops(&store).await;
    assert!(
        matches!(error, GcError::Marks(MarksError::Store(_))),
        "{error}"
    );

    let (store, _) = archive().await;
    let placement = holdfast_backend::object::TextPlacement::Pin { device: A, n: 1 };
    put(
        &store,
        &holdfast_backend::object::Object::text(placement, "holdfast pins 2\n"),
    )
    .await;
    let error = stops(&store).await;
    assert!(
        matches!(error, GcError::Marks(MarksError::Unreadable { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn gc_stops_if_something_comes_from_the_future() {
    let (store, _) = archive().await;
    store.wait(-3 * DAY);
    let error = stops(&store).await;
    assert!(matches!(error, GcError::ImplausibleTime { .. }), "{error}");
}

/// The computer's clock jumped two months ahead: gc believes that the grace period is over. The mark that it
/// stores comes back with the store's time.
#[tokio::test]
async fn gc_stops_if_its_own_clock_is_ahead() {
    let (store, [first, ..]) = archive().await;
    gc(&store).await;
    store.wait(2 * GRACE);
    store.ahead.store(-2 * GRACE, Ordering::Relaxed);
    let error = stops(&store).await;
    assert!(
        matches!(
            error,
            GcError::ImplausibleTime {
                name: ObjectName::Deleting { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(has(&store, first.pack).await);
}

#[tokio::test]
async fn forks_are_both_kept() {
    let (store, [_, second, third]) = archive().await;
    let fork = back_up(&store, A, 3, &[second.pack]).await;
    for _ in 0..3 {
        store.wait(GRACE);
        gc(&store).await;
    }
    for backup in [third, fork] {
        assert!(has(&store, backup.pack).await && has(&store, backup.commit.into()).await);
    }
}

#[tokio::test]
async fn without_a_grace_period_two_runs_suffice() {
    let (store, [first, ..]) = archive().await;
    let rules = Rules {
        grace: Duration::ZERO,
        safety_age: Duration::ZERO,
        ..rules(&store)
    };
    collect(&store, &rules, Run::Real).await.expect("gc runs");
    assert!(has(&store, first.pack).await);
    collect(&store, &rules, Run::Real).await.expect("gc runs");
    assert!(!has(&store, first.pack).await);
}
