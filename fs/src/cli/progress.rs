//! Progress for whatever takes longer than a second, on standard error.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;

/// A bar of bytes that appears after its first second; shared by worker threads.
pub struct Progress {
    bar: ProgressBar,
    shown_from: Mutex<Option<Instant>>,
    tell_from: Mutex<Option<Instant>>,
}

/// Who waits for so long is told what for, also without a terminal.
const PATIENCE: Duration = Duration::from_secs(5);

impl Progress {
    /// A bar that shows itself once a second has passed.
    pub fn shown(what: &'static str) -> Progress {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        bar.set_style(style("{msg} {bytes} {binary_bytes_per_sec} {elapsed}"));
        bar.set_message(what);
        Progress {
            bar,
            shown_from: Mutex::new(Some(Instant::now() + Duration::from_secs(1))),
            tell_from: Mutex::new(Some(Instant::now() + PATIENCE)),
        }
    }

    /// No bar: nobody is watching, or `--json`.
    pub fn hidden() -> Progress {
        Progress {
            bar: ProgressBar::hidden(),
            shown_from: Mutex::new(None),
            tell_from: Mutex::new(Some(Instant::now() + PATIENCE)),
        }
    }

    /// Tells how many bytes there will be in all.
    pub fn set_total(&self, bytes: u64) {
        self.bar.set_length(bytes);
        self.bar.set_style(style(
            "{msg} [{bar:30}] {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        ));
    }

    /// Adds bytes that are done.
    pub fn advance(&self, bytes: u64) {
        self.show_if_due();
        self.bar.inc(bytes);
    }

    /// Replaces the words before the figures.
    pub fn say(&self, words: String) {
        self.show_if_due();
        self.bar.set_message(words);
    }

    /// What is being waited for, as a line of its own: once, and only after some seconds.
    pub fn tell_why(&self, why: &str) {
        let mut from = self.tell_from.lock();
        if from.is_some_and(|from| Instant::now() >= from) {
            *from = None;
            self.bar.suspend(|| {
                eprintln!("waiting: {why}; nothing is lost, and Ctrl-C ends only the waiting");
            });
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    fn show_if_due(&self) {
        let mut from = self.shown_from.lock();
        if from.is_some_and(|from| Instant::now() >= from) {
            *from = None;
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are valid")
}
