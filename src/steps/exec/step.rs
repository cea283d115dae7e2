//! The step: hands the value to a program and puts its result where the step says.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value as Json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};

use super::child::{Given, Limits, Pipes, Program};
use super::lines::Programs;
use super::output::{Line, ended, line, result, shortened};
use crate::base::Failure;
use crate::expr::{Root, RootSet, Template};
use crate::record::Item;
use crate::steps::path::FieldPath;
use crate::steps::{
    BoxedRun, Flow, ItemScope, OpenError, Ports, Runnable, StepBody, StepContext, WaitingStep,
};

/// How much of what a program says beside its result is logged, of one run.
const MAX_SAID: usize = 64 << 10;
/// How often progress is logged at most.
const TELL: Duration = Duration::from_secs(1);

/// The step as planned.
#[derive(Debug, Clone)]
pub(super) struct Exec {
    pub(super) program: String,
    pub(super) arguments: Vec<Template>,
    pub(super) env: Vec<(String, Template)>,
    /// Below the config root.
    pub(super) folder: Option<String>,
    pub(super) into: Option<FieldPath>,
    pub(super) timeout: Duration,
    /// How many bytes a run may write.
    pub(super) output: usize,
    pub(super) limits: Limits,
    /// Whether running twice changes nothing.
    pub(super) repeatable: bool,
    pub(super) mode: Mode,
}

/// How long a program lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// For one run.
    Once,
    /// From run to run, a line each.
    Lines {
        /// How many at one time.
        programs: usize,
    },
}

/// The step, open.
struct OpenExec {
    plan: Exec,
    program: Program,
    /// Those that live from run to run.
    kept: Option<Programs>,
}

/// Whose run it is, for the log.
#[derive(Clone, Debug)]
pub(super) struct Who {
    step: Arc<str>,
    kind: Option<String>,
    job: Option<String>,
}

impl StepBody for Exec {
    fn kind(&self) -> &'static str {
        "exec"
    }

    fn waits(&self) -> bool {
        true
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn is_repeatable(&self) -> bool {
        self.repeatable
    }

    fn reads(&self) -> RootSet {
        let env = self.env.iter().map(|(_, template)| template);
        let templates = self.arguments.iter().chain(env).map(Template::reads);
        templates.fold(RootSet::EMPTY.with(Root::Value), RootSet::union)
    }

    fn open(&self, ports: &Ports) -> Result<Runnable, OpenError> {
        let root = ports.exec.as_ref().ok_or_else(|| {
            OpenError::new(
                "programs are not allowed here: start the engine with --allow-exec or BIPLANE_ALLOW_EXEC=true",
            )
        })?;
        let program = Program {
            path: root.program(&self.program).map_err(OpenError::new)?,
            folder: root.folder(self.folder.as_deref()).map_err(OpenError::new)?,
            limits: self.limits,
        };
        let kept = match self.mode {
            Mode::Once => None,
            Mode::Lines { programs } => Some(Programs::new(program.clone(), programs, self.output)),
        };
        Ok(Runnable::Waiting(Box::new(OpenExec { plan: self.clone(), program, kept })))
    }
}

impl WaitingStep for OpenExec {
    fn run<'a, 'r: 'a>(&'a self, item: &'a mut Item<'r>, context: StepContext<'a>) -> BoxedRun<'a, 'r> {
        Box::pin(async move {
            let plan = &self.plan;
            if let Some(path) = &plan.into {
                path.check(item.value()?)?;
            }
            let value = item.value()?.to_string();
            let given = plan.given(&ItemScope::new(item, context.env))?;
            let who = Who::of(context.name, item);
            let result = match &self.kept {
                Some(programs) => programs.ask(value, &given, &who, plan.timeout).await?,
                None => in_time(plan.timeout, self.once(value, &given, &who)).await?,
            };
            if let Some(path) = &plan.into {
                path.set(item.value_mut()?, result.clone())?;
            }
            item.set_result(context.name, result);
            Ok(Flow::Next)
        })
    }
}

/// What a run comes to within `limit`; it is dropped where it takes longer.
pub(super) async fn in_time(
    limit: Duration,
    run: impl Future<Output = Result<Json, Failure>>,
) -> Result<Json, Failure> {
    let ended = tokio::time::timeout(limit, run).await;
    ended.unwrap_or_else(|_| Err(Failure::took_longer("the program", limit)))
}

