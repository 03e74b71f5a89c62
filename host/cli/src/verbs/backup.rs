//! `lodger backup`: the whole home in one encrypted file.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use lodger::Passphrase;
use serde_json::json;

use crate::context::Context;
use crate::output;

/// Names the variable a passphrase may be in.
const VARIABLE: &str = "LODGER_BACKUP_PASSPHRASE";
/// Largest file with a passphrase, in bytes.
const FILE_MAX: u64 = 64 << 10;

/// Save the whole home, with its secrets and what services have in volumes, encrypted
///
/// Addons are saved one after the other. While one is, calls that change something of it wait, and its services are stopped
/// for as long as their volumes are copied. Not in it: the policy, calls and their logs, and earlier versions.
#[derive(clap::Args)]
pub struct Backup {
    /// The file to write; `-` for stdout
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseFrom,
}

#[derive(clap::Args)]
pub struct PassphraseFrom {
    /// Holds the passphrase [default: LODGER_BACKUP_PASSPHRASE in the environment]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseFrom {
    pub fn read(&self) -> anyhow::Result<Passphrase> {
        use std::os::unix::ffi::OsStringExt as _;
        let mut bytes = match &self.passphrase_file {
            Some(path) => {
                let mut bytes = Vec::new();
                let file = std::fs::File::open(path).map(|file| file.take(FILE_MAX));
                file.and_then(|mut file| file.read_to_end(&mut bytes))
                    .with_context(|| format!("cannot read `{}`", path.display()))?;
                bytes
            }
            None => std::env::var_os(VARIABLE)
                .with_context(|| format!("give a passphrase with --passphrase-file FILE or in {VARIABLE}"))?
                .into_vec(),
        };
        // Files end with a line feed that is not part of it.
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        Ok(Passphrase::new(bytes)?)
    }
}

impl Backup {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let to_stdout = self.file == Path::new("-");
        if to_stdout && std::io::stdout().is_terminal() {
            bail!("a backup is not for a terminal; name a file");
        }
        if to_stdout && context.json {
            bail!("--json answers on stdout, where the backup goes; name a file");
        }
        let passphrase = self.passphrase.read()?;
        let host = context.host().await?;
        let done = if to_stdout {
            let mut stdout = std::io::stdout();
            context.watch("saving", host.backup(&mut stdout, &passphrase)).await?
        } else {
            context.watch("saving", host.backup_to(&self.file, &passphrase)).await?
        };
        let size = lodger::human_bytes(done.bytes);
        let what = super::counted(&[(done.addons, "addon"), (done.resources, "resource"), (done.volumes, "volume")]);
        output::say(context, format!("saved {what}: {size}"));
        if context.json {
            output::json(&json!({
                "archive": self.file, "addons": done.addons, "resources": done.resources, "volumes": done.volumes,
                "bytes": done.bytes,
            }))?;
        }
        Ok(0)
    }
}
