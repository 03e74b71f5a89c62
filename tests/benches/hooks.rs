//! The benchmark: what a hook call, and a service, costs beside the bare thing, in one run.
//!
//! Each ratio is the median over rounds in which both sides take turns, so that a busy neighbour slows both. Run by
//! `cargo xtask bench`, which builds what this needs.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints")]
#![expect(clippy::disallowed_methods, reason = "a benchmark starts the processes it measures")]

mod bare;
mod growth;
mod served;
mod services;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lodger::{
    Access, Add, AddonId, Config, HookRequest, Host, Package, Policy, ResourceRef, UnprovisionReason,
    UnprovisionRequest,
};

use bare::{Bare, Floor};

/// Rounds per ratio, and how long each side runs in a round.
const ROUNDS: usize = 15;
const TURN: Duration = Duration::from_millis(150);
/// Addons of one home.
const MANY: usize = 1000;
/// How the benchmark starts itself to be measured from outside.
const MEASURE_MANY: &str = "--measure-many";

fn main() -> anyhow::Result<()> {
    lodger::compiler::serve_if_asked();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(home) = arguments.iter().position(|argument| argument == MEASURE_MANY) {
        return measure_many(Path::new(arguments.get(home + 1).context("no home")?));
    }
    if let Some(home) = arguments.iter().position(|argument| argument == served::SERVE_BARE) {
        // One thread, as `lodger serve` answers on; of more the one that asks would get the less.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(served::serve_bare(Path::new(arguments.get(home + 1).context("no home")?)));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let figures = runtime.block_on(measure())?;
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{}", serde_json::to_string_pretty(&figures.by_name())?);
    } else {
        figures.print();
    }
    Ok(())
}

/// Named figures with what they should be at most, or at least.
#[derive(Default)]
struct Figures(Vec<(&'static str, f64, Option<Target>)>);

#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
}

impl Figures {
    fn add(&mut self, name: &'static str, value: f64, target: Option<Target>) {
        eprintln!("  {name} = {value:.2}");
        self.0.push((name, value, target));
    }

    fn by_name(&self) -> BTreeMap<&str, f64> {
        self.0.iter().map(|(name, value, _)| (*name, (value * 1000.0).round() / 1000.0)).collect()
    }

    fn print(&self) {
        println!("| figure | measured | target |");
        println!("|---|---|---|");
        for (name, value, target) in &self.0 {
            let target = match target {
                Some(Target::AtMost(most)) => format!("≤ {most}{}", if value <= most { "" } else { " **missed**" }),
                Some(Target::AtLeast(least)) => format!("≥ {least}{}", if value >= least { "" } else { " **missed**" }),
                None => String::new(),
            };
            println!("| `{name}` | {value:.2} | {target} |");
        }
    }
}

/// The benchmark's addon in a home of its own.
struct Bench {
    host: Arc<Host>,
    addon: AddonId,
    resource: ResourceRef,
    unprovision: UnprovisionRequest,
    home: tempfile::TempDir,
}

fn component() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/benches/guest/bench-guest.wasm")
}

/// Writes a package of the benchmark's component.
fn package(dir: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let package = dir.join(name);
    std::fs::create_dir_all(&package)?;
    std::fs::copy(component(), package.join("bench.wasm")).context("run `cargo xtask guests` first")?;
    let manifest = serde_json::json!({ "name": name, "version": "1.0.0", "component": "bench.wasm" });
    std::fs::write(package.join("addon.json"), serde_json::to_vec(&manifest)?)?;
    Ok(package)
}

impl Bench {
    async fn new(home: tempfile::TempDir) -> anyhow::Result<Bench> {
        let packages = tempfile::tempdir()?;
        let host = Host::open(Config::new(home.path().join("home"))).await?;
        let incoming = host.inspect(&package(packages.path(), "bench")?).await?;
        let addon = host.install(incoming, false).await?.id;
        ensure!(host.enable(&addon).await?.outcome.is_completed());
        let done = host.add(Add::new("shop".parse()?, addon.clone())).await?;
        ensure!(done.outcome.is_completed(), "{}", done.outcome);
        let id = host.resource(&"shop".parse()?, &addon, None)?.id.context("no id")?;
        let resource = ResourceRef { key: id.clone(), id: id.clone(), private: "password".to_owned() };
        let unprovision = UnprovisionRequest { key: "none".to_owned(), id: None, reason: UnprovisionReason::Removed };
        Ok(Bench { host: Arc::new(host), addon, resource, unprovision, home })
    }

    async fn url(&self) -> anyhow::Result<()> {
        let call = self.host.call(&self.addon, HookRequest::Url(self.resource.clone())).await?;
        ensure!(call.outcome.is_completed(), "{}", call.outcome);
        Ok(())
    }

