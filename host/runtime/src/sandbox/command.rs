//! Commands that a guest runs in its own services: how large, how many at a time, and that none outlives its call (threat 10).

use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::pipe::{Reader, Writer};
use super::services::{Answer, OUTPUT_MAX, OwnServices, told};
use crate::bindings::GuestError;
use crate::bindings::imports::lodger::addon::services::Executed;
use crate::engine::{self, Engine, Exec, Fault, Status, Streams};
use crate::error::{Error, Result};
use crate::render::Instance;
use crate::services::{AtWork, Services, Turns};
use crate::store::InstanceRow;

/// Bounds of the WIT package.
const STDIN_MAX: usize = 1 << 20;
const ARGUMENTS_MAX: usize = 256;
const ARGUMENT_MAX: usize = 4096;
/// Commands at a time in one instance, and as many with streams.
const COMMANDS_MAX: usize = 4;
/// Kept of a call's time to restart a container whose command has not ended.
const RESTART: Duration = Duration::from_secs(2);

impl OwnServices {
    pub async fn exec(&mut self, name: &str, command: Vec<String>, stdin: Vec<u8>) -> Answer<Executed> {
        check(&command, stdin.len())?;
        let (row, _turn, timeout) = self.begin(name, &self.services.execs).await?;
        let exec = Exec { command, stdin, output_max: OUTPUT_MAX, timeout };
        let executed = self.services.exec(&row, &exec, None, &mut self.at_work).await;
        answer(name, executed)
    }

    pub async fn pipe(
        &mut self,
        name: &str,
        command: Vec<String>,
        stdin: Option<&mut DynInputStream>,
        stdout: Option<&mut DynOutputStream>,
    ) -> Answer<Executed> {
        check(&command, 0)?;
        let (row, _turn, timeout) = self.begin(name, &self.services.pipes).await?;
        let exec = Exec { command, stdin: Vec::new(), output_max: OUTPUT_MAX, timeout };
        let (mut stdin, mut stdout) = (stdin.map(Reader::new), stdout.map(Writer::new));
        let streams = Streams {
            stdin: stdin.as_mut().map(|stdin| stdin as &mut (dyn AsyncRead + Send + Unpin)),
            stdout: stdout.as_mut().map(|stdout| stdout as &mut (dyn AsyncWrite + Send + Unpin)),
        };
        let executed = self.services.exec(&row, &exec, Some(streams), &mut self.at_work).await;
        answer(name, executed)
    }

    /// Waits for a turn in the instance, and says how long a command may take there.
    async fn begin(&self, name: &str, turns: &Turns) -> Answer<(InstanceRow, OwnedSemaphorePermit, Duration)> {
        let row = self.row(self.declared(name)?)?;
        let turn = tokio::time::timeout(self.time_left(), turns_in(turns, &row.instance).acquire_owned()).await;
        let timeout = self.time_left();
        match turn {
            // A command that was not given any time would only be started to have the container restarted.
            Ok(Ok(turn)) if !timeout.is_zero() => Ok((row, turn, timeout)),
            _ => {
                let message = format!("too little time is left in this call to run a command in `{name}`");
                Err(GuestError::Unavailable(message))
            }
        }
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).saturating_sub(RESTART)
    }
}

fn check(command: &[String], stdin: usize) -> Answer<()> {
    let bad = command.is_empty() || command.len() > ARGUMENTS_MAX || stdin > STDIN_MAX;
    if bad || command.iter().any(|word| word.len() > ARGUMENT_MAX || word.contains('\0')) {
        let message = format!("1 to {ARGUMENTS_MAX} arguments of {ARGUMENT_MAX} bytes, {STDIN_MAX} bytes of stdin");
        return Err(GuestError::Invalid(message));
    }
    Ok(())
}

/// What the guest is told about how its command ended.
fn answer(name: &str, executed: Result<engine::Executed>) -> Answer<Executed> {
    let executed = executed.map_err(|error| told(&error))?;
    let how = if executed.killed { "it was killed" } else { "the service was restarted" };
    match (executed.broken, executed.exit_code) {
        (Some(why), _) => Err(GuestError::Unavailable(format!("the command in `{name}` lost a stream ({why}); {how}"))),
        (None, None) => Err(GuestError::Unavailable(format!("the command in `{name}` had not ended in time; {how}"))),
        (None, Some(exit_code)) => Ok(Executed {
            exit_code: i32::try_from(exit_code).unwrap_or(-1),
            stdout: executed.stdout,
            stderr: executed.stderr,
            truncated: executed.truncated,
        }),
    }
}

/// Where commands in an instance take turns, for as long as any is at work or waits.
fn turns_in(all: &Turns, instance: &Instance) -> Arc<Semaphore> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.retain(|_, turns| turns.strong_count() > 0);
    all.get(instance).and_then(Weak::upgrade).unwrap_or_else(|| {
        let turns = Arc::new(Semaphore::new(COMMANDS_MAX));
        all.insert(instance.clone(), Arc::downgrade(&turns));
        turns
    })
}

impl Services {
    /// Runs a command in an instance. One that has not ended is ended by restarting the container. `at_work` is it until
    /// then, also when this is cut off.
    async fn exec(
        &self,
        row: &InstanceRow,
        exec: &Exec,
        streams: Option<Streams<'_>>,
        at_work: &mut Option<AtWork>,
    ) -> Result<engine::Executed> {
        let engine = self.engines.get(&row.engine)?;
        let id = self.running(&*engine, row).await?;
        *at_work = Some(self.commands.begin(row, &row.instance.container_name(&self.marks()))?);
        let executed = match streams {
            Some(streams) => engine.pipe(&id, exec, streams).await,
            None => engine.exec(&id, exec).await,
        };
        match &executed {
            Ok(executed) if executed.left_running() => self.restart(row).await?,
            // Whether it has begun, or ended, is not known.
            Err(failure) if matches!(failure.fault, Fault::Unreachable | Fault::TimedOut) => *at_work = None,
            _ => {}
        }
        at_work.take().map_or(Ok(()), AtWork::ended)?;
        Ok(executed?)
    }

    /// The id of the instance's own container, which runs.
    async fn running(&self, engine: &dyn Engine, row: &InstanceRow) -> Result<String> {
        let there = self.own_container(engine, &row.instance).await?;
        let running = there.filter(|there| there.status == Status::Running);
        running.map(|there| there.id).ok_or_else(|| Error::Service {
            addon: row.instance.addon.clone(),
            service: row.instance.service.clone(),
            message: "does not run".to_owned(),
            hint: format!("`lodger reconcile {}`", row.instance.addon),
        })
    }
}
