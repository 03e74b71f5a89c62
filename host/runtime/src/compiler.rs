//! Compiles components, and keeps the compiled code.
//!
//! Compiling is where hostile input meets the largest piece of code, so it happens in a child process with limits on memory
//! and time: the same program, started again, which must call [`serve_if_asked`] first in `main`. What the child answers is
//! machine code, trusted as much as the compiler is. It is kept under `<home>/cache`, authenticated with the home's key, and
//! `deserialize` only ever sees bytes whose MAC was checked in the same buffer.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wasmtime::component::Component;

use crate::error::{Error, Result};
use crate::key::{Key, MAC_BYTES};
use crate::policy::CompileBounds;
use crate::text::shown;

/// Set for the child: memory in bytes, CPU seconds, and the stack size the engine is made with.
const CHILD_ENV: &str = "LODGER_COMPILER";
/// Most machine code taken from the child.
const CODE_MAX: u64 = 512 << 20;
/// Exit code of a Rust program that panics, as the child does when there is no memory for its threads.
const PANICKED: i32 = 101;
/// Most of the child's complaint shown.
const COMPLAINT_MAX: u64 = 4096;

/// Runs the compiler and never returns, when this process was started as one; otherwise does nothing.
///
/// Call it first in `main`, before threads and runtimes.
pub fn serve_if_asked() {
    let Ok(asked) = std::env::var(CHILD_ENV) else { return };
    let code = match serve(&asked) {
        Ok(()) => 0,
        Err(message) => {
            // Without a stderr there is nobody to tell.
            let _ = std::io::stderr().write_all(message.as_bytes());
            1
        }
    };
    leave(code)
}

#[expect(clippy::exit, reason = "nothing of this process but the compiler may run")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// Whether this process was started as a compiler; a host must not be opened in one.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD_ENV).is_some()
}

fn serve(asked: &str) -> Result<(), String> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let mut numbers = asked.split(':').map(str::parse::<u64>);
    let (Some(Ok(memory)), Some(Ok(seconds)), Some(Ok(stack))) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return Err(format!("{CHILD_ENV} is not understood"));
    };
    for (resource, most) in
        [(Resource::As, memory), (Resource::Cpu, seconds), (Resource::Core, 0), (Resource::Fsize, 0)]
    {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(|error| error.to_string())?;
    }
    let mut wasm = Vec::new();
    std::io::stdin().read_to_end(&mut wasm).map_err(|error| error.to_string())?;
    let engine = wasmtime::Engine::new(&crate::sandbox::compile_config(stack)).map_err(|error| format!("{error:#}"))?;
    let code = engine.precompile_component(&wasm).map_err(|error| format!("{error:#}"))?;
    std::io::stdout().write_all(&code).map_err(|error| error.to_string())
}

/// What keeps compiled code for one engine in one home.
pub(crate) struct Compiler {
    /// Started as the child.
    pub program: PathBuf,
    pub bounds: CompileBounds,
    pub stack_bytes: u64,
    pub cache: PathBuf,
}

impl Compiler {
    /// The component with this [digest], from the cache where its code is there and authentic, else compiled anew.
    ///
    /// `name` is shown in errors; `wasm` is only asked for when it has to be compiled.
    pub async fn load(
        &self,
        engine: &wasmtime::Engine,
        key: &Key,
        name: &str,
        digest_wanted: &str,
        wasm: impl FnOnce() -> Result<Vec<u8>>,
    ) -> Result<Component> {
        let file = cache_name(engine, digest_wanted);
        if let Some(component) = self.load_cached(engine, key, &file) {
            return Ok(component);
        }
        let wasm = wasm()?;
        if digest(&wasm) != digest_wanted {
            let message = "its file was changed after it was installed".to_owned();
            let hint = Some("uninstall the addon with --keep-data and install it again".to_owned());
            return Err(Error::Component { component: shown(name, 200), message, hint });
        }
        refuse_foreign(name, &wasm)?;
        let code = self.compile(name, &wasm).await?;
        let component = deserialize(engine, &code).map_err(|source| unloadable(name, source))?;
        self.keep(key, &file, &code)?;
        Ok(component)
    }

    fn load_cached(&self, engine: &wasmtime::Engine, key: &Key, file: &str) -> Option<Component> {
        let bytes = std::fs::read(self.cache.join(file)).ok()?;
        let (mac, code) = bytes.split_first_chunk::<MAC_BYTES>()?;
        if !key.verify(file, code, *mac) {
            tracing::warn!(file, "compiled code in the cache is not authentic; compiling again");
            return None;
        }
        deserialize(engine, code).inspect_err(|error| tracing::warn!(file, %error, "cached code does not load")).ok()
    }

    fn keep(&self, key: &Key, file: &str, code: &[u8]) -> Result<()> {
        let path = self.cache.join(file);
        let write = || -> std::io::Result<()> {
            let mut temporary = tempfile::NamedTempFile::new_in(&self.cache)?;
            temporary.write_all(&key.mac(file, code))?;
            temporary.write_all(code)?;
            temporary.persist(&path)?;
            Ok(())
        };
        write().map_err(Error::io("write", &path))
    }

