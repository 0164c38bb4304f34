//! Progress on a terminal, and silence elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use janus_eval::benchmark::peak_mb;
use janus_train::{GrpoRecord, GrpoValidation, SampleLoss, StepRecord, ValidationRecord};

/// A bar on stderr. It hears downloads and the writing of analyses.
pub struct Bar {
    bar: ProgressBar,
    pieces: u64,
}

impl Bar {
    /// A bar of bytes.
    pub fn bytes() -> Self {
        Self::new(None, "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
    }

    /// A bar of findings.
    pub fn findings(total: usize) -> Self {
        Self::new(Some(total as u64), "{spinner} {pos}/{len} findings {wide_bar} {msg} {elapsed} (left: {eta})")
    }

    /// A bar of samples.
    pub fn samples(total: usize) -> Self {
        Self::new(Some(total as u64), "{spinner} {pos}/{len} {msg} {wide_bar} {per_sec} {elapsed} (left: {eta})")
    }

    /// A bar of training steps.
    pub fn steps() -> Self {
        Self::new(Some(0), "{spinner} {pos}/{len} steps {wide_bar} {msg} {elapsed} (left: {eta})")
    }

    /// One more is done.
    pub fn inc(&self) {
        self.bar.inc(1);
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        // Hidden by itself where stderr is no terminal.
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        if total.is_some() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, pieces: 0 }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl janus_hub::Progress for Bar {
    fn begin(&mut self, what: &str, total: Option<u64>) {
        self.bar.reset();
        self.bar.set_message(what.to_owned());
        if let Some(total) = total {
            self.bar.set_length(total);
        }
    }

    fn at(&mut self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    fn end(&mut self) {
        self.bar.finish_and_clear();
    }

    fn stop(&self) -> bool {
        crate::stopped()
    }
}

impl janus_core::Progress for Bar {
    fn text(&mut self, _index: usize, _text: &str) {
        self.pieces += 1;
        let seconds = self.bar.elapsed().as_secs_f64().max(1e-3);
        self.bar.set_message(format!("{} tokens written, {:.0} a second", self.pieces, self.pieces as f64 / seconds));
    }

    fn answered(&mut self) {
        self.bar.inc(1);
    }

    fn stop(&self) -> bool {
        crate::stopped()
    }
}

impl janus_train::ClassProgress for Bar {
    fn phase(&mut self, name: &str, units: usize) {
        tracing::info!(name, units, "phase");
        self.bar.set_message(name.to_owned());
        self.bar.set_length(units as u64);
        self.bar.set_position(0);
        self.bar.reset_eta();
    }
}

impl janus_train::TrainingProgress for Bar {
    fn begin(&mut self, step: u64, steps: u64) {
        self.bar.set_length(steps);
        self.bar.set_position(step);
        self.bar.reset_eta();
    }

    fn step(&mut self, record: &StepRecord, spike: &[&SampleLoss]) {
        if record.spike {
            let samples: Vec<_> =
                spike.iter().map(|one| format!("{} as {}: {:.3}", one.id, one.form, one.loss)).collect();
            tracing::warn!(step = record.step, loss = record.loss, samples = samples.join(", "), "the loss stands out");
        }
        for id in &record.skipped {
            tracing::warn!(step = record.step, id, "longer than --max-seq-len, left out");
        }
        let speed = record.tokens as f64 / record.seconds.max(1e-9);
        self.bar.set_message(format!(
            "loss {:.4}, learning rate {:.2e}, {speed:.0} tokens/s, {} MB",
            record.loss,
            record.learning_rate,
            peak_mb()
        ));
        self.bar.set_position(record.step);
    }

    fn validated(&mut self, record: &ValidationRecord) {
        tracing::info!(step = record.step, loss = record.loss, precision = ?record.precision, recall = ?record.recall,
            false_positive_rate = ?record.false_positive_rate, best = record.best, "validation");
    }

    fn stop(&self) -> bool {
        crate::stopped()
    }
}

impl janus_train::GrpoProgress for Bar {
    fn phase(&mut self, name: &str, units: u64) {
        tracing::info!(name, units, "phase");
        self.bar.set_message(name.to_owned());
        self.bar.set_length(units);
        self.bar.set_position(0);
        self.bar.reset_eta();
    }

    fn done(&mut self, units: u64) {
        self.bar.inc(units);
    }

    fn step(&mut self, record: &GrpoRecord) {
        let speed = record.tokens as f64 / record.seconds.max(1e-9);
        self.bar.set_message(format!(
            "reward {:.3}, {} dead groups, divergence {:.4}, {speed:.0} tokens/s, {} MB",
            record.rewards.total,
            record.dead_groups,
            record.kl,
            peak_mb()
        ));
        self.bar.set_position(record.step);
    }

    fn validated(&mut self, record: &GrpoValidation) {
        tracing::info!(step = record.step, %record, best = record.best, "validation");
    }

    fn stop(&self) -> bool {
        crate::stopped()
    }
}
