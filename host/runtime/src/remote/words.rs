//! What a provider is told, and who it is told by: our words in those of platforms.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::failure::{self, Failure};
use crate::bindings::{Pair, ProvisionRequest};
use crate::manifest::{PASSWORD, RemoteProvider, SSO_SALT};
use crate::network::Network;
use crate::provider::{At, ProviderClient, ProviderError, ProviderId, ProviderManifest, Provision};
use crate::registry::Addon;

/// How much longer than the hook its requests may take: it is the deadline that ends both.
const AFTER_DEADLINE: Duration = Duration::from_secs(1);
/// The region of a provider that names none: every one of Heroku's is there, or everywhere.
const ANYWHERE: &str = "us";

/// What asks the provider, within the addon's grant.
pub(super) fn client(
    provider: &RemoteProvider,
    addon: &Addon,
    network: &Network,
    deadline: Duration,
) -> Result<ProviderClient, Failure> {
    if addon.settings.value(PASSWORD).is_none() {
        let message = format!("the setting {PASSWORD} is not set: `lodger set {} {PASSWORD}=-`", addon.name);
        return Err(Failure::Said { code: "denied", message });
    }
    let (manifest, at) = provider.as_manifest(addon);
    let (outbound, granted) = (network.outbound.clone(), addon.grant.network.clone());
    let client = ProviderClient::granted(&manifest, &at, outbound, granted, deadline + AFTER_DEADLINE);
    client.map_err(|error| failure::not_asked(provider, &error))
}

/// What proves who asks, as it is sent: whoever is told it might tell it.
pub(super) fn basic(provider: &RemoteProvider, addon: &Addon) -> Option<String> {
    let password = addon.settings.value(PASSWORD)?;
    Some(STANDARD.encode(format!("{}:{password}", provider.username)))
}

/// The UUID that a key is.
pub(super) fn uuid_of(key: &str) -> Result<String, Failure> {
    let uuid = uuid::Uuid::try_parse(key).map_err(|_| Failure::Broken("the resource's key is no UUID".to_owned()))?;
    Ok(uuid.hyphenated().to_string())
}

/// What a provider calls a resource, as it can be asked for.
pub(super) fn named(id: &str) -> Result<ProviderId, Failure> {
    id.parse().map_err(|error: ProviderError| Failure::Bad(error.to_string()))
}

pub(super) fn wanted(asked: &ProvisionRequest) -> Result<Provision, Failure> {
    Ok(Provision {
        plan: asked.plan.clone().unwrap_or_default(),
        options: options(asked.plan_options.iter().chain(&asked.options)),
        app: asked.app.clone(),
        uuid: uuid_of(&asked.key)?,
        region: asked.region.clone().unwrap_or_else(|| ANYWHERE.to_owned()),
        callback_url: None,
        oauth_grant: None,
        log_drain_token: None,
    })
}

/// Those of the app count, where both have one.
pub(super) fn options<'a>(pairs: impl Iterator<Item = &'a Pair>) -> BTreeMap<String, String> {
    pairs.map(|pair| (pair.name.clone(), pair.value.clone())).collect()
}

impl RemoteProvider {
    /// What the provider has said of itself, as far as it is asked by it, with what the operator has set.
    pub(crate) fn as_manifest(&self, addon: &Addon) -> (ProviderManifest, At) {
        let setting = |name| addon.settings.value(name).unwrap_or_default();
        let manifest = ProviderManifest {
            dialect: self.dialect,
            name: addon.id.name.to_string(),
            username: self.username.clone(),
            password: setting(PASSWORD),
            sso_salt: setting(SSO_SALT),
            logo_url: String::new(),
            short_description: String::new(),
            description: String::new(),
            log_drain: addon.manifest.provider.log_drain,
            many_per_app: true,
            by_uuid: self.by_uuid,
            regions: addon.manifest.provider.regions.clone(),
            config_vars: addon.manifest.config_vars.clone(),
            plans: Vec::new(),
            production: None,
            test: None,
        };
        let sso_url = self.sso_url.as_ref().map(ToString::to_string).unwrap_or_default();
        (manifest, At { base_url: self.base_url.to_string(), sso_url, post: self.sso_post })
    }
}
