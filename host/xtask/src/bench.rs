//! The benchmark: builds everything optimised and runs `tests/benches/hooks.rs`.

use crate::cargo::{cargo, root, run};
use crate::guests;

#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Print one object of named figures
    #[arg(long)]
    json: bool,
}

impl Bench {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let root = root();
        guests::build()?;
        run(cargo(&root)
            .args(["bench", "--locked", "--package", "lodger-cli", "--bench", "hooks", "--"])
            .args(self.json.then_some("--json")))
    }
}
