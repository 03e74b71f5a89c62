//! Where a verb does its work: in the home here, or at a server there (`--server`). Each verb asks the one or the other, and
//! shows the same answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use lodger::{AddonId, AddonInfo, BearerToken, Host, Id, MarketplaceAt, Policy, Remote, RemoteError};

use crate::context::Context;
use crate::output::Usage;

/// Names the server where `--server` does not, and what its token is in.
pub const SERVER: &str = "LODGER_SERVER";
const TOKEN: &str = "LODGER_TOKEN";
const TOKEN_FILE: &str = "LODGER_TOKEN_FILE";
const MARKETPLACE_TOKEN: &str = "LODGER_MARKETPLACE_TOKEN";
/// Largest file with a token, in bytes.
const FILE_MAX: u64 = 64 << 10;

pub enum Place {
    Here(Arc<Host>),
    There(Arc<Remote>),
}

/// A server that was named, and the file with its token.
pub struct Named {
    pub url: String,
    pub token_file: Option<PathBuf>,
}

/// The marketplace that names are looked up in.
#[derive(clap::Args)]
pub struct AtMarketplace {
    /// The marketplace to ask, a server's URL; its token is in LODGER_MARKETPLACE_TOKEN [default: url and token_file under
    /// [marketplace] in lodger.toml]
    #[arg(long, value_name = "URL", env = "LODGER_MARKETPLACE", hide_env_values = true)]
    marketplace: Option<String>,
}

impl Place {
    /// The addon that a name means there.
    pub async fn resolve(&self, name: &str) -> anyhow::Result<AddonId> {
        match self {
            Place::Here(host) => Ok(host.resolve(name)?),
            Place::There(server) => resolve(server, name).await,
        }
    }
}

/// One that is named with its namespace needs no look at what there is, which not every token may have.
async fn resolve(server: &Remote, name: &str) -> anyhow::Result<AddonId> {
    if name.contains('/') {
        return Ok(name.parse().map_err(|_| lodger::Error::InvalidId(name.to_owned()))?);
    }
    let addons: Vec<AddonInfo> = server.get("/v1/addons").await?;
    Ok(lodger::resolve(name, addons.into_iter().map(|addon| addon.id))?)
}

/// The path of an addon at a server.
pub fn of_addon(id: &AddonId, what: &str) -> String {
    format!("/v1/addons/{id}{what}")
}

/// The path of what an app has of an addon.
pub fn of_app(app: &Id, addon: &AddonId, what: &str) -> String {
    format!("/v1/apps/{app}/addons/{addon}{what}")
}

/// Which of several, where the path says it.
pub fn which(alias: Option<&Id>) -> String {
    alias.map(|alias| format!("?alias={alias}")).unwrap_or_default()
}

/// For verbs whose `--dry-run` no server has: to do it all the same would be the contrary of what was asked.
pub fn no_dry_run(asked: bool) -> Result<(), Usage> {
    only_here(asked, "--dry-run", "a server does what it is asked, and has no rehearsal of it")
}

/// For what a server cannot be asked.
pub fn only_here(asked: bool, option: &str, why: &str) -> Result<(), Usage> {
    if !asked {
        return Ok(());
    }
    Err(Usage::new(&format!("{option} is not for a server: {why}"), "leave it out, or run it on the server's machine"))
}

impl Named {
    /// Its token is of the file that was named, or in the environment, or in a file that this names.
    pub fn open(&self) -> anyhow::Result<Remote> {
        let url = self.url.parse()?;
        let file = || std::env::var_os(TOKEN_FILE).map(PathBuf::from);
        let token = match &self.token_file {
            Some(path) => Some(read_token(path)?),
            None => match token_in(TOKEN)? {
                Some(token) => Some(token),
                None => file().map(|path| read_token(&path)).transpose()?,
            },
        };
        Ok(Remote::new(url, token))
    }
}

impl AtMarketplace {
    pub fn open(&self, context: &Context) -> anyhow::Result<lodger::Marketplace> {
        let known = context.policy()?.marketplace;
        let given = self.marketplace.as_ref().map(|url| url.parse()).transpose()?;
        let nowhere = || {
            let hint =
                "--marketplace URL, LODGER_MARKETPLACE, or url = \"https://…\" under [marketplace] in lodger.toml";
            Usage::new("no marketplace is named", hint)
        };
        let url = given.or_else(|| known.as_ref().map(|known| known.url.clone())).ok_or_else(nowhere)?;
        // A token goes to the server it is for, and to no other.
        let file = known.filter(|known| known.url == url).and_then(|MarketplaceAt { token_file, .. }| token_file);
        let token = match token_in(MARKETPLACE_TOKEN)? {
            Some(token) => Some(token),
            None => file.map(|path| read_token(&path)).transpose()?,
        };
        Ok(lodger::Marketplace::new(Remote::new(url, token)))
    }
}

fn token_in(variable: &str) -> anyhow::Result<Option<BearerToken>> {
    let Some(text) = std::env::var_os(variable) else { return Ok(None) };
    let token = text.to_str().ok_or(RemoteError::Token).and_then(BearerToken::new);
    token.map(Some).with_context(|| variable.to_owned())
}

fn read_token(path: &Path) -> anyhow::Result<BearerToken> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    read.with_context(|| format!("cannot read the token in `{}`", path.display()))?;
    BearerToken::new(&text).with_context(|| format!("`{}`", path.display()))
}

impl Context {
    /// The policy of the home, which need not be there.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        let path = self.home()?.join(crate::context::POLICY);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Policy::parse(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Policy::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        }
    }
}
