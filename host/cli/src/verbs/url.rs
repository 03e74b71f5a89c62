//! `lodger url`.

use lodger::{HookFailed, Outcome};
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::output;
use crate::place::{Place, of_app, which};

#[derive(Serialize, Deserialize)]
struct Reached {
    url: String,
}

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
        let place = context.place().await?;
        let app = super::id(&self.app)?;
        let addon = place.resolve(&self.addon).await?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let reached = match &place {
            Place::Here(host) => match host.url(&app, &addon, alias.as_ref()).await? {
                Outcome::Completed(url) => Reached { url },
                other => return Err(HookFailed::of(&addon, "url", &other).into()),
            },
            Place::There(server) => {
                server.get(&of_app(&app, &addon, &format!("/url{}", which(alias.as_ref())))).await?
            }
        };
        if context.json {
            output::json(&reached)?;
        } else {
            output::line(reached.url);
        }
        Ok(0)
    }
}
