//! An author's way from `new` to an archive, with the real binary, the real cargo and no network.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::support::{component, probe_manifest};

/// How long a build, a test and a rebuild may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// An addon as `new` writes it, built once.
static BUILT: LazyLock<anyhow::Result<PathBuf>> = LazyLock::new(|| {
    let dir = fresh("built", "greeter")?;
    ok(lodger(&dir).args(["build"]))?;
    Ok(dir.join("greeter.wasm"))
});

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo asks no network: building the examples has fetched what a new addon needs.
#[expect(clippy::disallowed_methods, reason = "the tests run the binary")]
fn lodger(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lodger"));
    command.current_dir(dir).env("CARGO_NET_OFFLINE", "true").env_remove("LODGER_HOME");
    // What wit-bindgen needs has been built there already.
    command.env("CARGO_TARGET_DIR", repository().join("guest-examples/target"));
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn ok(command: &mut Command) -> anyhow::Result<Output> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    Ok(output)
}

/// The exit code, and the one JSON value on stdout.
fn json(command: &mut Command) -> anyhow::Result<(Option<i32>, Value)> {
    let output = command.arg("--json").output()?;
    let value = serde_json::from_slice(&output.stdout).with_context(|| text(&output.stderr))?;
    Ok((output.status.code(), value))
}

/// A new addon. Those that are built need names of their own: in one target directory, cargo takes packages of one name for
/// the same.
fn fresh(test: &str, name: &str) -> anyhow::Result<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author").join(test);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    ok(lodger(&dir).args(["new", name, "--dir", "."]))?;
    Ok(dir)
}

/// A new addon that is built already.
fn built(test: &str) -> anyhow::Result<PathBuf> {
    let dir = fresh(test, "greeter")?;
    let component = BUILT.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))?;
    std::fs::copy(component, dir.join("greeter.wasm"))?;
    Ok(dir)
}

fn replace(file: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file)?;
    ensure!(text.contains(from), "no {from:?} in {}", file.display());
    Ok(std::fs::write(file, text.replace(from, to))?)
}

/// The steps of `test --json`, as `step: outcome`.
fn steps(tested: &Value) -> Vec<String> {
    let steps = tested["steps"].as_array().into_iter().flatten();
    steps.map(|step| format!("{}: {}", step["step"], step["outcome"]).replace('"', "")).collect()
}

#[test]
fn a_new_addon_builds_and_passes_as_it_is() -> anyhow::Result<()> {
    let dir = fresh("new", "first")?;
    let missing = lodger(&dir).args(["check"]).output()?;
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("build the addon first"), "{}", text(&missing.stderr));

    let (code, made) = json(lodger(&dir).args(["build"]))?;
    assert_eq!((code, &made["component"], &made["changed"]), (Some(0), &"first.wasm".into(), &true.into()));
    let (code, again) = json(lodger(&dir).args(["build"]))?;
    assert_eq!((code, &again["changed"]), (Some(0), &false.into()));

    let (code, checked) = json(lodger(&dir).args(["check"]))?;
    assert_eq!(code, Some(0), "{checked:#}");
    assert_eq!(checked["hooks"], serde_json::json!(["provision", "unprovision", "url"]));
    assert_eq!((&checked["denied_imports"], &checked["remarks"]), (&serde_json::json!([]), &serde_json::json!([])));

    let (code, tested) = json(lodger(&dir).args(["test"]))?;
    assert_eq!((code, &tested["passed"]), (Some(0), &true.into()), "{tested:#}");
    assert_eq!(
        steps(&tested),
        [
            "install: done",
            "enable: done",
            "enable again: nothing to do",
            "add: completed",
            "url: completed",
            "variables: as expected",
            "provision again: completed",
            "remove: completed",
            "remove again: completed",
            "add: refused",
            "disable: done",
            "uninstall: done"
        ]
    );
    Ok(())
}