    async fn files(&self) -> anyhow::Result<()> {
        let call = self.host.call_world(&self.addon, "enable", Access::ReadWrite, Box::new(()), async |store, pre| {
            let hooks = bare::setup::SetupHooksPre::new(pre.clone())?.instantiate_async(&mut *store).await?;
            hooks.lodger_addon_setup().call_enable(store).await
        });
        let call = call.await?;
        ensure!(call.outcome.is_completed(), "{}", call.outcome);
        Ok(())
    }

    /// The record alone: what is unprovisioned is not there, so that no resource changes with it.
    async fn durable(&self) -> anyhow::Result<()> {
        let call = self.host.call(&self.addon, HookRequest::Unprovision(self.unprovision.clone())).await?;
        ensure!(call.outcome.is_completed(), "{}", call.outcome);
        Ok(())
    }
}

/// Runs `work` for one turn, and returns microseconds per run.
async fn turn(work: &mut impl AsyncFnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut runs = 0u32;
    while began.elapsed() < TURN {
        work().await?;
        runs += 1;
    }
    Ok(began.elapsed().as_secs_f64() * 1e6 / f64::from(runs))
}

/// Median microseconds of both sides, and the median of their ratios, second over first.
async fn compare(
    mut first: impl AsyncFnMut() -> anyhow::Result<()>,
    mut second: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<(f64, f64, f64)> {
    // Warms both up.
    turn(&mut first).await?;
    turn(&mut second).await?;
    let (mut one, mut two, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (a, b) = if round % 2 == 0 {
            let a = turn(&mut first).await?;
            (a, turn(&mut second).await?)
        } else {
            let b = turn(&mut second).await?;
            (turn(&mut first).await?, b)
        };
        one.push(a);
        two.push(b);
        ratio.push(b / a);
    }
    Ok((median(one), median(two), median(ratio)))
}

/// wasmtime's errors are a type of their own.
fn any(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

async fn measure() -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    let wasm = std::fs::read(component())?;
    // Files in memory, as what is compared is the way to them; what must be durable is measured on the disk below.
    let bench = Bench::new(in_memory()?).await?;
    let bare = Bare::new(bench.host.engine(), &wasm, bench.home.path()).map_err(any)?;

    eprintln!("a read hook, beside bare wasmtime");
    let (us, call_us, ratio) = compare(async || bare.url().await.map_err(any), async || bench.url().await).await?;
    figures.add("bare_us", us, None);
    figures.add("sandbox_us", call_us, None);
    figures.add("sandbox_over_bare", ratio, Some(Target::AtMost(1.25)));

    eprintln!("a hook that writes a file and counts a directory's entries");
    let (us, fs_us, ratio) = compare(async || bare.files().await.map_err(any), async || bench.files().await).await?;
    figures.add("bare_fs_us", us, None);
    figures.add("sandbox_fs_us", fs_us, None);
    figures.add("sandbox_fs_over_bare", ratio, Some(Target::AtMost(1.25)));

    eprintln!("the same work as a bash hook");
    let data = in_memory()?;
    let script = data.path().join("enable");
    std::fs::write(&script, "echo enabled > \"$ADDON_DATA/note\"\n[ \"$(ls \"$ADDON_DATA\" | wc -l)\" -gt 0 ]\n")?;
    let (_, bash_us, ratio) = compare(async || bench.files().await, async || bash(&script, data.path())).await?;
    figures.add("bash_us", bash_us, None);
    figures.add("bash_over_sandbox_fs", ratio, Some(Target::AtLeast(50.0)));

    eprintln!("calls per second over two cores");
    throughput(&mut figures, &Arc::new(bench), &Arc::new(bare)).await?;

    eprintln!("a durable call, beside a bare one and two bare commits");
    let bench = Bench::new(tempfile::tempdir()?).await?;
    let bare = Bare::new(bench.host.engine(), &wasm, bench.home.path()).map_err(any)?;
    let floor = Floor::new(bench.home.path())?;
    let floored = async || {
        floor.commit("started")?;
        bare.unprovision().await.map_err(any)?;
        floor.commit("finished")
    };
    let (floor_us, durable_us, ratio) = compare(floored, async || bench.durable().await).await?;
    figures.add("floor_us", floor_us, None);
    figures.add("durable_us", durable_us, None);
    figures.add("durable_over_floor", ratio, Some(Target::AtMost(1.3)));

    eprintln!("the same calls in a home that is full, beside one that is not");
    growth::measure(&mut figures).await?;

    eprintln!("load from cache against compile");
    loading(&mut figures).await?;

    eprintln!("the whole process of `lodger env`, beside a bash hook");
    command_line(&mut figures, &script, data.path()).await?;

    eprintln!("a home of {MANY} addons");
    many(&mut figures).await?;

    eprintln!("requests, beside the bare framework");
    served::measure(&mut figures).await?;

    eprintln!("services, beside the engine's own command");
    services::measure(&mut figures).await?;
    Ok(figures)
}

/// A directory in memory where there is one, else on the disk.
fn in_memory() -> anyhow::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory)? } else { tempfile::tempdir()? })
}

