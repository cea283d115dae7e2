//! Programs that live from run to run: a line with the value in, a line with the result out.
//!
//! One that dies, takes too long or says too much is ended; the next run starts another.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value as Json;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::child::{Child, Given, Pipes, Program};
use super::output::{Line, answer, ended, line};
use super::step::{Who, in_time, listen, next_line, tell};
use crate::base::Failure;

/// Programs of one step.
pub(super) struct Programs {
    program: Program,
    /// How many bytes an answer may have.
    most: usize,
    free: Semaphore,
    idle: Mutex<Vec<Alive>>,
}

/// One that runs.
struct Alive {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it says beside is logged for as long as it lives.
    _listening: JoinSet<()>,
}

impl Programs {
    pub(super) fn new(program: Program, count: usize, most: usize) -> Self {
        Self { program, most, free: Semaphore::new(count), idle: Mutex::default() }
    }

    /// What one of them answers within `limit`, once it is free; all are started alike.
    pub(super) async fn ask(
        &self,
        value: String,
        given: &Given,
        who: &Who,
        limit: Duration,
    ) -> Result<Json, Failure> {
        let _turn = self.free.acquire().await;
        in_time(limit, self.ask_now(value, given, who)).await
    }

    async fn ask_now(&self, value: String, given: &Given, who: &Who) -> Result<Json, Failure> {
        let mut alive = match self.alive() {
            Some(alive) => alive,
            None => self.start(given, who)?,
        };
        let found = self.exchange(&mut alive, value, who).await?;
        self.idle.lock().push(alive);
        answer(found)
    }

    /// One that waits for work and has not died over it.
    fn alive(&self) -> Option<Alive> {
        let mut idle = self.idle.lock();
        idle.retain_mut(|alive| alive.child.runs());
        idle.pop()
    }

    fn start(&self, given: &Given, who: &Who) -> Result<Alive, Failure> {
        let (child, Pipes { input, output, said }) = self.program.start(given)?;
        let (mut listening, who) = (JoinSet::new(), who.of_step());
        listening.spawn(async move { drop(listen(said, &who).await) });
        Ok(Alive { child, input, output: BufReader::new(output), _listening: listening })
    }

    async fn exchange(&self, alive: &mut Alive, mut value: String, who: &Who) -> Result<Json, Failure> {
        value.push('\n');
        let (mut told, mut written) = (None, Vec::new());
        // Where it died over it, the end of its output says so.
        let _ = alive.input.write_all(value.as_bytes()).await;
        loop {
            written.clear();
            if next_line(&mut alive.output, &mut written, self.most).await? == 0 {
                let status = alive.child.ended().await?;
                return Err(match status.success() {
                    true => Failure::transient("exec-ended", "the program ended before it answered"),
                    false => ended(status.code(), status.signal(), ""),
                });
            }
            match line(&written) {
                Line::Progress(text) => tell(&text, &mut told, who),
                Line::Other => {
                    return serde_json::from_slice(&written).map_err(|error| {
                        Failure::permanent("exec-output", format!("the program's answer is no JSON: {error}"))
                    });
                }
            }
        }
    }
}