#[test]
fn a_new_addon_has_the_whole_wit_package() -> anyhow::Result<()> {
    let dir = fresh("wit", "greeter")?;
    for part in ["wit", "wit/deps"] {
        for file in std::fs::read_dir(repository().join(part))? {
            let file = file?;
            if file.file_type()?.is_dir() {
                continue;
            }
            let vendored = std::fs::read(dir.join(part).join(file.file_name()))
                .with_context(|| format!("`new` does not vendor {}", file.file_name().display()))?;
            assert!(vendored == std::fs::read(file.path())?, "{}", file.file_name().display());
        }
    }
    Ok(())
}

#[test]
fn new_refuses_what_could_not_become_an_addon() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("taken"))?;
    std::fs::write(dir.path().join("taken/file"), "mine")?;
    for (name, says) in [("My Addon", "`my-addon` would be one"), ("git", "GIT_URL"), ("taken", "not empty")] {
        let output = lodger(dir.path()).args(["new", name]).output()?;
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(text(&output.stderr).contains(says), "{}", text(&output.stderr));
    }
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 1);
    Ok(())
}

#[test]
fn an_expectation_that_fails_shows_both_values() -> anyhow::Result<()> {
    let dir = built("expectation")?;
    replace(&dir.join("lodger-test.toml"), "https://greeter.example/shop", "https://greeter.example/market")?;
    let output = lodger(&dir).args(["test"]).output()?;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(shown.contains("expected  `https://greeter.example/market`"), "{shown}");
    assert!(shown.contains("actual    `https://greeter.example/shop`"), "{shown}");
    assert!(text(&output.stderr).contains("failed: 1 of 12 steps"));

    let (code, tested) = json(lodger(&dir).args(["test"]))?;
    assert_eq!((code, &tested["passed"]), (Some(1), &false.into()));

    replace(&dir.join("lodger-test.toml"), "variables.", "variable.")?;
    let (code, unread) = json(lodger(&dir).args(["test"]))?;
    let message = unread["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(code, Some(1));
    assert!(message.contains("unknown field `variable`"), "{message}");
    Ok(())
}

#[test]
fn a_broken_limit_is_the_guests_fault_unless_expected() -> anyhow::Result<()> {
    let dir = built("limit")?;
    replace(&dir.join("addon.json"), "\"capabilities\"", "\"limits\": { \"memory_bytes\": 65536 }, \"capabilities\"")?;
    std::fs::write(dir.join("lodger-test.toml"), "[[case]]\nname = \"too big\"\n")?;
    let (code, tested) = json(lodger(&dir).args(["test"]))?;
    assert_eq!(code, Some(3), "{tested:#}");
    assert!(steps(&tested).contains(&"add: limit-exceeded".to_owned()), "{tested:#}");
    Ok(())
}

/// The well-behaved probe with plans that are not, and expectations of what comes of them.
fn with_plans(test: &str, plans: Value, expectations: &str) -> anyhow::Result<PathBuf> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("author").join(test);
    std::fs::create_dir_all(&dir)?;
    let mut manifest = probe_manifest("good", 60_000);
    manifest["config_vars"] = serde_json::json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]);
    manifest["plans"] = plans;
    std::fs::write(dir.join("addon.json"), manifest.to_string())?;
    std::fs::write(dir.join("probe.wasm"), component("hooks_all"))?;
    std::fs::write(dir.join("lodger-test.toml"), expectations)?;
    Ok(dir)
}

