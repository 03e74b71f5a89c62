//! `lodger url`.

use lodger::{HookFailed, Outcome};

use crate::context::Context;
use crate::output;

/// Print where an app reaches its addon
#[derive(clap::Args)]
pub struct Url {
    app: String,
    addon: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
}

impl Url {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let addon = host.resolve(&self.addon)?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        match host.url(&super::id(&self.app)?, &addon, alias.as_ref()).await? {
            Outcome::Completed(url) if context.json => output::json(&serde_json::json!({ "url": url }))?,
            Outcome::Completed(url) => output::line(url),
            other => return Err(HookFailed::of(&addon, "url", &other).into()),
        }
        Ok(0)
    }
}
