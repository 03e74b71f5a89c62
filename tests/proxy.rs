//! A socket between lodger and its engine that meddles with one request: real processes and a real engine, and a fault at the
//! very moment it is wanted. Everything else is passed on as it is.
#![expect(clippy::disallowed_methods, reason = "a thread for each direction of each connection")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::Running;

/// What becomes of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Who asks is killed, and the engine never hears of it.
    KillBefore,
    /// The engine has done it, and who asked is killed before it knows.
    KillAfter,
    /// It is not answered, and nothing after it.
    Silence,
    /// The engine goes away, and nothing reaches it after that.
    Gone,
    /// The engine says no.
    Refusal(u16, &'static str),
}

pub struct Proxy {
    dir: TempDir,
    meddler: Arc<Meddler>,
}

struct Meddler {
    engine: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What requests to meddle with contain, how many of them to let pass, and what becomes of the next.
    plan: Option<(&'static str, usize, Fault)>,
    victim: Option<u32>,
    /// The requests so far that change something.
    changes: Vec<String>,
    down: Option<Fault>,
}

impl Proxy {
    /// In front of the engine with this socket.
    pub fn new(engine: impl Into<PathBuf>) -> Proxy {
        let dir = TempDir::new().unwrap();
        let listener = UnixListener::bind(dir.path().join("engine.sock")).unwrap();
        let meddler = Meddler { engine: engine.into(), state: Mutex::default(), changed: Condvar::new() };
        let meddler = Arc::new(meddler);
        let theirs = meddler.clone();
        // Until the tests end: nobody connects any more when the proxy is gone.
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, meddler) = (client.unwrap(), theirs.clone());
                std::thread::spawn(move || {
                    // Whoever is gone, on either side, ends the other.
                    let _ = meddler.pass(&client);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Proxy { dir, meddler }
    }

    /// The lines of a policy whose engine this is.
    pub fn policy(&self) -> String {
        format!("\n[[engine]]\nname = \"proxied\"\nsocket = \"{}\"\n", self.dir.path().join("engine.sock").display())
    }

    /// Meddles with the one request after `pass` others whose first line contains `with`; with an empty one, that change
    /// something.
    pub fn meddle(&self, with: &'static str, pass: usize, fault: Fault) {
        *self.state() = State { plan: Some((with, pass, fault)), ..State::default() };
    }

    /// Who is killed.
    pub fn victim(&self, running: &Running) {
        self.state().victim = Some(running.id());
        self.meddler.changed.notify_all();
    }

    /// Everything passes again.
    pub fn back(&self) {
        let mut state = self.state();
        (state.plan, state.down) = (None, None);
        self.meddler.changed.notify_all();
    }

    /// Whether the request that was waited for has come.
    pub fn has_met(&self) -> bool {
        self.state().plan.is_none()
    }

    /// The requests that changed something since this was last asked.
    pub fn changes(&self) -> Vec<String> {
        std::mem::take(&mut self.state().changes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.meddler.state.lock().unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Threads that hold on to a connection let go.
        self.back();
    }
}

impl Meddler {
    fn pass(&self, client: &UnixStream) -> std::io::Result<()> {
        let down = self.state.lock().unwrap().down;
        if let Some(fault) = down {
            return self.meet(fault);
        }
        let engine = UnixStream::connect(&self.engine)?;
        let kills = Arc::new(AtomicBool::new(false));
        std::thread::scope(|threads| {
            threads.spawn(|| {
                let answered = self.answer(&engine, client, &kills);
                // What the engine has ended it may still be told more about, and the other way round.
                client.shutdown(if answered.is_ok() { Shutdown::Write } else { Shutdown::Both })
            });
            let asked = self.ask(client, &engine, &kills);
            let _ = engine.shutdown(if asked.is_ok() { Shutdown::Write } else { Shutdown::Both });
            asked
        })
    }

    /// Passes on what the engine answers.
    fn answer(&self, mut engine: &UnixStream, mut client: &UnixStream, kills: &AtomicBool) -> std::io::Result<()> {
        let mut bytes = [0; 1 << 16];
        loop {
            let read = engine.read(&mut bytes)?;
            if kills.load(Ordering::Relaxed) {
                return self.meet(Fault::KillAfter);
            }
            if read == 0 {
                return Ok(());
            }
            client.write_all(&bytes[..read])?;
        }
    }

    /// Passes on what the client asks, request by request.
    fn ask(&self, mut client: &UnixStream, mut engine: &UnixStream, kills: &AtomicBool) -> std::io::Result<()> {
        let mut from = BufReader::new(client.try_clone()?);
        loop {
            let head = head(&mut from)?;
            let Some(line) = head.lines().next() else { return Ok(()) };
            let fault = self.fault_of(&in_short(line));
            match fault {
                None => {}
                Some(Fault::KillAfter) => kills.store(true, Ordering::Relaxed),
                Some(Fault::Refusal(status, message)) => {
                    body(&head, &mut from, &mut std::io::sink())?;
                    let body = format!("{{\"message\":\"{message}\"}}");
                    let head = format!("HTTP/1.1 {status} No\r\nContent-Type: application/json\r\n");
                    write!(client, "{head}Content-Length: {}\r\n\r\n{body}", body.len())?;
                    continue;
                }
                Some(fault) => return self.meet(fault),
            }
            engine.write_all(head.as_bytes())?;
            body(&head, &mut from, &mut engine)?;
        }
    }

    /// What becomes of a request.
    fn fault_of(&self, request: &str) -> Option<Fault> {
        let is_change = !request.starts_with("GET ") && !request.starts_with("HEAD ") && !request.contains("/exec");
        let mut state = self.state.lock().unwrap();
        if is_change {
            state.changes.push(request.to_owned());
        }
        if state.down.is_some() {
            return state.down;
        }
        let (with, pass, fault) = state.plan.as_mut()?;
        if !(if with.is_empty() { is_change } else { request.contains(*with) }) {
            return None;
        }
        if *pass > 0 {
            *pass -= 1;
            return None;
        }
        let fault = *fault;
        state.plan = None;
        state.down = Some(fault).filter(|fault| matches!(fault, Fault::Silence | Fault::Gone));
        Some(fault)
    }

    /// Always ends the connection.
    fn meet(&self, fault: Fault) -> std::io::Result<()> {
        let state = self.state.lock().unwrap();
        match fault {
            Fault::KillBefore | Fault::KillAfter => {
                let state = self.changed.wait_while(state, |state| state.victim.is_none()).unwrap();
                let victim = state.victim.and_then(|id| Pid::from_raw(id.cast_signed()));
                kill_process(victim.unwrap(), Signal::KILL)?;
            }
            Fault::Silence => drop(self.changed.wait_while(state, |state| state.down.is_some()).unwrap()),
            Fault::Gone | Fault::Refusal(..) => {}
        }
        Err(std::io::ErrorKind::ConnectionReset.into())
    }
}

/// `POST /containers/create?name=…`, without the version.
fn in_short(line: &str) -> String {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.strip_prefix("/v1.").and_then(|rest| rest.split_once('/')).map_or(path, |(_, path)| path);
    format!("{method} /{}", path.trim_start_matches('/'))
}

/// Empty at the end of the connection.
fn head(from: &mut BufReader<UnixStream>) -> std::io::Result<String> {
    let mut head = String::new();
    while from.read_line(&mut head)? > 2 {}
    Ok(head)
}

/// Passes on the body that follows a head.
fn body(head: &str, from: &mut BufReader<UnixStream>, to: &mut impl std::io::Write) -> std::io::Result<()> {
    let head = head.to_ascii_lowercase();
    let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if value("upgrade:").is_some() {
        // No requests any more: as it comes, until it ends.
        loop {
            let bytes = from.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            to.write_all(bytes)?;
            let read = bytes.len();
            from.consume(read);
        }
    }
    if value("transfer-encoding:") == Some("chunked") {
        loop {
            let mut line = String::new();
            from.read_line(&mut line)?;
            to.write_all(line.as_bytes())?;
            let size = u64::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            std::io::copy(&mut from.take(size + 2), to)?;
            if size == 0 {
                return Ok(());
            }
        }
    }
    let length = value("content-length:").and_then(|length| length.parse().ok()).unwrap_or(0);
    std::io::copy(&mut from.take(length), to)?;
    Ok(())
}
