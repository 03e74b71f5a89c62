//! `lodger completions`.

use clap_complete::Shell;

/// Print completions for a shell
#[derive(clap::Args)]
pub struct Completions {
    shell: Shell,
}

impl Completions {
    pub fn run(self, mut command: clap::Command) -> anyhow::Result<u8> {
        clap_complete::generate(self.shell, &mut command, "lodger", &mut std::io::stdout());
        Ok(0)
    }
}
