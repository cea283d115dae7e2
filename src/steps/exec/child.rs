//! Programs: where they may lie, how they are started, and how they end.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

use crate::base::{Class, Failure};

/// Where programs that the deployment allows may lie: the config root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRoot(PathBuf);

/// What a program may use, as the kernel keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of its address space.
    pub(super) memory: Option<u64>,
    /// Seconds of a processor.
    pub(super) cpu: Option<u64>,
    /// Files that are open at one time.
    pub(super) files: Option<u64>,
}

/// A program that is there.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) limits: Limits,
}

/// What one start of it is given.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) arguments: Vec<String>,
    pub(super) env: Vec<(String, String)>,
}

/// A started program. Dropping it ends its whole process group at once.
pub(super) struct Child {
    process: tokio::process::Child,
    group: Option<Pid>,
}

/// The ends of its pipes.
pub(super) struct Pipes {
    pub(super) input: ChildStdin,
    pub(super) output: ChildStdout,
    pub(super) said: ChildStderr,
}

impl ExecRoot {
    /// The config root at `folder`.
    ///
    /// # Errors
    /// Where there is no such folder.
    pub fn new(folder: &Path) -> io::Result<Self> {
        Ok(Self(folder.canonicalize()?))
    }

    /// The file that `program` means: below the root, a whole path, or the first of that name in `PATH`.
    pub(super) fn program(&self, program: &str) -> Result<PathBuf, String> {
        let path = Path::new(program);
        let found = if path.is_absolute() {
            path.is_file().then(|| path.to_owned())
        } else if program.contains('/') {
            self.inside(path).filter(|path| path.is_file())
        } else {
            let folders = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&folders).map(|folder| folder.join(path)).find(|path| path.is_file())
        };
        found.ok_or_else(|| format!("there is no program `{program}`"))
    }

    /// The folder that a program runs in: the root, or one below it.
    pub(super) fn folder(&self, folder: Option<&str>) -> Result<PathBuf, String> {
        let Some(folder) = folder else { return Ok(self.0.clone()) };
        let found = self.inside(Path::new(folder)).filter(|path| path.is_dir());
        found.ok_or_else(|| format!("there is no folder `{folder}` below the config root"))
    }

    /// A path below the root, whatever links say.
    fn inside(&self, path: &Path) -> Option<PathBuf> {
        let found = self.0.join(path).canonicalize().ok()?;
        found.starts_with(&self.0).then_some(found)
    }
}

impl Program {
    /// Starts it with nothing in its environment but what is given.
    pub(super) fn start(&self, given: &Given) -> Result<(Child, Pipes), Failure> {
        let mut command = Command::new(&self.path);
        command
            .args(&given.arguments)
            .env_clear()
            .envs(given.env.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut process = command.spawn().map_err(|error| not_started(&error))?;
        let group = process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let (input, output, said) = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let child = Child { process, group };
        if let Some(group) = group {
            self.limits.keep(group).map_err(|error| not_started(&error))?;
        }
        let (Some(input), Some(output), Some(said)) = (input, output, said) else {
            return Err(not_started(&io::Error::other("it has no pipes")));
        };
        Ok((child, Pipes { input, output, said }))
    }
}

fn not_started(error: &io::Error) -> Failure {
    // Processes or memory may be short for a moment.
    let class = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::OutOfMemory => Class::Transient,
        _ => Class::Permanent,
    };
    Failure::new(class, "exec-spawn", format!("the program cannot be started: {error}"))
}

impl Limits {
    #[cfg(target_os = "linux")]
    fn keep(self, process: Pid) -> io::Result<()> {
        use rustix::process::{Resource, Rlimit, prlimit};

        let limits = [(Resource::As, self.memory), (Resource::Cpu, self.cpu), (Resource::Nofile, self.files)];
        for (resource, most) in limits {
            if let Some(most) = most {
                let limit = Rlimit { current: Some(most), maximum: Some(most) };
                match prlimit(Some(process), resource, limit) {
                    // It has ended already.
                    Ok(_) | Err(rustix::io::Errno::SRCH) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    #[cfg(not(target_os = "linux"))]
    fn keep(self, _: Pid) -> io::Result<()> {
        if self == Self::default() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "limits are kept on Linux only"))
    }
}

impl Child {
    /// Waits until it has ended, and ends what it left in its group.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        let status = self.process.wait().await;
        self.end_group();
        status.map_err(|error| not_started(&error))
    }

    /// Whether it still runs.
    pub(super) fn runs(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            // That nobody is left in it is as well.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.end_group();
    }
}
