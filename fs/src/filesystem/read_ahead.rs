//! What to fetch before it is asked for: of a file that is read in order, the more the longer it goes on.
//!
//! Chunks that were fetched ahead wait in the cache, and chunks that nobody has read yet are driven out of it by others like
//! them. So those who read in order share the room that the cache has for this.

use std::ops::Range;
use std::time::{Duration, Instant};

const FIRST_WINDOW_BYTES: u64 = 1 << 20;
const LAST_WINDOW_BYTES: u64 = 64 << 20;
/// Reads may come in another order by so much and still be sequential: twice what the kernel asks for ahead.
const REORDERED_BYTES: u64 = 8 << 20;
/// Whoever has fetched nothing ahead for so long has no share any more.
const SHARE_FOR: Duration = Duration::from_secs(5);
/// More readers than that share as if they were so many.
const MOST_READERS: usize = 64;

/// How one open file is read.
#[derive(Default)]
pub(super) struct Sequence {
    next_offset: u64,
    window_bytes: u64,
    fetched_to: u64,
}

impl Sequence {
    /// What to fetch ahead of a read of this range, if there is room for `most` bytes.
    pub(super) fn ahead(&mut self, range: &Range<u64>, most: u64) -> Option<Range<u64>> {
        let near = range.start.abs_diff(self.next_offset) <= REORDERED_BYTES;
        self.next_offset = range.end.max(if near { self.next_offset } else { 0 });
        if !near {
            (self.window_bytes, self.fetched_to) = (0, 0);
            return None;
        }
        // Half a window of what was fetched is left: nothing yet.
        if self.fetched_to >= self.next_offset + self.window_bytes / 2 && self.window_bytes > 0 {
            return None;
        }
        let last_window = LAST_WINDOW_BYTES.min(most).max(FIRST_WINDOW_BYTES);
        self.window_bytes = (self.window_bytes * 2).clamp(FIRST_WINDOW_BYTES, last_window);
        let from = self.fetched_to.max(self.next_offset);
        self.fetched_to = from.max(self.next_offset + self.window_bytes);
        Some(from..self.fetched_to)
    }
}

/// Who has had something fetched ahead of late.
#[derive(Default)]
pub(super) struct Readers(Vec<(u64, Instant)>);

impl Readers {
    /// A reader's share of the room; it may be another than those who have one.
    pub(super) fn share(&self, reader: u64, room: u64, now: Instant) -> u64 {
        let others = self.0.iter().filter(|(other, at)| {
            *other != reader && now.saturating_duration_since(*at) < SHARE_FOR
        });
        room / (1 + others.count() as u64)
    }

    /// It has something fetched ahead.
    pub(super) fn note(&mut self, reader: u64, now: Instant) {
        self.0.retain(|(other, at)| {
            *other != reader && now.saturating_duration_since(*at) < SHARE_FOR
        });
        if self.0.len() < MOST_READERS {
            self.0.push((reader, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn reads(sequence: &mut Sequence, offsets: &[u64], room: u64) -> Vec<Range<u64>> {
        let ahead = |at: &u64| sequence.ahead(&(at * MIB..(at + 1) * MIB), room * MIB);
        offsets
            .iter()
            .filter_map(ahead)
            .map(|range| range.start / MIB..range.end / MIB)
            .collect()
    }

    /// The kernel's read-ahead comes in several requests, which are served in any order.
    #[test]
    fn a_file_in_order_but_for_some_requests_is_fetched_once() {
        let mut sequence = Sequence::default();
        let offsets = [2, 0, 1, 3, 7, 5, 4, 6, 9, 8, 10, 11, 15, 12, 14, 13];
        let ahead = reads(&mut sequence, &offsets, 100);
        assert!(
            ahead.windows(2).all(|two| two[0].end <= two[1].start),
            "{ahead:?}"
        );
        let bytes = ahead
            .iter()
            .map(|range| range.end - range.start)
            .sum::<u64>();
        // All that was read since, and half a window at least.
        assert!(bytes >= 13 + 8, "{ahead:?}");
    }

    #[test]
    fn no_more_is_fetched_than_there_is_room_for() {
        let mut sequence = Sequence::default();
        let offsets: Vec<u64> = (0..100).collect();
        for at in offsets {
            let ahead = reads(&mut sequence, &[at], 10);
            let end = ahead.last().map_or(0, |range| range.end);
            assert!(end <= at + 1 + 10, "{ahead:?} after {at}");
        }
    }

    #[test]
    fn whoever_jumps_has_nothing_fetched() {
        let mut sequence = Sequence::default();
        assert!(reads(&mut sequence, &[100, 20, 500, 40, 300], 100).is_empty());
    }

    #[test]
    fn readers_share_the_room_while_they_read() {
        let (mut readers, start) = (Readers::default(), Instant::now());
        assert_eq!(readers.share(1, 120, start), 120);
        readers.note(1, start);
        readers.note(1, start);
        readers.note(2, start);
        assert_eq!(readers.share(1, 120, start), 60);
        assert_eq!(readers.share(3, 120, start), 40);
        assert_eq!(readers.share(3, 120, start + SHARE_FOR), 120);
        for reader in 0..1000 {
            readers.note(reader, start);
        }
        assert!(readers.0.len() <= MOST_READERS);
    }
}
