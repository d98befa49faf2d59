//! Buckets of time in UTC, and which times cannot be right.

/// A span of the calendar in which one commit is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bucket {
    Hour,
    Day,
    Week,
    Month,
    Year,
}

impl Bucket {
    /// The number of the bucket that holds this second; consecutive buckets have consecutive numbers.
    pub(super) fn of(self, time: i64) -> i64 {
        let day = time.div_euclid(86_400);
        match self {
            Bucket::Hour => time.div_euclid(3600),
            Bucket::Day => day,
            // 1970-01-01 was a Thursday: shifted by three days, weeks begin on Monday.
            Bucket::Week => (day + 3).div_euclid(7),
            Bucket::Month => {
                let (year, month) = year_and_month(day);
                year * 12 + month - 1
            }
            Bucket::Year => year_and_month(day).0,
        }
    }
}

/// Year and month (1 to 12) of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
/// The algorithm is `civil_from_days` of Howard Hinnant's "chrono-compatible low-level date algorithms".
fn year_and_month(day: i64) -> (i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month)
}

/// Marks the times that lie in the future or out of their order, by more than the tolerance.
///
/// Times in order of sequence should never fall. The longest series that never falls is taken as
/// right: one commit with a far too late time then accuses itself, not all that follow it.
pub(super) fn implausible(times: &[i64], now: i64, tolerance: i64) -> Vec<bool> {
    let latest = now.saturating_add(tolerance);
    let in_order = longest_rising(times, latest);
    let mut result = vec![true; times.len()];
    let mut lower = i64::MIN;
    let mut following = in_order.iter().copied().peekable();
    for (index, &time) in times.iter().enumerate() {
        if following.peek() == Some(&index) {
            following.next();
            result[index] = false;
            lower = time;
            continue;
        }
        let upper = following
            .peek()
            .map_or(latest, |&next| times[next].saturating_add(tolerance));
        result[index] = time > latest || time < lower.saturating_sub(tolerance) || time > upper;
    }
    result
}

/// Indices of a longest subsequence that never falls, among the times up to `latest` (patience sorting).
fn longest_rising(times: &[i64], latest: i64) -> Vec<usize> {
    let mut piles: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; times.len()];
    for index in (0..times.len()).filter(|&index| times[index] <= latest) {
        let pile = piles.partition_point(|&top| times[top] <= times[index]);
        before[index] = pile.checked_sub(1).map(|left| piles[left]);
        if pile == piles.len() {
            piles.push(index);
        } else {
            piles[pile] = index;
        }
    }
    let mut series = Vec::with_capacity(piles.len());
    let mut next = piles.last().copied();
    while let Some(index) = next {
        series.push(index);
        next = before[index];
    }
    series.reverse();
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_year_and_month_of_the_calendar() {
        for (day, expected) in [
            (0, (1970, 1)),
            (-1, (1969, 12)),
            (31, (1970, 2)),
            (11_016, (2000, 2)), // 2000-02-29
            (11_017, (2000, 3)),
            (20_780, (2026, 11)), // 2026-11-23
            (47_540, (2100, 2)),  // 2100-02-28
            (47_541, (2100, 3)),
        ] {
            assert_eq!(year_and_month(day), expected, "day {day}");
        }
    }

    #[test]
    fn weeks_begin_on_monday() {
        let monday = 20_780 * 86_400; // 2026-11-23, a Monday
        assert_ne!(Bucket::Week.of(monday), Bucket::Week.of(monday - 1));
        assert_eq!(
            Bucket::Week.of(monday),
            Bucket::Week.of(monday + 7 * 86_400 - 1)
        );
    }

    #[test]
    fn one_late_time_accuses_itself_only() {
        let times = [0, 10_000, 900_000, 20_000, 30_000];
        assert_eq!(
            implausible(&times, 1_000_000, 3600),
            [false, false, true, false, false]
        );
    }

    #[test]
    fn a_future_time_is_implausible_even_at_the_end() {
        assert_eq!(
            implausible(&[0, 10, 99_999], 20, 3600),
            [false, false, true]
        );
    }

    #[test]
    fn a_clock_set_back_by_a_minute_is_tolerated() {
        assert_eq!(
            implausible(&[0, 10_000, 9_940, 20_000], 30_000, 3600),
            [false; 4]
        );
    }
}
