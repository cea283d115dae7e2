//! Panics as log events, so that they look like all other lines and one that repeats is held back.
//!
//! Catches nothing: whoever works on records does.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;
use std::thread;
use std::time::Duration;

use super::limit::RateLimit;

/// How often a panic at one place is told.
const INTERVAL: Duration = Duration::from_secs(10);

/// Makes `tracing` the place where panics of this process are told, in place of standard error.
pub(super) fn log_panics() {
    let limit = RateLimit::new(INTERVAL);
    panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let Some(suppressed) = limit.admit(&place) else { return };
        let message = panic.payload_as_str().unwrap_or("no message");
        let thread = thread::current();
        let thread = thread.name().unwrap_or_default();
        // Asked for with RUST_BACKTRACE, as everywhere.
        let backtrace = Backtrace::capture();
        match backtrace.status() {
            BacktraceStatus::Captured => {
                tracing::error!(thread, place, suppressed, "panicked: {message}\n{backtrace}");
            }
            _ => tracing::error!(thread, place, suppressed, "panicked: {message}"),
        }
    }));
}
