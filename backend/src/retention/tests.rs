use proptest::prelude::*;

use super::*;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// 2026-11-23 00:00 UTC, a Monday.
const MONDAY: i64 = 20_780 * DAY;

fn candidates(times: &[i64]) -> Vec<Candidate<usize>> {
    times
        .iter()
        .enumerate()
        .map(|(id, &time)| Candidate {
            time,
            labelled: false,
            id,
        })
        .collect()
}

fn kept(policy: &Policy, now: i64, times: &[i64]) -> Vec<usize> {
    decide(policy, now, &candidates(times))
        .kept()
        .map(|decision| decision.id)
        .collect()
}

#[test]
fn the_default_policy_thins_out_with_age() {
    let times: Vec<i64> = (0..2 * 365 * 24 * 4)
        .map(|quarter| MONDAY - 730 * DAY + quarter * 900)
        .collect();
    let now = *times.last().expect("not empty");
    let retention = decide(&Policy::default(), now, &candidates(&times));
    let count = |age: std::ops::Range<i64>| {
        retention
            .kept()
            .filter(|decision| age.contains(&((now - decision.time) / DAY)))
            .count()
    };
    assert_eq!(count(0..1), 96);
    assert!(
        (6 * 24 - 1..=6 * 24 + 1).contains(&count(1..7)),
        "{}",
        count(1..7)
    );
    assert!((23..=24).contains(&count(7..30)));
    assert!(
        (47..=62).contains(&count(30..366)),
        "weeks and firsts of months: {}",
        count(30..366)
    );
    assert!((11..=13).contains(&count(366..800)));
}

#[test]
fn the_first_of_a_bucket_is_kept_so_that_a_later_one_cannot_push_it_out() {
    let policy = Policy {
        daily: Keep::Forever,
        ..Policy::nothing()
    };
    let honest = [MONDAY, MONDAY + HOUR, MONDAY + DAY];
    assert_eq!(kept(&policy, MONDAY + 2 * DAY, &honest), [0, 2]);
    let flooded = [
        MONDAY,
        MONDAY + HOUR,
        MONDAY + 2 * HOUR,
        MONDAY + 3 * HOUR,
        MONDAY + DAY,
    ];
    assert_eq!(kept(&policy, MONDAY + 2 * DAY, &flooded), [0, 4]);
}

#[test]
fn labelled_and_newest_are_never_dropped() {
    let mut list = candidates(&[MONDAY, MONDAY + DAY, MONDAY + 2 * DAY]);
    list[0].labelled = true;
    let retention = decide(&Policy::nothing(), MONDAY + 3 * DAY, &list);
    let reasons: Vec<_> = retention
        .kept()
        .map(|decision| (decision.id, decision.reasons.clone()))
        .collect();
    assert_eq!(
        reasons,
        [
            (0, BTreeSet::from([Reason::Labelled])),
            (2, BTreeSet::from([Reason::Newest]))
        ]
    );
    assert_eq!(retention.forgotten().count(), 1);
}

#[test]
fn counts_keep_the_newest_buckets() {
    let policy = Policy {
        last: 1,
        daily: Keep::Newest(2),
        ..Policy::nothing()
    };
    let times = [
        MONDAY,
        MONDAY + DAY,
        MONDAY + DAY + HOUR,
        MONDAY + 5 * DAY,
        MONDAY + 5 * DAY + HOUR,
    ];
    assert_eq!(kept(&policy, MONDAY + 6 * DAY, &times), [1, 3, 4]);
}

#[test]
fn a_forged_future_commit_pushes_nothing_out_and_is_refused() {
    let policy = Policy {
        last: 2,
        all_within_seconds: DAY,
        ..Policy::nothing()
    };
    let honest = [MONDAY, MONDAY + HOUR, MONDAY + 2 * HOUR];
    let now = MONDAY + 3 * HOUR;
    let forged = [MONDAY, MONDAY + HOUR, MONDAY + 2 * HOUR, MONDAY + 900 * DAY];
    assert_eq!(kept(&policy, now, &honest), [0, 1, 2]);
    assert_eq!(kept(&policy, now, &forged), [0, 1, 2, 3]);
    let refused = decide(&policy, now, &candidates(&forged)).refuse_implausible();
    assert_eq!(refused, Err(ImplausibleTimes { count: 1 }));
    assert!(
        decide(&policy, now, &candidates(&honest))
            .refuse_implausible()
            .is_ok()
    );
}

#[test]
fn rules_are_read_from_text() {
    assert_eq!("24".parse(), Ok(Keep::Newest(24)));
    assert_eq!("7d".parse(), Ok(Keep::WithinSeconds(7 * DAY)));
    assert_eq!("36h".parse(), Ok(Keep::WithinSeconds(36 * HOUR)));
    assert_eq!("all".parse(), Ok(Keep::Forever));
    assert_eq!("none".parse(), Ok(Keep::Nothing));
    for wrong in [
        "",
        "d",
        "7q",
        "-1",
        "-1d",
        "9999999999999999999y",
        "9223372036854775807y",
        "é",
    ] {
        assert!(wrong.parse::<Keep>().is_err(), "{wrong:?}");
    }
}

fn any_keep() -> impl Strategy<Value = Keep> {
    prop_oneof![
        Just(Keep::Nothing),
        (0u32..5).prop_map(Keep::Newest),
        (0i64..40 * DAY).prop_map(Keep::WithinSeconds),
        Just(Keep::Forever)
    ]
}

prop_compose! {
    fn any_policy()(last in 0u32..4, all_within_seconds in -1i64..3 * DAY, hourly in any_keep(), daily in any_keep(),
                    weekly in any_keep(), monthly in any_keep(), yearly in any_keep()) -> Policy {
        Policy { last, all_within_seconds, hourly, daily, weekly, monthly, yearly }
    }
}

proptest! {
    /// Applying the policy to what it kept drops nothing more: forgetting twice is forgetting once.
    #[test]
    fn deciding_twice_is_deciding_once(policy in any_policy(), mut times in prop::collection::vec(0i64..400 * DAY, 0..60)) {
        times.sort_unstable();
        let now = times.last().copied().unwrap_or(0);
        let first: Vec<i64> = decide(&policy, now, &candidates(&times)).kept().map(|decision| decision.time).collect();
        let second: Vec<i64> = decide(&policy, now, &candidates(&first)).kept().map(|decision| decision.time).collect();
        prop_assert_eq!(first, second);
    }

    /// Any commit put anywhere with an implausible time leaves the fate of the others as it was.
    #[test]
    fn a_future_commit_changes_no_other_fate(policy in any_policy(), mut times in prop::collection::vec(0i64..400 * DAY, 1..40), at in any::<prop::sample::Index>()) {
        times.sort_unstable();
        let now = 400 * DAY;
        let at = at.index(times.len()); // never behind the newest: that one would lose the reason Newest
        let honest: Vec<bool> = decide(&policy, now, &candidates(&times)).decisions.iter().map(Decision::is_kept).collect();
        times.insert(at, now + 100 * DAY);
        let mut forged: Vec<bool> = decide(&policy, now, &candidates(&times)).decisions.iter().map(Decision::is_kept).collect();
        forged.remove(at);
        prop_assert_eq!(honest, forged);
    }

    /// No list of times, however wild, makes it panic, and the newest is always kept.
    #[test]
    fn wild_times_never_panic(policy in any_policy(), now in any::<i64>(), times in prop::collection::vec(any::<i64>(), 1..20)) {
        let retention = decide(&policy, now, &candidates(&times));
        prop_assert!(retention.decisions.last().expect("not empty").is_kept());
    }
}
