//! `lodger pack`: one file to hand out, the same bytes for the same addon.

use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::json;

use super::test::expectations::Expectations;
use crate::context::Context;
use crate::output;

/// Pack an addon that passes `check` into an archive: the same addon gives the same bytes
#[derive(clap::Args)]
pub struct Pack {
    /// The addon's directory
    #[arg(default_value = ".")]
    path: PathBuf,
    /// The archive to write [default: NAME-VERSION.tar.gz]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Pack {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let home = context.throw_away().await?;
        let what = format!("reading and compiling {}", self.path.display());
        let package = context.watch(&what, home.host.inspect(&self.path)).await?.package;
        Expectations::beside(&self.path)?;
        let archive = lodger::pack(&package).context("cannot pack the addon")?;
        let manifest = &package.manifest;
        let version = manifest.version.as_ref().map(|version| format!("-{version}")).unwrap_or_default();
        let file = self.output.unwrap_or_else(|| format!("{}{version}.tar.gz", manifest.id.name).into());
        super::put(&file, &archive)?;
        output::say(
            context,
            format!("packed {} of {} into {}", lodger::human_bytes(archive.len() as u64), manifest.id, file.display()),
        );
        if context.json {
            output::json(&json!({
                "addon": manifest.id,
                "version": manifest.version.as_ref().map(ToString::to_string),
                "archive": file,
                "bytes": archive.len(),
                "digest": package.digest,
            }))?;
            return Ok(0);
        }
        output::table(&[vec![file.display().to_string(), package.digest]]);
        Ok(0)
    }
}
