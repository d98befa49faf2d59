//! Reads that ended at their deadline.
//!
//! The kernel fetches a page with those behind it first; where that fails it asks once more, for the page alone, before it tells
//! its caller. That second request comes at once, and is refused at once: else the caller would wait twice as long.

use std::ops::Range;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The second request comes within this.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Reads of the last moment that ended too late. Several processes may ask for the page again.
#[derive(Default)]
pub(super) struct LateReads(Mutex<Vec<LateRead>>);

struct LateRead {
    ino: u64,
    range: Range<u64>,
    ended: Instant,
}

impl LateReads {
    /// To be called before the kernel hears of it.
    pub(super) fn ended(&self, ino: u64, range: Range<u64>) {
        let ended = Instant::now();
        self.0.lock().push(LateRead { ino, range, ended });
    }

    /// Whether this asks again for what has just failed.
    pub(super) fn is_asked_again(&self, ino: u64, offset: u64) -> bool {
        let mut reads = self.0.lock();
        reads.retain(|read| read.ended.elapsed() < AT_ONCE);
        let same = |read: &LateRead| read.ino == ino && read.range.contains(&offset);
        reads.iter().any(same)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_read_is_refused_when_it_is_asked_for_again() {
        let late = LateReads::default();
        late.ended(7, 4096..8192);
        assert!(!late.is_asked_again(8, 4096), "another file");
        assert!(!late.is_asked_again(7, 8192), "behind it");
        assert!(late.is_asked_again(7, 4096));
        assert!(late.is_asked_again(7, 5000), "another process");
        late.0.lock()[0].ended = Instant::now() - AT_ONCE;
        assert!(!late.is_asked_again(7, 4096), "later");
    }
}
