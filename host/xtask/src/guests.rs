//! Building the guests: the example addons and the hostile probes.

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::cargo::{cargo, command, output, root, run};

const TARGET: &str = "wasm32-wasip2";

#[derive(clap::Args)]
pub(crate) struct Guests {}

impl Guests {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        build()
    }
}

/// Builds all guests; quick when nothing is to do.
pub(crate) fn build() -> anyhow::Result<()> {
    let root = root();
    add_target(&root)?;
    let guests = root.join("guest-examples");
    // Run there, so that the guests' own cargo configuration holds; a shared target directory would mix checkouts.
    run(cargo(&guests)
        .args(["build", "--locked", "--release", "--workspace", "--lib", "--examples"])
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET"))?;
    let built = guests.join("target").join(TARGET).join("release");
    for addon in std::fs::read_dir(&guests)? {
        let dir = addon?.path();
        let Some(name) = dir.file_name().and_then(|name| name.to_str()) else { continue };
        // An addon of services only has nothing to build.
        if dir.join("addon.json").exists() && dir.join("Cargo.toml").exists() {
            put(&built.join(format!("{}.wasm", name.replace('-', "_"))), &dir.join(format!("{name}.wasm")))?;
        }
    }
    put(&built.join("bench_guest.wasm"), &root.join("tests/benches/guest/bench-guest.wasm"))?;
    let probes = root.join("tests/probes");
    for probe in std::fs::read_dir(probes.join("examples"))? {
        let source = probe?.path();
        let name = source.file_stem().and_then(|name| name.to_str()).context("a probe without a name")?;
        let component = format!("{name}.wasm");
        put(&built.join("examples").join(&component), &probes.join(&component))?;
    }
    Ok(())
}

/// Copies what has changed, so that nothing that watches the copy wakes up for nothing.
fn put(from: &Path, to: &Path) -> anyhow::Result<()> {
    let new = std::fs::read(from).with_context(|| format!("{} was not built", from.display()))?;
    if std::fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    std::fs::write(to, new).with_context(|| format!("cannot write {}", to.display()))
}

fn add_target(root: &Path) -> anyhow::Result<()> {
    let libraries = output(command("rustc", root).args(["--print", "target-libdir", "--target", TARGET]))?;
    if Path::new(libraries.trim()).exists() {
        return Ok(());
    }
    if run(command("rustup", root).args(["target", "add", TARGET])).is_err() {
        bail!("run `rustup target add {TARGET}`: the guests cannot be built without it");
    }
    Ok(())
}
