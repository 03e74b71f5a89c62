//! Commands in a container: their streams, their end, and what becomes of those that do not come to one.
//!
//! Docker has no word for ending a command. Where this machine can see which process of the container it is, a second command
//! kills it from within.

use std::io::ErrorKind;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, ExecInspectResponse};
use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, timeout_at};

use super::LOOK_AGAIN;
use super::connection::Asking;
use crate::engine::{Exec, Executed, Result, Streams};

/// How much of an input is read at once.
const CHUNK: usize = 64 << 10;
/// How long a command that was killed may take to be gone.
const GONE: Duration = Duration::from_secs(2);

/// A command at work. Its input ends, for the command too, when this is dropped.
struct Command {
    id: String,
    input: Pin<Box<dyn AsyncWrite + Send>>,
    output: Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, Error>> + Send>>,
}

/// Why the streams of a command came to no end.
enum Stopped {
    Engine(Error),
    /// One of the caller's.
    Theirs(String),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Engine(error)
    }
}

/// On time-out the command is left: whoever keeps nothing of it can as well restart the container.
pub async fn exec(asking: &Asking, container: &str, exec: &Exec) -> Result<Executed> {
    let deadline = Instant::now() + exec.timeout;
    let mut command = start(asking, container, exec, !exec.stdin.is_empty()).await?;
    run(asking, &mut command, exec, Streams::default(), deadline).await
}

pub async fn pipe(asking: &Asking, container: &str, exec: &Exec, streams: Streams<'_>) -> Result<Executed> {
    let deadline = Instant::now() + exec.timeout;
    let has_input = streams.stdin.is_some() || !exec.stdin.is_empty();
    let mut command = start(asking, container, exec, has_input).await?;
    let mut executed = run(asking, &mut command, exec, streams, deadline).await?;
    if executed.left_running() {
        // Before its input ends: it must not take what it has for all there is.
        executed.killed = kill(asking, container, &command.id).await?;
    }
    Ok(executed)
}

async fn start(asking: &Asking, container: &str, exec: &Exec, has_input: bool) -> Result<Command> {
    let config = ExecConfig {
        cmd: Some(exec.command.clone()),
        attach_stdin: Some(has_input),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        privileged: Some(false),
        ..ExecConfig::default()
    };
    let id = asking.ask(asking.client.create_exec(container, config)).await?.id;
    match asking.ask(asking.client.start_exec(&id, None)).await? {
        StartExecResults::Attached { output, input } => Ok(Command { id, input, output }),
        StartExecResults::Detached => Err(asking.refused("the engine did not attach to the command".to_owned())),
    }
}

/// Serves the command's streams until its end, or until the deadline, or until one of the streams fails.
async fn run(
    asking: &Asking,
    command: &mut Command,
    exec: &Exec,
    streams: Streams<'_>,
    deadline: Instant,
) -> Result<Executed> {
    let mut executed = Executed::default();
    // A stream has no other way to tell that something is missing at its end.
    let may_break_off = streams.stdout.is_none();
    match timeout_at(deadline, serve(command, exec, streams, &mut executed)).await {
        // Podman breaks off where a command has ended with input left to read. How it ended is asked for all the same.
        Ok(Err(Stopped::Engine(Error::IOError { err })))
            if may_break_off && err.kind() == ErrorKind::ConnectionReset =>
        {
            executed.truncated = true;
        }
        Ok(Err(Stopped::Engine(error))) => return Err(asking.failed(&error)),
        Ok(Err(Stopped::Theirs(why))) => {
            executed.broken = Some(why);
            return Ok(executed);
        }
        Ok(Ok(())) | Err(_) => {}
    }
    // The output may have ended before the command, or go on after it where it left something running.
    loop {
        let state = look(asking, &command.id).await?;
        if state.running == Some(false) {
            executed.exit_code = state.exit_code;
        }
        if executed.exit_code.is_some() || Instant::now() >= deadline {
            return Ok(executed);
        }
        sleep(LOOK_AGAIN.min(deadline - Instant::now())).await;
    }
}

