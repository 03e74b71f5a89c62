//! Single sign-on: a platform sends its customer with a token that only it can have made, and the customer sees what was
//! ordered, and nothing else.
//!
//! A token counts for five minutes around its time, and once: that it was used is kept for as long, over restarts. What it
//! opens is a session of one order.

use std::collections::BTreeSet;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Dialect;
use super::sso;
use crate::compiler::hex;
use crate::error::{Error, Result};
use crate::host::{Host, now_ms};
use crate::id::{AddonId, Id};
use crate::key::random;
use crate::lifecycle::ResourceState;
use crate::store::CallRow;

/// Before and after the time of a token, in seconds.
const WINDOW: u64 = 300;
/// How long a session lasts.
const SESSION_MS: i64 = 3_600_000;
const SECRET_BYTES: usize = 32;
/// Calls that are shown.
const CALLS: u32 = 10;

/// What a platform sends its customer with. At least one of the tokens must be there, and all that are must be right.
#[derive(Clone, Default)]
pub struct SignOnClaim {
    /// Of the order, as it was answered or as the platform names it.
    pub id: String,
    /// The same once more, where the platform tells both.
    pub resource: Option<String>,
    /// Seconds since 1970.
    pub timestamp: String,
    /// `sha1(id:salt:timestamp)`
    pub token: Option<String>,
    /// `sha1(uuid:salt:timestamp)`
    pub resource_token: Option<String>,
    /// `sha256(uuid:salt:timestamp:user:email)`
    pub user_token: Option<String>,
    pub user: String,
    pub email: String,
}

/// Somebody who has signed on.
pub struct Session {
    /// What is shown to be let in again: 64 hex digits.
    pub secret: String,
    /// Of the order it is of, and of no other.
    pub order: String,
}

/// What somebody who has signed on sees.
#[derive(Clone, Debug, Serialize)]
pub struct Dashboard {
    pub addon: AddonId,
    /// As the addon names itself.
    pub name: String,
    /// The platform's name of the app.
    pub app: String,
    pub plan: Option<Id>,
    pub state: ResourceState,
    pub message: Option<String>,
    /// Names, never values.
    pub variables: Vec<String>,
    pub calls: Vec<CallRow>,
    /// The addon's own page, at another origin.
    pub link: Option<String>,
}

impl Host {
    /// Lets somebody in whom a platform has sent. `None`: it has not, or not now, or not for the first time.
    pub fn sign_on(&self, addon: &AddonId, dialect: Dialect, asked: &SignOnClaim) -> Result<Option<Session>> {
        let Some(known) = self.known_credentials(addon, dialect)? else { return Ok(None) };
        let row = match self.order_row(addon, dialect, &asked.id) {
            Ok(row) => row,
            Err(Error::UnknownOrder { .. } | Error::OrderGone { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let now = now_ms() / 1000;
        let at = asked.timestamp.parse::<i64>().ok().filter(|at| at.to_string() == asked.timestamp);
        let Some(at) = at.filter(|at| now.abs_diff(*at) <= WINDOW) else { return Ok(None) };
        let uuid = row.asked.uuid.as_deref().unwrap_or(&row.id);
        if asked.resource.as_ref().is_some_and(|named| named != uuid && *named != row.id) {
            return Ok(None);
        }
        let salt = &known.sso_salt;
        let tokens = [
            (&asked.token, sso::token(&asked.id, salt, at)),
            (&asked.resource_token, sso::token(uuid, salt, at)),
            (&asked.user_token, sso::user_token(uuid, salt, at, &asked.user, &asked.email)),
        ];
        let mut shown = tokens.iter().filter_map(|(token, right)| Some((token.as_ref()?, right))).peekable();
        if salt.is_empty() || shown.peek().is_none() || !shown.all(|(token, right)| is_same(token, right)) {
            return Ok(None);
        }
        let secret = hex(&random::<SECRET_BYTES>()?);
        let used = hash(&[addon.to_string().as_str(), dialect.as_str(), &row.id, &asked.timestamp]);
        let until = (at + WINDOW.cast_signed() + 1) * 1000;
        let opened = self.store.sign_on(&used, until, &hash(&[&secret]), &row.id, now_ms() + SESSION_MS)?;
        Ok(opened.then(|| Session { secret, order: row.id.clone() }))
    }

    /// What somebody sees who has signed on. `None`: not any more.
    pub async fn dashboard(&self, addon: &AddonId, dialect: Dialect, secret: &str) -> Result<Option<Dashboard>> {
        let Some(row) = self.store.session(&hash(&[secret]))? else { return Ok(None) };
        if row.addon != *addon || row.dialect != dialect || row.gone_at.is_some() {
            return Ok(None);
        }
        let Some(resource) = self.find(&row.app, addon, row.alias.as_ref())? else { return Ok(None) };
        let (known, _) = self.registry.get(self, addon).await?;
        let key = resource.key.clone();
        let calls = self.store.calls_about(addon, &key, CALLS)?;
        let granted: BTreeSet<&String> = known.grant.config_vars.iter().collect();
        Ok(Some(Dashboard {
            addon: addon.clone(),
            name: known.manifest.display_name.clone(),
            app: row.asked.app,
            plan: resource.plan.clone(),
            state: resource.state.clone().settled(),
            message: resource.message.clone(),
            variables: granted.into_iter().cloned().collect(),
            calls,
            link: known.manifest.provider.dashboard.clone(),
        }))
    }
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Compared in constant time.
fn is_same(one: &str, other: &str) -> bool {
    blake3::hash(one.to_ascii_lowercase().as_bytes()) == blake3::hash(other.as_bytes())
}