#[test]
fn a_change_of_plan_is_asked_twice_and_held_against_what_is_expected() -> anyhow::Result<()> {
    let plans = serde_json::json!([
        { "name": "small" },
        { "name": "drifting", "options": { "drift": "1" } },
        { "name": "full", "options": { "refuse": "1" } },
        { "name": "broken", "options": { "panic_once": "1" } },
    ]);
    let case = |name: &str, change: &str| format!("[[case]]\nname = \"{name}\"\n{change}\n");
    let of = |steps: &Value, name: &str| -> Vec<Value> {
        let steps = steps["steps"].as_array().into_iter().flatten();
        steps.filter(|step| step["case"] == name).cloned().collect()
    };
    let dir = with_plans(
        "plans",
        plans,
        &[
            case("it drifts", ""),
            case("it is refused", "plan = \"drifting\""),
            case("other than expected", "change.plan = \"full\""),
            case("it breaks", "change = { plan = \"broken\", expect.outcome = \"trapped\" }"),
        ]
        .concat(),
    )?;
    let (code, tested) = json(lodger(&dir).args(["test"]))?;
    assert_eq!(code, Some(1), "{tested:#}");
    let step = |case: &str, name: &str| of(&tested, case).into_iter().find(|step| step["step"] == name);
    let drifted = step("it drifts", "plan again").context("it is asked again")?;
    assert_eq!(
        (&drifted["ok"], &drifted["mismatches"][0]["what"]),
        (&false.into(), &"PROBE_PLAN for the same plan".into())
    );
    assert_eq!(drifted["mismatches"][0]["expected"], "`driftingsmall`");
    assert_eq!(step("it drifts", "resume again").context("and goes on")?["ok"], true);

    let refused = step("it is refused", "plan").context("the manifest's next plan")?;
    assert_eq!((&refused["ok"], &refused["outcome"]), (&true.into(), &"refused".into()), "a refusal is fine");
    let refused = step("other than expected", "plan").context("the plan of the case")?;
    assert_eq!((&refused["ok"], &refused["outcome"]), (&false.into(), &"refused".into()));
    assert_eq!(refused["mismatches"][0]["what"], "outcome");

    let broken: Vec<_> =
        of(&tested, "it breaks").iter().map(|step| format!("{} {}", step["step"], step["ok"])).collect();
    let expected =
        ["add", "url", "config-vars", "dump", "restore", "provision again", "plan", "remove", "remove again"];
    assert_eq!(broken, expected.map(|step| format!("\"{step}\" true")), "what is broken is removed");
    Ok(())
}

#[test]
fn the_policy_of_the_named_home_holds() -> anyhow::Result<()> {
    let dir = built("policy")?;
    let home = tempfile::tempdir()?;
    std::fs::write(home.path().join("lodger.toml"), "[limits]\ndata_bytes = 1000\n")?;
    let (code, refused) = json(lodger(&dir).args(["check", "--home"]).arg(home.path()))?;
    assert_eq!((code, &refused["error"]["code"]), (Some(1), &"grant-refused".into()));
    assert_eq!(refused["error"]["problems"][0]["path"], "capabilities.data.max_bytes");
    assert_eq!(std::fs::read_dir(home.path())?.count(), 1, "the home itself is not touched");
    Ok(())
}

#[test]
fn check_lists_every_problem_of_a_manifest() -> anyhow::Result<()> {
    let dir = fresh("problems", "greeter")?;
    std::fs::write(
        dir.join("addon.json"),
        r#"{ "name": "!!", "version": "x", "component": "a/b.wasm", "config_vars": ["lower", "LD_PRELOAD"] }"#,
    )?;
    let output = lodger(&dir).args(["check"]).output()?;
    assert_eq!(output.status.code(), Some(1));
    let shown = text(&output.stderr);
    for path in ["name:", "version:", "component:", "config_vars[0]:", "config_vars[1]:"] {
        assert!(shown.contains(&format!("\n  {path}")), "{path} in {shown}");
    }
    Ok(())
}

