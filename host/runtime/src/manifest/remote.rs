//! `remote`: an addon whose hooks are requests to a provider elsewhere, and what its manifest must not ask for then.

use std::collections::BTreeMap;

use super::Setting;
use super::raw::Raw;
use super::rules::Found;
use crate::client::ServerUrl;
use crate::hook::HookName;
use crate::limits::Limit;
use crate::outbound::Destination;
use crate::provider::Dialect;
use crate::text::is_plain;

/// The secret settings that every such addon has.
pub const PASSWORD: &str = "PROVIDER_PASSWORD";
pub const SSO_SALT: &str = "PROVIDER_SSO_SALT";

/// Longest user name, in bytes.
const USERNAME_MAX: usize = 255;

/// A provider elsewhere, as the manifest names it.
#[derive(Clone, Debug)]
pub struct RemoteProvider {
    pub dialect: Dialect,
    /// `https://`, or `http://localhost:PORT`.
    pub base_url: ServerUrl,
    pub username: String,
    /// Where people are sent to look at what an app has of it.
    pub sso_url: Option<ServerUrl>,
    pub sso_post: bool,
    /// Resources are named by the `uuid` they are asked for with, not by the `id` that was answered.
    pub by_uuid: bool,
}

impl RemoteProvider {
    /// What is asked of it in the place of hooks.
    pub(crate) fn hooks(&self) -> Vec<HookName> {
        use HookName::{ChangePlan, ConfigVars, Provision, Resume, Suspend, Unprovision};
        let both = [Provision, Unprovision, ConfigVars, ChangePlan];
        match self.dialect {
            Dialect::Heroku => both.to_vec(),
            Dialect::Scalingo => [&both[..], &[Suspend, Resume]].concat(),
        }
    }

    /// What the operator supplies.
    pub(super) fn settings(&self) -> BTreeMap<String, Setting> {
        let secret = |name: &str| (name.to_owned(), Setting { default: None, secret: true });
        let salt = self.sso_url.is_some().then(|| secret(SSO_SALT));
        [secret(PASSWORD)].into_iter().chain(salt).collect()
    }
}

/// The limits that mean something where no code runs here.
pub(crate) const fn is_limit(limit: Limit) -> bool {
    matches!(limit, Limit::NetworkBytes | Limit::Connections | Limit::LogBytes)
}

pub(super) fn check(
    found: &mut Found,
    raw: &Raw,
    network: &[Destination],
    limits: &BTreeMap<Limit, u64>,
) -> Option<RemoteProvider> {
    let asked = raw.remote.as_ref()?;
    let means_nothing = [
        ("component", raw.component.is_some()),
        ("services", !raw.services.is_empty()),
        ("volumes", !raw.volumes.is_empty()),
        ("networks", !raw.networks.is_empty()),
        ("replaces", raw.replaces.is_some()),
        ("settings", !raw.settings.0.is_empty()),
        ("capabilities.services", raw.capabilities.services),
        ("capabilities.events", !raw.capabilities.events.is_empty()),
    ];
    let limits = limits.keys().filter(|limit| !is_limit(**limit)).filter_map(|limit| limit.manifest_path());
    for path in means_nothing.into_iter().filter_map(|(path, there)| there.then_some(path)).chain(limits) {
        found.add_with_hint(path, "means nothing beside `remote`, with which no code runs here", "remove it");
    }
    if asked.username.is_empty()
        || asked.username.len() > USERNAME_MAX
        || asked.username.contains(':')
        || !is_plain(&asked.username)
    {
        found.add("remote.username", format!("a user name has 1 to {USERNAME_MAX} bytes, and no colon"));
    }
    let sso_url = asked.sso_url.as_deref().and_then(|url| found.parse("remote.sso_url", url));
    let base_url: ServerUrl = found.parse("remote.base_url", &asked.base_url)?;
    let to = Destination::new(base_url.host(), base_url.port());
    let to = to.map_err(|error| found.add("remote.base_url", error.to_string())).ok()?;
    if !matches!(network, [only] if *only == to) {
        found.add_with_hint(
            "capabilities.network",
            "names other hosts than the one of `remote.base_url`",
            format!("write `\"network\": [\"{to}\"]`"),
        );
    }
    Some(RemoteProvider {
        dialect: asked.dialect,
        base_url,
        username: asked.username.clone(),
        sso_url,
        sso_post: asked.sso_post,
        by_uuid: asked.by_uuid,
    })
}
