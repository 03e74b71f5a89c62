//! The marketplace that addons are fetched from by name.

use std::path::PathBuf;

use serde::Deserialize;

use crate::client::ServerUrl;

/// Where it is, and what it is asked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarketplaceAt {
    pub url: ServerUrl,
    /// Holds a token, which is told to this server and to no other.
    pub token_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    url: String,
    token_file: Option<PathBuf>,
}

pub(super) fn read(raw: Raw) -> Result<MarketplaceAt, String> {
    let url = raw.url.parse().map_err(|error| format!("marketplace.url: {error}"))?;
    match raw.token_file {
        Some(path) if !path.is_absolute() => Err("marketplace.token_file: not an absolute path".to_owned()),
        token_file => Ok(MarketplaceAt { url, token_file }),
    }
}