#[test]
fn an_archive_is_the_same_twice_and_can_be_installed() -> anyhow::Result<()> {
    let dir = built("pack")?;
    std::fs::create_dir(dir.join("files"))?;
    std::fs::write(dir.join("files/greeting.txt"), "Hello")?;
    let (_, checked) = json(lodger(&dir).args(["check"]))?;
    let (code, packed) = json(lodger(&dir).args(["pack"]))?;
    assert_eq!((code, &packed["archive"]), (Some(0), &"greeter-0.1.0.tar.gz".into()));
    assert_eq!(packed["digest"], checked["digest"]);
    let printed = ok(lodger(&dir).args(["pack", "--output", "other.tar.gz"]))?;
    assert_eq!(text(&printed.stdout), format!("other.tar.gz  {}\n", text_of(&packed["digest"])));
    assert!(std::fs::read(dir.join("greeter-0.1.0.tar.gz"))? == std::fs::read(dir.join("other.tar.gz"))?);

    let (code, tested) = json(lodger(&dir).args(["test", "other.tar.gz"]))?;
    assert_eq!(code, Some(0), "{tested:#}");
    let home = tempfile::tempdir()?;
    let home = home.path().join("home");
    let install = |package: &str| json(lodger(&dir).arg("--home").arg(&home).args(["install", "--yes", package]));
    let (code, installed) = install("other.tar.gz")?;
    assert_eq!((code, &installed["digest"]), (Some(0), &packed["digest"]), "{installed:#}");
    let (code, same) = install(".")?;
    assert_eq!((code, &same["changed"]), (Some(0), &false.into()), "{same:#}");
    Ok(())
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn the_examples_pass_their_own_tests() -> anyhow::Result<()> {
    for name in ["hello", "app-secrets"] {
        let dir = repository().join("guest-examples").join(name);
        ok(lodger(&dir).args(["build"]))?;
        ok(lodger(&dir).args(["check"]))?;
        let (code, tested) = json(lodger(&dir).args(["test"]))?;
        assert_eq!(code, Some(0), "{tested:#}");
        let dumped = ["dump: completed", "restore: completed"].map(|step| steps(&tested).contains(&step.to_owned()));
        assert_eq!(dumped, [name == "app-secrets"; 2], "{tested:#}");
    }
    Ok(())
}

#[test]
fn a_dump_that_is_not_read_again_is_a_failed_step() -> anyhow::Result<()> {
    let dir = fresh("careless", "careless")?;
    std::fs::copy(repository().join("tests/probes/restore_careless.wasm"), dir.join("careless.wasm"))?;
    std::fs::write(dir.join("lodger-test.toml"), "[[case]]\nname = \"not read\"\napp = \"unread\"\n")?;
    let (code, tested) = json(lodger(&dir).args(["test"]))?;
    assert_eq!(code, Some(1), "{tested:#}");
    let restore = tested["steps"].as_array().into_iter().flatten().find(|step| step["step"] == "restore");
    let mismatch = serde_json::json!([{ "what": "bytes read of the dump", "expected": "20", "actual": "0" }]);
    assert_eq!(restore.context("no such step")?["mismatches"], mismatch);
    Ok(())
}

/// Ends the process with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn dev_tests_again_after_a_change_and_survives_a_broken_build() -> anyhow::Result<()> {
    let dir = fresh("dev", "watched")?;
    let mut child = Running(lodger(&dir).args(["dev"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?);
    let stderr = child.0.stderr.take().context("no stderr")?;
    let (sender, lines) = mpsc::channel();
    // Ends with the process.
    #[expect(clippy::disallowed_methods, reason = "a pipe has no other way to be read with a timeout")]
    std::thread::spawn(move || {
        BufReader::new(stderr).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    let next_round = || -> anyhow::Result<String> {
        let mut round = String::new();
        loop {
            let line = lines.recv_timeout(PATIENCE).with_context(|| format!("`dev` has said only:\n{round}"))?;
            if line.starts_with("waiting for changes") {
                return Ok(round);
            }
            round += &line;
            round.push('\n');
        }
    };
    let round = next_round()?;
    assert!(round.contains("passed: all 12 steps"), "{round}");

    replace(&dir.join("src/lib.rs"), "https://watched.example", "https://other.example")?;
    let round = next_round()?;
    assert!(round.contains("lib.rs has changed") && round.contains("failed: 1 of 12 steps"), "{round}");

    replace(&dir.join("src/lib.rs"), "https://other.example", "\" broken")?;
    let round = next_round()?;
    assert!(round.contains("does not compile"), "{round}");

    // In a directory that came after the start.
    std::fs::create_dir(dir.join("files"))?;
    replace(&dir.join("src/lib.rs"), "\" broken", "https://watched.example")?;
    let mut round = next_round()?;
    while !round.contains("passed") {
        round = next_round()?;
    }
    std::fs::write(dir.join("files/new.txt"), "new")?;
    let round = next_round()?;
    assert!(round.contains("passed: all 12 steps"), "{round}");
    Ok(())
}
