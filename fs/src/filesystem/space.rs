//! Room: what statfs(2) tells, and how writers are slowed down while the log is nearly full.

use super::*;

/// Writers are slowed down from here on.
const SLOW_FROM: f64 = 0.70;
/// They wait from here on.
const WAIT_FROM: f64 = 0.95;
/// So long, then there is no space.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Longest delay of one call while the log is below that.
const LONGEST_DELAY: Duration = Duration::from_millis(200);
/// A checkpoint is due when the log is that full: only a commit empties it.
const CHECKPOINT_FROM: f64 = 0.40;
const BLOCK_BYTES: u64 = 4096;
/// How often somebody who waits looks for room.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Until when a call may wait for room: it has its own deadline too.
fn longest_wait() -> Instant {
    let until = Instant::now() + LONGEST_WAIT;
    crate::blocking::deadline().map_or(until, |deadline| deadline.min(until))
}

impl Filesystem {
    /// Room of the log and of the disk that it is on.
    pub fn statfs(&self) -> FsResult<Statfs> {
        let usage = self.log.usage();
        let totals = self.commits.totals();
        let blocks = |bytes: u64| bytes.div_ceil(BLOCK_BYTES);
        // The store has no size that could be told: free is what can be written at once.
        let free = blocks(usage.limit.saturating_sub(usage.bytes));
        Ok(Statfs {
            block_bytes: BLOCK_BYTES as u32,
            blocks: blocks(totals.bytes) + blocks(usage.bytes) + free,
            free,
            files: totals.files.saturating_add(1 << 32),
            files_free: 1 << 32,
            name_bytes: NAME_BYTES as u32,
        })
    }

    /// Waits as long as the log's filling asks for, before anything is locked.
    pub(super) fn slow_down(&self, bytes: usize) -> FsResult<()> {
        let mut fill = self.fill();
        if fill < SLOW_FROM {
            return Ok(());
        }
        self.commits.ask_checkpoint();
        if !crate::blocking::may_block() {
            // The thread that reads the kernel's requests has others to serve: deletes make room.
            return Err(FsError::NoRoomYet);
        }
        // Where no room is made, each call in turn waits its time: none waits for ever.
        let until = longest_wait();
        while fill > WAIT_FROM && Instant::now() < until {
            if self.log.is_read_only() {
                return Err(FsError::ReadOnly);
            }
            std::thread::sleep(LOOK_AGAIN);
            fill = self.fill();
        }
        if fill > WAIT_FROM {
            return Err(FsError::NoSpace);
        }
        let share = ((fill - SLOW_FROM) / (WAIT_FROM - SLOW_FROM)).clamp(0.0, 1.0);
        let size = (bytes as f64 / (128 << 10) as f64).clamp(0.1, 1.0);
        std::thread::sleep(LONGEST_DELAY.mul_f64(share * size));
        Ok(())
    }

    /// Does what needs room in the log; while there is none, waits as a writer does and does it again.
    /// To be called without a lock: a commit has to freeze the view and empty the log meanwhile.
    pub(super) fn with_room<T>(&self, mut work: impl FnMut() -> FsResult<T>) -> FsResult<T> {
        let until = longest_wait();
        loop {
            match work() {
                Err(FsError::NoSpace) if !crate::blocking::may_block() => {
                    return Err(FsError::NoRoomYet);
                }
                Err(FsError::NoSpace) if Instant::now() < until && !self.log.is_read_only() => {
                    self.commits.ask_checkpoint();
                    std::thread::sleep(LOOK_AGAIN);
                }
                done => return done,
            }
        }
    }

    /// How much of the room for writers is used.
    pub(super) fn fill(&self) -> f64 {
        let usage = self.log.usage();
        usage.bytes as f64 / (usage.ordinary_limit.max(1)) as f64
    }

    pub(super) fn wants_checkpoint(&self) -> bool {
        self.fill() > CHECKPOINT_FROM
    }
}