async fn serve(
    command: &mut Command,
    exec: &Exec,
    streams: Streams<'_>,
    executed: &mut Executed,
) -> std::result::Result<(), Stopped> {
    let Command { input, output, .. } = command;
    let Streams { stdin, mut stdout } = streams;
    let fed = async {
        match stdin {
            Some(from) => feed(from, input).await?,
            None if !exec.stdin.is_empty() => feed(&mut &*exec.stdin, input).await?,
            None => {}
        }
        std::future::pending().await
    };
    let unwritten = |error: std::io::Error| Stopped::Theirs(format!("its output cannot be written: {error}"));
    let read = async {
        while let Some(part) = output.next().await {
            match (part?, &mut stdout) {
                (LogOutput::StdOut { message }, Some(to)) => to.write_all(&message).await.map_err(unwritten)?,
                (part, _) => executed.take(part, exec.output_max),
            }
        }
        match &mut stdout {
            Some(to) => to.flush().await.map_err(unwritten),
            None => Ok(()),
        }
    };
    tokio::select! { ended = read => ended, failed = fed => failed }
}

/// Gives a command its input and then its end. The command may end without having read it all.
async fn feed(
    from: &mut (dyn AsyncRead + Send + Unpin),
    to: &mut Pin<Box<dyn AsyncWrite + Send>>,
) -> std::result::Result<(), Stopped> {
    let mut part = vec![0; CHUNK];
    loop {
        let read = from.read(&mut part).await;
        let read = read.map_err(|error| Stopped::Theirs(format!("its input cannot be read: {error}")))?;
        let taken = match part.get(..read) {
            Some(bytes) if read > 0 => to.write_all(bytes).await,
            _ => to.shutdown().await,
        };
        if read == 0 || taken.is_err() {
            return Ok(());
        }
    }
}

async fn look(asking: &Asking, id: &str) -> Result<ExecInspectResponse> {
    asking.ask(asking.client.inspect_exec(id)).await
}

/// Kills a command with all that is in its group of processes. False where that cannot be done from here, or has not helped.
async fn kill(asking: &Asking, container: &str, id: &str) -> Result<bool> {
    let until = Instant::now() + GONE;
    let mut state = look(asking, id).await?;
    // Engines take input for a command that they have not begun yet.
    while is_to_begin(&state) && Instant::now() < until {
        sleep(LOOK_AGAIN).await;
        state = look(asking, id).await?;
    }
    if state.running == Some(false) && state.exit_code.is_some() {
        return Ok(true);
    }
    let (Some(whole_id), Some(pid)) = (state.container_id, state.pid) else { return Ok(false) };
    let Some(group) = group_inside(&whole_id, pid) else { return Ok(false) };
    // The shell's own: images without a program of that name have at least this.
    let command = ["sh", "-c", &format!("kill -KILL -{group}")].map(str::to_owned).to_vec();
    let config = ExecConfig { cmd: Some(command), ..ExecConfig::default() };
    let killing = asking.ask(asking.client.create_exec(container, config)).await?.id;
    let detached = StartExecOptions { detach: true, ..StartExecOptions::default() };
    // An image without a shell.
    if asking.ask(asking.client.start_exec(&killing, Some(detached))).await.is_err() {
        return Ok(false);
    }
    let until = Instant::now() + GONE;
    while look(asking, id).await?.running != Some(false) {
        if Instant::now() >= until {
            return Ok(false);
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(true)
}

fn is_to_begin(state: &ExecInspectResponse) -> bool {
    match state.running {
        Some(true) => state.pid == Some(0),
        _ => state.exit_code.is_none(),
    }
}

/// The group that a command leads, by its number in the container. Engines tell the number on their machine, which is this one
/// when the process is found to be in that very container.
fn group_inside(container: &str, pid: i64) -> Option<u32> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    file("cgroup")?.lines().find(|line| line.contains(container))?;
    let status = file("status")?;
    let innermost = |key: &str| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next_back()?.parse().ok()
    };
    // The first process is the service itself.
    let number = innermost("NSpid:").filter(|number| *number > 1)?;
    (innermost("NSpgid:")? == number).then_some(number)
}

impl Executed {
    fn take(&mut self, part: LogOutput, most: usize) {
        let (into, bytes) = match part {
            LogOutput::StdOut { message } => (&mut self.stdout, message),
            LogOutput::StdErr { message } | LogOutput::Console { message } => (&mut self.stderr, message),
            LogOutput::StdIn { .. } => return,
        };
        let room = most.saturating_sub(into.len()).min(bytes.len());
        self.truncated |= room < bytes.len();
        into.extend(bytes.into_iter().take(room));
    }
}
