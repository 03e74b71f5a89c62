//! The provider's side of `lodger provider`: what a platform is handed to know an addon by, and to prove itself with.

use lodger::{Dialect, ProviderCredentials};

use crate::context::Context;
use crate::output;

/// Print what platforms prove themselves with to an addon; made the first time, and with --rotate made anew
#[derive(clap::Args)]
pub struct Credentials {
    addon: String,
    /// Of platforms that speak as this one does: scalingo or heroku
    #[arg(long, default_value = "scalingo")]
    dialect: Dialect,
    /// Make others: those from before count no more
    #[arg(long)]
    rotate: bool,
}

impl Credentials {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let addon = host.resolve(&self.addon)?;
        let known = host.provider_credentials(&addon, self.dialect, self.rotate).await?;
        if context.json {
            output::json(&known)?;
            return Ok(0);
        }
        let ProviderCredentials { username, password, sso_salt } = known;
        output::line(format!("username {username}\npassword {password}\nsso_salt {sso_salt}"));
        Ok(0)
    }
}

/// Print the manifest to hand to a platform, which holds what it proves itself with
#[derive(clap::Args)]
pub struct Manifest {
    addon: String,
    /// scalingo or heroku
    #[arg(long)]
    dialect: Dialect,
    /// Where platforms reach the server [default: url under [platforms] in lodger.toml]
    #[arg(long)]
    url: Option<String>,
    /// Where their testers do [default: the same]
    #[arg(long, value_name = "URL")]
    test_url: Option<String>,
}

impl Manifest {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let addon = host.resolve(&self.addon)?;
        let url = self.url.map(|url| url.parse()).transpose()?;
        let test = self.test_url.map(|url| url.parse()).transpose()?;
        let manifest = host.provider_manifest(&addon, self.dialect, url, test).await?;
        if context.json {
            output::json(&manifest)?;
        } else {
            output::line(format!("{manifest:#}"));
        }
        Ok(0)
    }
}
