//! What a command ends with: the exit codes that scripts rely on, and errors on their way there.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The exit code of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, nothing found.
    Clean = 0,
    /// 1: done, and something was found: findings of `check`, a plan with changes that are refused.
    Findings = 1,
    /// 2: the command line is wrong.
    Usage = 2,
    /// 3: could not complete: a broker away, a file unreadable.
    Incomplete = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// What every command returns.
pub type CliResult<T = Exit> = Result<T, CliError>;

/// Why a command stopped early.
///
/// Not a `std::error::Error` itself, so that any error turns into one with `?`.
#[derive(Debug)]
pub enum CliError {
    /// The reader of standard output went away, which is its good right.
    ClosedPipe,
    /// The command line or a variable is wrong.
    Usage(String),
    /// The command could not complete.
    Failed(anyhow::Error),
}

impl CliError {
    /// A wrong command line, with what to write instead.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// A command that could not complete, in its own words.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(anyhow::Error::msg(message.into()))
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedPipe => f.write_str("the reader of standard output went away"),
            Self::Usage(message) => f.write_str(message),
            Self::Failed(error) => write!(f, "{error:#}"),
        }
    }
}

/// What writing findings or a plan came to: that nobody reads to the end changes nothing about them, nor
/// about the exit code.
pub(super) fn read_or_not(written: CliResult<()>) -> CliResult<()> {
    match written {
        Err(CliError::ClosedPipe) => Ok(()),
        written => written,
    }
}

impl<E: Into<anyhow::Error>> From<E> for CliError {
    fn from(error: E) -> Self {
        let error = error.into();
        match error.downcast_ref::<io::Error>() {
            Some(io) if io.kind() == io::ErrorKind::BrokenPipe => Self::ClosedPipe,
            _ => Self::Failed(error),
        }
    }
}
