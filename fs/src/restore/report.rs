//! What a restore did, and what its threads share.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use super::attributes::Lost;
use super::folder::Refusal;
use super::{RestoreOptions, Stopped};
use crate::walk;

/// So many paths are named; the rest is counted.
const NAMED_AT_MOST: usize = 10_000;

/// What a restore did, or what a dry run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RestoreReport {
    /// Nothing was written.
    pub dry_run: bool,
    /// Regular files restored, each once however many names it has.
    pub files: u64,
    /// Further names of restored files.
    pub hard_links: u64,
    /// Folders made.
    pub folders: u64,
    /// Symbolic links, FIFOs, sockets and device nodes.
    pub others: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Files that were read back and compared.
    pub verified: u64,
    /// How many were not restored because something is there already.
    pub refused: u64,
    /// How many could not be restored, or not whole.
    pub failed: u64,
    /// How many kept their content but not their owner or a privileged attribute, because only root
    /// may set those.
    pub without_owner: u64,
    /// The first of the refused paths, relative to the target.
    pub refused_paths: Vec<String>,
    /// The first of the failures.
    pub failures: Vec<Failure>,
}

/// Something that could not be restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Relative to the target.
    pub path: String,
    /// Why.
    pub why: String,
}

impl RestoreReport {
    /// Whether everything that was asked for is there.
    pub fn is_complete(&self) -> bool {
        self.refused == 0 && self.failed == 0
    }
}

/// What walker and workers share.
pub(super) struct Shared {
    pub options: RestoreOptions,
    report: Mutex<RestoreReport>,
    stop: AtomicBool,
    stopped: Mutex<Option<Stopped>>,
}

impl Shared {
    pub(super) fn new(options: RestoreOptions) -> Shared {
        let report = RestoreReport {
            dry_run: options.dry_run,
            ..RestoreReport::default()
        };
        Shared {
            options,
            report: Mutex::new(report),
            stop: AtomicBool::new(false),
            stopped: Mutex::new(None),
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut RestoreReport)) {
        change(&mut self.report.lock());
    }

    pub(super) fn refuse(&self, path: &[u8], refusal: &Refusal) {
        match refusal {
            Refusal::WouldBeMade | Refusal::Above => {}
            Refusal::Exists => self.count(|report| {
                report.refused += 1;
                if report.refused_paths.len() < NAMED_AT_MOST {
                    report.refused_paths.push(walk::printed(path));
                }
            }),
            Refusal::Failed(error) => {
                self.fail(path, std::io::Error::from(*error));
                if matches!(*error, rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) {
                    self.stop(Stopped::NoSpace);
                }
            }
        }
    }

    pub(super) fn fail(&self, path: &[u8], why: impl std::fmt::Display) {
        self.count(|report| {
            report.failed += 1;
            if report.failures.len() < NAMED_AT_MOST {
                report.failures.push(Failure {
                    path: walk::printed(path),
                    why: why.to_string(),
                });
            }
        });
    }

    /// Attributes that could not be set make the file incomplete, unless only root could.
    pub(super) fn lost(&self, path: &[u8], lost: Lost) {
        if lost.for_lack_of_root {
            self.count(|report| report.without_owner += 1);
        }
        if !lost.named.is_empty() {
            self.fail(path, lost.named.join("; "));
        }
    }

    /// There is no sense in going on.
    pub(super) fn stop(&self, why: Stopped) {
        self.stopped.lock().get_or_insert(why);
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(super) fn finish(&self) -> (RestoreReport, Option<Stopped>) {
        let mut report = std::mem::take(&mut *self.report.lock());
        report.refused_paths.sort_unstable();
        report.failures.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        (report, self.stopped.lock().take())
    }
}
