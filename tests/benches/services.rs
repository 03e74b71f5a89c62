//! What services cost beside the engine's own command, where an engine answers.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use lodger::engine::Engine as _;
use lodger::engine::docker::{Address, Docker};
use lodger::{Add, Config, Host, Id};
use serde_json::{Value, json};

use crate::{Figures, Target, median};

const SOCKET: &str = "/var/run/docker.sock";
/// Pairs of a Redis of ours and a bare one.
const PAIRS: usize = 7;
/// Recorded services, in addons of this many.
const SERVICES: usize = 500;
const PER_ADDON: usize = 50;
const LOOKS: usize = 15;

/// The container of `guest-examples/redis`, as one would start it by hand.
const BARE: &[&str] = &[
    "run",
    "--detach",
    "--name",
    "lodger-bench-redis",
    "--cap-drop",
    "ALL",
    "--cap-add",
    "CHOWN",
    "--cap-add",
    "DAC_OVERRIDE",
    "--cap-add",
    "SETGID",
    "--cap-add",
    "SETUID",
    "--security-opt",
    "no-new-privileges",
    "--read-only",
    "--tmpfs",
    "/tmp",
    "--tmpfs",
    "/run",
    "--memory",
    "134217728",
    "--memory-swap",
    "134217728",
    "--cpus",
    "0.5",
    "--pids-limit",
    "200",
    "--env",
    "REDIS_PASSWORD=bench",
    "--publish",
    "127.0.0.1:16998:6379",
    "--volume",
    "lodger-bench-redis:/data",
];

pub async fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    if Docker::connect("local", &Address::Socket(SOCKET.into()))?.about().await.is_err() {
        eprintln!("  no engine answers at {SOCKET}: left out (`cargo xtask engine` installs one)");
        return Ok(());
    }
    let home = tempfile::tempdir()?;
    let root = home.path().join("home");
    std::fs::create_dir(&root)?;
    std::fs::set_permissions(&root, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    let policy = "[grant]\nunpinned = [\"docker.io/library/redis:7\", \"docker.io/lodger-test/*\"]\n";
    std::fs::write(root.join("lodger.toml"), policy)?;
    let host = Host::open(Config::new(&root)).await?;
    redis(figures, &host).await?;
    reconcile(figures, &host, home.path()).await
}

/// From `add` until Redis answers, beside `docker run` and the same question asked until it is answered.
async fn redis(figures: &mut Figures, host: &Host) -> anyhow::Result<()> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest-examples/redis");
    let redis = host.install(host.inspect(&example).await?, false).await?.id;
    ensure!(host.enable(&redis).await?.outcome.is_completed());
    let manifest: Value = serde_json::from_slice(&std::fs::read(example.join("addon.json"))?)?;
    let words = |place: &str| -> Vec<String> {
        let list = manifest.pointer(place).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let command = words("/services/0/command");
    let ready = words("/services/0/ready/exec");
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // What a run that was cut off has left.
    let _ = Command::new("docker").args(["rm", "--force", "--volumes", "lodger-bench-redis"]).output();
    // The first of both warms the engine up.
    for pair in 0..=PAIRS {
        let app: Id = format!("app-{pair}").parse()?;
        let began = Instant::now();
        let done = host.add(Add::new(app.clone(), redis.clone())).await?;
        ensure!(done.outcome.is_completed(), "{}", done.outcome);
        let added = began.elapsed().as_secs_f64();

        let began = Instant::now();
        docker(BARE.iter().copied().chain(["redis:7"]).chain(command.iter().map(String::as_str)))?;
        let ask = || docker(["exec", "lodger-bench-redis"].into_iter().chain(ready.iter().map(String::as_str)));
        while ask().is_err() {
            ensure!(began.elapsed() < Duration::from_secs(60), "the bare Redis does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        let run = began.elapsed().as_secs_f64();
        docker(["rm", "--force", "lodger-bench-redis"])?;
        docker(["volume", "rm", "lodger-bench-redis"])?;
        ensure!(host.remove(&app, &redis, None).await?.outcome.is_completed());
        if pair > 0 {
            ours.push(added * 1e3);
            theirs.push(run * 1e3);
            ratios.push(added / run);
        }
    }
    host.disable(&redis, false).await?;
    host.uninstall(&redis, false).await?;
    figures.add("docker_run_ready_ms", median(theirs), None);
    figures.add("redis_ready_ms", median(ours), None);
    figures.add("redis_ready_over_docker_run", median(ratios), Some(Target::AtMost(1.15)));
    Ok(())
}

/// Looking after services that are all well, beside the one question to the engine that this takes.
async fn reconcile(figures: &mut Figures, host: &Host, dir: &Path) -> anyhow::Result<()> {
    eprintln!("  starting {SERVICES} services, which takes minutes");
    let mut addons = Vec::new();
    for number in 0..SERVICES / PER_ADDON {
        let name = format!("many-{number}");
        let package = dir.join(&name);
        std::fs::create_dir(&package)?;
        let service = |number| json!({ "service_name": format!("s-{number}"), "image": "lodger-test/silent:1" });
        let services: Vec<Value> = (0..PER_ADDON).map(service).collect();
        let manifest = json!({ "name": name, "version": "1.0.0", "services": services });
        std::fs::write(package.join("addon.json"), serde_json::to_vec(&manifest)?)?;
        addons.push(host.install(host.inspect(&package).await?, false).await?.id);
    }
    let enabled = futures_util::future::join_all(addons.iter().map(|addon| host.enable(addon))).await;
    for done in enabled {
        ensure!(done?.outcome.is_completed());
    }
    let engine = Docker::connect("local", &Address::Socket(SOCKET.into()))?;
    let one = docker(["ps", "--quiet", "--no-trunc", "--filter", "label=lodger.addon=local/many-0"])?;
    let one = String::from_utf8(one.stdout)?.lines().next().context("nothing runs")?.to_owned();
    let home = engine.container(&one).await?.context("it is gone")?.labels.remove("lodger.home").context("unmarked")?;
    let (mut lists, mut rounds, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for look in 0..=LOOKS {
        let began = Instant::now();
        ensure!(engine.containers("lodger.home", &home).await?.len() == SERVICES);
        let list = began.elapsed().as_secs_f64();
        let began = Instant::now();
        ensure!(host.reconcile(None).await?.is_empty(), "something was to do");
        let round = began.elapsed().as_secs_f64();
        if look > 0 {
            lists.push(list * 1e3);
            rounds.push(round * 1e3);
            ratios.push(round / list);
        }
    }
    eprintln!("  removing them");
    for addon in &addons {
        host.disable(addon, false).await?;
        host.uninstall(addon, false).await?;
    }
    figures.add("engine_list_500_ms", median(lists), None);
    figures.add("reconcile_500_ms", median(rounds), None);
    figures.add("reconcile_500_over_list", median(ratios), Some(Target::AtMost(2.0)));
    Ok(())
}

fn docker<'a>(arguments: impl IntoIterator<Item = &'a str>) -> anyhow::Result<Output> {
    let output = Command::new("docker").args(arguments).output().context("no `docker`")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}
