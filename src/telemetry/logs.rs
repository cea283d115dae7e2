//! Where log events go: standard error, as lines for people or as one JSON object a line.
//!
//! Installs the process's subscriber once; everything else writes through `tracing` with the
//! fields `stage`, `topic`, `partition`, `offset`. Panics become events as well.

use std::fs::File;
use std::io::IsTerminal;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use super::panics;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// What is logged and how.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// The shape of a line.
    pub format: LogFormat,
    /// Which events, as `tracing` filters say it (`info`, `biplane=debug,kafka=warn`); `None`: `info`.
    pub filter: Option<String>,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `BIPLANE_LOG_FORMAT` is neither word.
    #[error("BIPLANE_LOG_FORMAT is `{0}`; write `human` or `json`")]
    Format(String),
    /// The filter does not parse.
    #[error("BIPLANE_LOG is no filter ({0}); write a level such as `info` or `biplane=debug,kafka=warn`")]
    Filter(String),
    /// The process has a subscriber already.
    #[error("logging is set up already")]
    Twice,
}

impl LogOptions {
    /// Reads `BIPLANE_LOG` and `BIPLANE_LOG_FORMAT` through `variable`.
    ///
    /// # Errors
    /// When the format is unknown.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Self, LogError> {
        let format = match variable("BIPLANE_LOG_FORMAT").as_deref() {
            None | Some("" | "human") => LogFormat::Human,
            Some("json") => LogFormat::Json,
            Some(other) => return Err(LogError::Format(other.to_owned())),
        };
        Ok(Self { format, filter: variable("BIPLANE_LOG").filter(|filter| !filter.is_empty()) })
    }

    /// Makes these options the process's, also for panics. Lines go to `file` where one is given, else to standard
    /// error.
    ///
    /// # Errors
    /// When the filter does not parse or logging is set up already.
    pub fn install(&self, file: Option<File>) -> Result<(), LogError> {
        let filter = EnvFilter::try_new(self.filter.as_deref().unwrap_or("info"))
            .map_err(|error| LogError::Filter(error.to_string()))?;
        let color = file.is_none()
            && std::io::stderr().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let writer = match file {
            Some(file) => BoxMakeWriter::new(Mutex::new(file)),
            None => BoxMakeWriter::new(std::io::stderr),
        };
        let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(color);
        match self.format {
            LogFormat::Human => builder.with_target(false).try_init(),
            LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
        }
        .map_err(|_| LogError::Twice)?;
        panics::log_panics();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_format_is_named_and_an_empty_one_is_the_default() {
        let read = |value: &'static str| LogOptions::from_variables(move |_| Some(value.to_owned()));
        assert!(read("yaml").unwrap_err().to_string().contains("`yaml`"));
        assert_eq!(read("json").unwrap().format, LogFormat::Json);
        assert_eq!(read("").unwrap().format, LogFormat::Human);
        let bad = LogOptions { filter: Some("a=b=c".to_owned()), ..LogOptions::default() };
        assert!(matches!(bad.install(None), Err(LogError::Filter(_))));
    }
}
