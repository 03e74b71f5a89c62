//! Where a provider is asked: of its manifest, and below what that says.

use std::fmt;

use super::error::ProviderError;
use crate::client::{RemoteError, ServerUrl};

/// Where a request goes: a path of a server, with a query where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderUrl {
    server: ServerUrl,
    query: Option<String>,
}

impl ProviderUrl {
    /// `what` of the manifest it is.
    ///
    /// # Errors
    /// [`ProviderError::Url`].
    pub fn parse(what: &str, text: &str) -> Result<ProviderUrl, ProviderError> {
        let wrong = |why| ProviderError::Url { what: what.to_owned(), why };
        let text = text.trim();
        let (place, query) = text.split_once('?').map_or((text, None), |(place, query)| (place, Some(query)));
        if query.is_some_and(|query| query.contains('#') || !query.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(wrong("its query cannot be sent"));
        }
        let server = ServerUrl::anywhere(place).map_err(|error| match error {
            RemoteError::Url { why } => wrong(why),
            _ => wrong("it is no URL"),
        })?;
        Ok(ProviderUrl { server, query: query.map(str::to_owned) })
    }

    /// The place that a redirect leads to, where that is at the same server.
    pub fn follow(&self, location: &str) -> Option<ProviderUrl> {
        let text = match location {
            path if path.starts_with('/') && !path.starts_with("//") => format!("{}{path}", self.origin()),
            text => text.to_owned(),
        };
        ProviderUrl::parse("Location", &text).ok().filter(|there| there.origin() == self.origin())
    }

    /// A path below it, which begins with a slash and is encoded.
    pub(super) fn below(&self, path: &str) -> ProviderUrl {
        ProviderUrl { server: self.server.below(path), query: None }
    }

    /// With a query in the place of its own.
    pub(super) fn asking(self, query: String) -> ProviderUrl {
        ProviderUrl { query: Some(query), ..self }
    }

    pub(super) fn server(&self) -> &ServerUrl {
        &self.server
    }

    fn origin(&self) -> String {
        format!("{}://{}", if self.server.is_secure() { "https" } else { "http" }, self.server.authority())
    }

    pub(super) fn path_and_query(&self) -> String {
        let path = if self.server.path().is_empty() { "/" } else { self.server.path() };
        match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        }
    }
}

impl fmt::Display for ProviderUrl {
    /// Without its query, which may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.server.fmt(f)
    }
}
