//! Schemathesis, which tries the HTTP API against its document: pinned with all that it needs, in an environment of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cargo::{command, output, root, run, target};
use crate::engine::install_packages;

#[derive(clap::Args)]
pub(crate) struct Tester {}

impl Tester {
    #[expect(clippy::print_stdout, reason = "says where it is")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        println!("SCHEMATHESIS={}", ready(true)?.display());
        Ok(())
    }
}

/// The program; quick when nothing is to do. `install` what Python lacks, from Debian's packages.
pub(crate) fn ready(install: bool) -> anyhow::Result<PathBuf> {
    let dir = target().join("schemathesis");
    let program = dir.join("bin/schemathesis");
    let pinned = root().join("tests/server/requirements.txt");
    let wanted = std::fs::read(&pinned).with_context(|| format!("cannot read {}", pinned.display()))?;
    // Written last.
    let installed = dir.join("requirements.txt");
    if std::fs::read(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(program);
    }
    let slash = Path::new("/");
    let can_make = || output(command("python3", slash).args(["-m", "ensurepip", "--version"])).is_ok();
    if !can_make() && install {
        install_packages(&BTreeSet::from(["python3", "python3-venv"]))?;
    }
    if !can_make() {
        bail!("there is no Python with `venv`\nhint: as root, on Debian: apt-get install python3-venv");
    }
    run(command("python3", slash).args(["-m", "venv", "--clear"]).arg(&dir))?;
    run(command(dir.join("bin/pip"), slash)
        .args(["install", "--quiet", "--disable-pip-version-check", "--no-input"])
        .args(["--require-hashes", "--only-binary", ":all:", "--requirement"])
        .arg(&pinned))?;
    std::fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(program)
}
