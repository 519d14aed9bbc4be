//! A progress bar that appears after two seconds, on a terminal only.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::Instant;

/// Shorter work needs no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// A bar, or nothing where stderr is no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
    shown: AtomicBool,
}

impl Progress {
    /// Towards a known number of bytes.
    pub fn bytes(total: u64) -> Self {
        Self::new(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()), BYTES)
    }

    /// Towards a known number of steps.
    pub fn steps(total: u64) -> Self {
        Self::new(ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden()), STEPS)
    }

    /// Towards an unknown number of rows.
    pub fn rows() -> Self {
        Self::new(ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()), ROWS)
    }

    fn new(bar: ProgressBar, template: &str) -> Self {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self { bar, started: Instant::now(), shown: AtomicBool::new(!std::io::stderr().is_terminal()) }
    }

    /// Moves the bar to `position` and says `message` beside it.
    pub fn set(&self, position: u64, message: impl Into<std::borrow::Cow<'static, str>>) {
        if self.started.elapsed() >= SHOWN_AFTER && !self.shown.swap(true, Ordering::Relaxed) {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// How long it took.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

const BYTES: &str = "{wide_bar} {percent}% {bytes}/{total_bytes} {binary_bytes_per_sec} eta {eta} {msg}";
const STEPS: &str = "{wide_bar} {pos}/{len} eta {eta} {msg}";
const ROWS: &str = "{spinner} {human_pos} rows, {per_sec} {msg}";
