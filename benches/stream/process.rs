//! A process watched from outside, through `/proc`.

use std::process::{Child, Command, Stdio};

/// Killed when dropped.
pub(crate) struct Measured(Child);

impl Measured {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().expect("the measured process starts"))
    }

    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// User and system time so far, at the usual 100 ticks a second.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap_or_default();
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let field =
            |index: usize| after_name.split_whitespace().nth(index).and_then(|text| text.parse::<f64>().ok());
        (field(11).unwrap_or(0.0) + field(12).unwrap_or(0.0)) / 100.0
    }

    pub(crate) fn resident_megabytes(&self) -> f64 {
        self.status("VmRSS:")
    }

    pub(crate) fn peak_megabytes(&self) -> f64 {
        self.status("VmHWM:")
    }

    pub(crate) fn threads(&self) -> f64 {
        self.status("Threads:") * 1_024.0
    }

    /// In MB, where the system says KB.
    fn status(&self, name: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The middle one; of an even number the upper of the two.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}
