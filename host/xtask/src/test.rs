//! What continuous integration runs.

use crate::cargo::{cargo, root, run};
use crate::{engine, guests, tester};

#[derive(clap::Args)]
pub(crate) struct Test {
    /// Install Docker from Debian's packages and start it if no engine answers, and Python's venv if it is not there, as is
    /// done wherever CI is set
    #[arg(long)]
    install_engine: bool,
    /// Kill the program at every point of an engine, and try more random lives, which takes an hour
    #[arg(long)]
    full: bool,
    /// Passed on to the test programs, such as part of a test's name
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Test {
    #[expect(clippy::print_stderr, reason = "what is left out is said")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let root = root();
        let guests = root.join("guest-examples");
        // First: a machine without an engine is to say so before the minutes that the rest takes.
        let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
        let install = self.install_engine || in_ci;
        let engine = engine::ready(install)?;
        let tester = tester::ready(install);
        if in_ci && let Err(error) = tester {
            return Err(error.context("the API cannot be tried against its document"));
        }
        for dir in [&root, &guests] {
            run(cargo(dir).args(["fmt", "--all", "--check"]))?;
        }
        guests::build()?;
        run(cargo(&guests)
            .args(["clippy", "--locked", "--release", "--workspace", "--lib", "--examples", "--", "-D", "warnings"])
            // The probes lie below the host's configuration, which bans what they are there to try.
            .env("CLIPPY_CONF_DIR", &guests)
            .env_remove("CARGO_TARGET_DIR")
            .env_remove("CARGO_BUILD_TARGET"))?;
        run(cargo(&root).args(["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
        // The library of an embedder whose addons have no services.
        let lean = ["--package", "lodger", "--no-default-features"];
        run(cargo(&root).args(["clippy", "--locked"]).args(lean).args(["--", "-D", "warnings"]))?;
        let mut test = cargo(&root);
        test.args(["test", "--locked", "--workspace", "--"]).args(&self.arguments).env("DOCKER_HOST", engine);
        match tester {
            Ok(program) => drop(test.env("SCHEMATHESIS", program)),
            Err(error) => eprintln!("SKIPPED: the API is not tried against its document: {error:#}"),
        }
        if self.full {
            test.env("LODGER_TEST_FULL", "1");
        }
        run(&mut test)
    }
}
