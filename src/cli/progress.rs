//! How far a long command is, on standard error: a bar where that is a terminal, else a plain line now
//! and then, so that a log shows that something moves. A command that is done at once shows nothing.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::output;

/// How long until the first plain line, and between two.
const EVERY: Duration = Duration::from_secs(5);

/// See the module's documentation.
pub(super) struct Progress {
    bar: ProgressBar,
    plain: Option<Plain>,
}

impl Progress {
    /// `what` is being done, in `steps`.
    pub(super) fn new(steps: usize, what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            let plain = Plain { what, steps, done: 0, said: Instant::now() };
            return Self { bar: ProgressBar::hidden(), plain: Some(plain) };
        }
        let bar = match steps {
            0 | 1 => ProgressBar::hidden(),
            _ => ProgressBar::new(steps as u64).with_message(what),
        };
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
            bar.set_style(style);
        }
        Self { bar, plain: None }
    }

    /// One more step is done.
    pub(super) fn step(&mut self) {
        match &mut self.plain {
            Some(plain) => {
                if let Some(line) = plain.step(Instant::now()) {
                    output::note(&line);
                }
            }
            None => self.bar.inc(1),
        }
    }

    /// So many steps are done.
    pub(super) fn reach(&mut self, done: u64) {
        match &mut self.plain {
            Some(plain) => {
                plain.done = usize::try_from(done).unwrap_or(usize::MAX).saturating_sub(1);
                self.step();
            }
            None => self.bar.set_position(done),
        }
    }

    /// Writes a line above the bar.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| output::note(line));
    }

    /// Takes the bar away.
    pub(super) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

struct Plain {
    what: &'static str,
    steps: usize,
    done: usize,
    said: Instant,
}

impl Plain {
    fn step(&mut self, now: Instant) -> Option<String> {
        self.done += 1;
        if now.duration_since(self.said) < EVERY {
            return None;
        }
        self.said = now;
        Some(format!("{}: {} of {}", self.what, self.done, self.steps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_a_line_now_and_then_says_how_far_it_is() {
        let start = Instant::now();
        let mut plain = Plain { what: "reading the DLQs", steps: 900, done: 0, said: start };
        assert_eq!(plain.step(start), None, "what is done at once says nothing");
        assert_eq!(plain.step(start + EVERY).as_deref(), Some("reading the DLQs: 2 of 900"));
        assert_eq!(plain.step(start + EVERY), None);
        assert_eq!(plain.step(start + EVERY * 2).as_deref(), Some("reading the DLQs: 4 of 900"));
    }
}
