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
        // Where no room is made, each call in turn waits its time: none waits for ever.
        let until = Instant::now() + LONGEST_WAIT;
        while fill > WAIT_FROM && Instant::now() < until {
            if self.log.is_read_only() {
                return Err(FsError::ReadOnly);
            }
            std::thread::sleep(Duration::from_millis(50));
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

    /// Brings content into the log; waits for room as a writer does.
    pub(super) fn append_content(
        &self,
        record: &RecordRef<'_>,
    ) -> FsResult<crate::log::LogPosition> {
        Ok(self.log.append(record)?)
    }

    pub(super) fn fill(&self) -> f64 {
        let usage = self.log.usage();
        usage.bytes as f64 / (usage.limit.max(1)) as f64
    }

    pub(super) fn wants_checkpoint(&self) -> bool {
        self.fill() > CHECKPOINT_FROM
    }
}
