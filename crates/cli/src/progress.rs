//! The progress bar, on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use metrics::record::Iteration;
use model::hub;
use report::units;

use crate::output;

/// A bar that counts to `total`; nothing where stderr is no terminal or `quiet` is set.
pub(crate) fn counted(total: u64, quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(total);
    if quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {percent} %  {eta} left");
    bar.with_style(style.expect("the template is fixed"))
}

/// Shows what comes from the hub, one file at a time; nothing where stderr is no terminal or
/// `quiet` is set.
pub(crate) struct Fetching {
    bar: ProgressBar,
    quiet: bool,
}

impl Fetching {
    pub(crate) fn new(quiet: bool) -> Self {
        let bar = ProgressBar::new(0);
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        let style = "{msg}  {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        let style = ProgressStyle::with_template(style).expect("the template is fixed");
        Self {
            bar: bar.with_style(style),
            quiet,
        }
    }

    pub(crate) fn show(&self, progress: hub::Progress) {
        match progress {
            hub::Progress::File { name, done, total } => {
                if self.bar.message() != name {
                    self.bar.reset();
                    self.bar.set_message(name.to_owned());
                }
                self.bar.set_length(total);
                self.bar.set_position(done);
            }
            hub::Progress::Cached { reason } => {
                let text = format!("note: {reason}; the model is the one in the cache");
                self.bar.suspend(|| output::message(self.quiet, &text));
            }
        }
    }
}

impl Drop for Fetching {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Shows the training's progress; nothing where stderr is no terminal or `quiet` is set.
pub(crate) struct Progress {
    bar: ProgressBar,
    step_ns: u64,
}

impl Progress {
    pub(crate) fn new(iterations: u32, quiet: bool) -> Self {
        let bar = ProgressBar::new(u64::from(iterations));
        if quiet {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar, step_ns: 0 }
    }

    /// Says what goes on while there is nothing to count.
    pub(crate) fn phase(&self, text: &'static str) {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        self.bar.set_style(style.expect("the template is fixed"));
        self.bar.set_message(text);
        self.bar.enable_steady_tick(Duration::from_millis(100));
    }

    /// Shows the phase without a ticking thread, which would disturb the times of what follows.
    pub(crate) fn still(&self) {
        self.bar.disable_steady_tick();
    }

    /// Prints a line above the bar, or nothing where there is none to be seen.
    pub(crate) fn note(&self, quiet: bool, text: &str) {
        self.bar.suspend(|| output::message(quiet, text));
    }

    /// Begins to count iterations.
    pub(crate) fn training(&self) {
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left");
        self.still();
        self.bar.set_style(style.expect("the template is fixed"));
        self.bar.reset_eta();
    }

    pub(crate) fn iteration(&mut self, iteration: &Iteration) {
        self.step_ns += iteration.step_ns;
        let rate = f64::from(iteration.iteration) / (self.step_ns.max(1) as f64 / 1e9);
        let peak = iteration.peak_bytes.max(iteration.active_bytes);
        let message = format!(
            "{} it/s  loss {}  peak {}",
            units::significant(rate, 3),
            iteration
                .loss
                .map_or("not finite".into(), |loss| format!("{loss:.3}")),
            units::bytes(peak)
        );
        self.bar.set_message(message);
        self.bar.inc(1);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