fn bash(script: &Path, data: &Path) -> anyhow::Result<()> {
    let status = Command::new("bash").arg(script).env("ADDON_DATA", data).status()?;
    ensure!(status.success());
    Ok(())
}

async fn throughput(figures: &mut Figures, bench: &Arc<Bench>, bare: &Arc<Bare>) -> anyhow::Result<()> {
    let (mut alone, mut hosted, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (ours, theirs) = (bench.clone(), bare.clone());
        let b = per_second(move || {
            let theirs = theirs.clone();
            async move { theirs.url().await.map_err(any) }
        });
        let b = b.await?;
        let a = per_second(move || {
            let ours = ours.clone();
            async move { ours.url().await }
        });
        let a = a.await?;
        alone.push(b);
        hosted.push(a);
        ratio.push(a / b);
    }
    figures.add("bare_per_second", median(alone), None);
    figures.add("sandbox_per_second", median(hosted), None);
    figures.add("throughput_over_bare", median(ratio), Some(Target::AtLeast(0.8)));
    Ok(())
}

async fn per_second<F>(work: impl Fn() -> F + Clone + Send + 'static) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let began = Instant::now();
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let work = work.clone();
            tokio::spawn(async move {
                let mut runs = 0u32;
                while began.elapsed() < TURN {
                    work().await?;
                    runs += 1;
                }
                anyhow::Ok(runs)
            })
        })
        .collect();
    let mut runs = 0;
    for task in tasks {
        runs += task.await??;
    }
    Ok(f64::from(runs) / began.elapsed().as_secs_f64())
}

async fn loading(figures: &mut Figures) -> anyhow::Result<()> {
    let (mut compile, mut load) = (Vec::new(), Vec::new());
    let packages = tempfile::tempdir()?;
    let package = package(packages.path(), "bench")?;
    for _ in 0..5 {
        let home = tempfile::tempdir()?;
        let host = Host::open(Config::new(home.path().join("home"))).await?;
        let mut ms = Vec::new();
        for _ in 0..2 {
            let began = Instant::now();
            host.inspect(&package).await?;
            ms.push(began.elapsed().as_secs_f64() * 1e3);
        }
        compile.extend(ms.first());
        load.extend(ms.last());
    }
    figures.add("compile_ms", median(compile), None);
    figures.add("load_ms", median(load), None);
    Ok(())
}

async fn command_line(figures: &mut Figures, script: &Path, data: &Path) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    let package = package(dir.path(), "bench")?;
    let lodger = |arguments: &[&str]| -> anyhow::Result<()> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lodger"));
        let output = command.arg("--home").arg(&home).args(arguments).stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    lodger(&["install", &package.to_string_lossy(), "--yes"])?;
    lodger(&["enable", "bench"])?;
    lodger(&["add", "shop", "bench"])?;
    let (_, env_us, ratio) = compare(async || bash(script, data), async || lodger(&["env", "shop"])).await?;
    figures.add("cli_env_us", env_us, None);
    figures.add("cli_env_over_bash_hook", ratio, Some(Target::AtMost(3.0)));
    Ok(())
}

/// Installs the addons here, and measures opening and loading them in a process of its own.
async fn many(figures: &mut Figures) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("home");
    {
        let host = Host::open(Config::new(&home)).await?;
        for number in 0..MANY {
            let package = package(dir.path(), &format!("bench-{number}"))?;
            let id = host.install(host.inspect(&package).await?, false).await?.id;
            ensure!(host.enable(&id).await?.outcome.is_completed());
            std::fs::remove_dir_all(package)?;
        }
        let read = Package::read(&package(dir.path(), "bench")?, &Policy::default().package)?;
        figures.add("component_kb", read.component.map_or(0.0, |wasm| wasm.len() as f64 / 1024.0), None);
    }
    let (mut open, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let output = Command::new(std::env::current_exe()?).arg(MEASURE_MANY).arg(&home).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let (ms, mb) = text.trim().split_once(' ').context("no figures")?;
        open.push(ms.parse()?);
        memory.push(mb.parse()?);
    }
    figures.add("open_1000_ms", median(open), Some(Target::AtMost(1000.0)));
    figures.add("idle_1000_rss_mb", median(memory), Some(Target::AtMost(300.0)));
    Ok(())
}

/// Opens a home, loads every addon, and prints milliseconds and resident megabytes.
fn measure_many(home: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let began = Instant::now();
        let host = Host::open(Config::new(home)).await?;
        let addons = host.addons()?;
        ensure!(addons.len() == MANY);
        for addon in addons {
            host.explain(&addon.id).await?;
        }
        let ms = began.elapsed().as_secs_f64() * 1e3;
        let status = std::fs::read_to_string("/proc/self/status")?;
        let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kb: f64 = kb.trim().trim_end_matches(" kB").trim().parse()?;
        println!("{ms:.1} {:.1}", kb / 1024.0);
        Ok(())
    })
}