    /// Removes what the component with this digest was compiled to.
    pub fn forget(&self, engine: &wasmtime::Engine, digest: &str) {
        // A leftover is only space: it is never loaded unless its component comes back.
        let _ = std::fs::remove_file(self.cache.join(cache_name(engine, digest)));
    }

    async fn compile(&self, name: &str, wasm: &[u8]) -> Result<Vec<u8>> {
        let component = || shown(name, 200);
        let bound = |what: String| Error::CompileBound { component: component(), bound: what };
        let failed = |source| Error::Io { action: "run the compiler", path: self.program.clone(), source };
        let seconds = self.bounds.wall.as_secs().max(1).saturating_mul(4);
        let mut child = child(&self.program, &format!("{}:{seconds}:{}", self.bounds.memory_bytes, self.stack_bytes))
            .spawn()
            .map_err(failed)?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(Error::TaskLost);
        };
        let talk = async {
            let (mut code, mut complaint) = (Vec::new(), Vec::new());
            let send = async {
                // A child that refuses early closes its end; what it says then is the answer.
                let _ = stdin.write_all(wasm).await;
                drop(stdin);
            };
            let (mut stdout, mut stderr) = (stdout.take(CODE_MAX), stderr.take(COMPLAINT_MAX));
            let ((), read, told) =
                tokio::join!(send, stdout.read_to_end(&mut code), stderr.read_to_end(&mut complaint));
            read?;
            told?;
            Ok::<_, std::io::Error>((child.wait().await?, code, complaint))
        };
        let Ok(done) = tokio::time::timeout(self.bounds.wall, talk).await else {
            return Err(bound(format!("limits.compile_ms = {}", self.bounds.wall.as_millis())));
        };
        let (status, code, complaint) = done.map_err(failed)?;
        if status.success() {
            return Ok(code);
        }
        if was_killed(status) {
            return Err(bound(format!("limits.compile_memory_bytes = {}", self.bounds.memory_bytes)));
        }
        if status.code() == Some(PANICKED) {
            return Err(bound(format!("limits.compile_memory_bytes = {}: it panicked", self.bounds.memory_bytes)));
        }
        let message = shown(String::from_utf8_lossy(&complaint).trim(), 1000);
        Err(Error::Component { component: component(), message, hint: None })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this module owns starting the compiler: the program itself, no arguments"
)]
fn child(program: &Path, ask: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(program);
    command.env_clear().env(CHILD_ENV, ask).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true);
    command
}

/// Out of memory aborts the child; out of CPU time is a signal too.
fn was_killed(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal().is_some()
}

/// Says clearly what is no component, before a process is started for it.
fn refuse_foreign(name: &str, wasm: &[u8]) -> Result<()> {
    let wrong = |message: &str, hint: &str| Error::Component {
        component: shown(name, 200),
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    };
    if wasmtime::Engine::detect_precompiled(wasm).is_some() || wasm.starts_with(b"\x7fELF") {
        return Err(wrong("precompiled code is never loaded from outside", "ship the .wasm component itself"));
    }
    match wasm {
        [b'\0', b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', 1, 0, 0, 0, ..] => {
            Err(wrong("a core module, not a component", "build it for the target wasm32-wasip2"))
        }
        [b'(', ..] | [b';', ..] => Err(wrong("WebAssembly text, not a component", "compile it first")),
        [] => Err(wrong("an empty file", "build the addon first")),
        _ => Err(wrong("not a WebAssembly component", "build it for the target wasm32-wasip2")),
    }
}

/// Code that was just compiled and does not load: what one call has is too small for it, or the host is at fault. Wasmtime has
/// no type to tell them apart by.
fn unloadable(name: &str, source: wasmtime::Error) -> Error {
    if !format!("{source:#}").contains("pooling allocator") {
        return Error::Sandbox { action: "load code it has just compiled", source };
    }
    let message = source.root_cause().to_string().replace(" in the pooling allocator", "");
    // The smallest size it can be instantiated with is over what the policy lets any call have.
    let by_policy = message.contains("minimum");
    let hint = by_policy.then(|| "limits.memory_bytes and limits.table_elements in lodger.toml".to_owned());
    let message = format!("needs more than one call has: {}", shown(&message, 500));
    Error::Component { component: shown(name, 200), message, hint }
}

fn cache_name(engine: &wasmtime::Engine, digest: &str) -> String {
    let mut compatibility = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut compatibility);
    format!("{digest}-{:016x}.cwasm", compatibility.finish())
}

/// What a component is known by: SHA-256 in hex.
pub(crate) fn digest(wasm: &[u8]) -> String {
    hex(&Sha256::digest(wasm))
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

#[expect(unsafe_code, reason = "the one place that loads compiled code")]
fn deserialize(engine: &wasmtime::Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes come from our own compiler child, either just now or from the cache after their MAC was checked in
    // this very buffer; wasmtime itself checks that they fit this engine's version and configuration.
    unsafe { Component::deserialize(engine, code) }
}