impl Exec {
    fn given(&self, scope: &ItemScope<'_>) -> Result<Given, Failure> {
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for template in &self.arguments {
            arguments.push(template.text(scope)?.unwrap_or_default().into_owned());
        }
        let mut env = Vec::with_capacity(self.env.len());
        for (name, template) in &self.env {
            env.extend(template.text(scope)?.map(|value| (name.clone(), value.into_owned())));
        }
        Ok(Given { arguments, env })
    }
}

impl OpenExec {
    async fn once(&self, value: String, given: &Given, who: &Who) -> Result<Json, Failure> {
        let (mut child, pipes) = self.program.start(given)?;
        let Pipes { mut input, output, said } = pipes;
        let feeding = async {
            // A program may well end without reading it all.
            let _ = input.write_all(value.as_bytes()).await;
            drop(input);
            Ok::<_, Failure>(())
        };
        let reading = read(output, self.plan.output, who);
        let listening = async { Ok::<_, Failure>(listen(said, who).await) };
        let ((), written, said, status) = tokio::try_join!(feeding, reading, listening, child.ended())?;
        match status.success() {
            true => result(&written),
            false => Err(ended(status.code(), status.signal(), &said)),
        }
    }
}

impl Who {
    fn of(step: &Arc<str>, item: &Item<'_>) -> Self {
        let job = |name| item.job.and_then(|facts| Some(facts.job.get(name)?.as_str()?.to_owned()));
        Self { step: Arc::clone(step), kind: job("kind"), job: job("id") }
    }

    /// The step alone, for what outlives a run.
    pub(super) fn of_step(&self) -> Self {
        Self { step: Arc::clone(&self.step), kind: None, job: None }
    }

    pub(super) fn progress(&self, text: &str) {
        tracing::info!(
            step = &*self.step,
            kind = self.kind.as_deref(),
            job = self.job.as_deref(),
            "progress: {text}"
        );
    }

    fn said(&self, text: &str) {
        tracing::info!(
            step = &*self.step,
            kind = self.kind.as_deref(),
            job = self.job.as_deref(),
            "the program says: {text}"
        );
    }
}

/// All that a program writes but its progress, which is logged.
async fn read(output: impl AsyncRead + Unpin, most: usize, who: &Who) -> Result<Vec<u8>, Failure> {
    let mut output = BufReader::new(output);
    let (mut written, mut told) = (Vec::new(), None);
    loop {
        let before = written.len();
        let next = next_line(&mut output, &mut written, most).await?;
        if next == 0 {
            return Ok(written);
        }
        if let Line::Progress(text) = line(&written[before..]) {
            written.truncate(before);
            tell(&text, &mut told, who);
        }
    }
}

/// Logs progress, but not all of it where it comes fast.
pub(super) fn tell(text: &str, told: &mut Option<Instant>, who: &Who) {
    if told.is_none_or(|told| told.elapsed() >= TELL) {
        *told = Some(Instant::now());
        who.progress(text);
    }
}

/// Appends a line with its end to `written`, which may come to `most` bytes; 0: nothing comes any more.
pub(super) async fn next_line(
    output: &mut (impl AsyncBufRead + Unpin),
    written: &mut Vec<u8>,
    most: usize,
) -> Result<usize, Failure> {
    let left = most.saturating_sub(written.len()) as u64 + 1;
    let read = output.take(left).read_until(b'\n', written).await;
    let read =
        read.map_err(|error| Failure::transient("exec-ended", format!("its output ended: {error}")))?;
    if written.len() > most {
        let message = format!("the program wrote more than {most} bytes");
        return Err(Failure::permanent("exec-output-too-large", message));
    }
    Ok(read)
}

/// Logs what a program says on standard error, up to a bound; its last line.
pub(super) async fn listen(said: impl AsyncRead + Unpin, who: &Who) -> String {
    let mut said = BufReader::new(said);
    let (mut bytes, mut last, mut total) = (Vec::new(), String::new(), 0);
    loop {
        bytes.clear();
        // A line without an end is cut into pieces.
        let piece = (&mut said).take(MAX_SAID as u64).read_until(b'\n', &mut bytes).await;
        if piece.unwrap_or_default() == 0 {
            return last;
        }
        let text = shortened(&String::from_utf8_lossy(&bytes));
        if text.is_empty() {
            continue;
        }
        if total < MAX_SAID {
            who.said(&text);
        }
        total += bytes.len();
        last = text;
    }
}
