//! The way to a provider's own pages of what an app has of it: its single sign-on.

use super::words::uuid_of;
use crate::error::{Error, Result};
use crate::host::{Host, now_ms};
use crate::id::{AddonId, Id};
use crate::manifest::SSO_SALT;
use crate::provider::{SignOn, SignOnAt};
use crate::registry::GuestKind;

impl Host {
    /// What signs somebody on at the provider of what an app has; good for a few minutes. The provider is told `email`.
    ///
    /// # Errors
    /// [`Error::NoSignOn`] where there is no such provider, or no salt to prove anything with; [`Error::ResourceState`].
    pub async fn sign_on_at_provider(
        &self,
        app: &Id,
        addon: &AddonId,
        alias: Option<&Id>,
        email: &str,
    ) -> Result<SignOnAt> {
        let row = self.only(app, addon, alias)?;
        let of = self.reference(&row)?;
        let (addon, _) = self.registry.get(self, addon).await?;
        let none = |why: &'static str, hint: String| Error::NoSignOn { addon: addon.id.clone(), why, hint };
        let provider = match &addon.guest {
            Some(GuestKind::Remote(provider)) => provider,
            _ => {
                return Err(none("is no provider elsewhere", format!("`lodger url {app} {}` may tell more", addon.id)));
            }
        };
        if provider.sso_url.is_none() {
            let hint = "`remote.sso_url` in addon.json names one where the provider has it".to_owned();
            return Err(none("has no pages to be signed on to", hint));
        }
        if addon.settings.value(SSO_SALT).is_none() {
            let hint = format!("`lodger set {} {SSO_SALT}=-`", addon.id);
            return Err(none("has no salt to make a token of", hint));
        }
        let (manifest, at) = provider.as_manifest(&addon);
        let unnamed = || Error::UnknownKey(crate::text::shown(&row.key, 60));
        let uuid = uuid_of(&row.key).map_err(|_| unnamed())?;
        let who = SignOn {
            id: if provider.by_uuid { uuid.clone() } else { of.id },
            uuid,
            timestamp: now_ms() / 1000,
            app: app.to_string(),
            user_id: email.to_owned(),
            email: email.to_owned(),
        };
        Ok(who.to(&manifest, &at))
    }
}
