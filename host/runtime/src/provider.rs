//! Add-on providers as Scalingo and Heroku know them: what they are called, asked and answer.
//!
//! A *platform* is Scalingo or Heroku, or who speaks as they do; a *provider* answers it. The *provider manifest* is the JSON
//! file that a provider hands to a platform: [`ProviderManifest`]. Each side takes what the other says as hostile.
//!
//! Every addon that can provision is a provider (`gateway.rs`): it hands out its manifest (`offer.rs`), tells platforms later
//! what could not be told at once (`outbox.rs`), and lets their customers in (`sign_on.rs`).

mod answer;
mod ask;
mod callback;
mod client;
mod error;
mod gateway;
mod manifest;
mod offer;
mod outbox;
mod request;
mod sign_on;
pub(crate) mod sso;
mod url;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use answer::{Deprovisioned, ProviderAnswer, ProviderChange, ProviderId, ProviderResource};
pub use ask::{Ask, Credentials, Sent};
pub use callback::{Callbacks, CalledBack};
pub use client::{PROVIDER_DEADLINE, ProviderClient};
pub use error::ProviderError;
pub use gateway::{Begun as OrderBegun, Declined, Ordered, ProviderCredentials, Used};
pub(crate) use gateway::{is_named, is_order_id, order_row};
pub use manifest::{At, ManifestReview, ProviderManifest, ProviderPlan};
pub use request::{OauthGrant, PlanChange, Provision, fresh_uuid, utc};
pub use sign_on::{Dashboard, Session, SignOnClaim};
pub use sso::{SignOn, SignOnAt};
pub use url::ProviderUrl;

/// How a platform and a provider speak to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    Scalingo,
    Heroku,
}

/// The text names no dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no dialect: there are scalingo and heroku", crate::text::shown(.0, 60))]
pub struct NotADialect(String);

impl Dialect {
    pub const ALL: [Dialect; 2] = [Dialect::Scalingo, Dialect::Heroku];

    pub const fn as_str(self) -> &'static str {
        match self {
            Dialect::Scalingo => "scalingo",
            Dialect::Heroku => "heroku",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Dialect {
    type Err = NotADialect;

    fn from_str(text: &str) -> Result<Dialect, NotADialect> {
        Dialect::ALL.into_iter().find(|dialect| dialect.as_str() == text).ok_or_else(|| NotADialect(text.to_owned()))
    }
}

/// What a platform orders. All of it is the platform's to say, and checked where it is taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The platform's own name of what it orders: the same order comes with the same.
    pub uuid: Option<String>,
    /// The platform's name of the app it is for.
    pub app: String,
    /// Absent: the addon's first.
    pub plan: Option<String>,
    /// Those of the plan, which platforms send back, may be among them.
    pub options: BTreeMap<String, String>,
    pub region: Option<String>,
    /// Where it wants to be told what came later.
    pub callback: Option<String>,
}
