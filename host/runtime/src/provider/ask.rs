//! One request to a provider: what it is, who asks, and what goes with it.

use serde_json::Value;

use super::url::ProviderUrl;

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    Own,
    /// Of somebody whom the provider may not know.
    Of {
        username: String,
        password: String,
    },
    Nobody,
}

/// What goes with a request.
#[derive(Clone, Debug)]
pub enum Sent {
    Nothing,
    Json(Value),
    /// `null` without a type, which is what Scalingo's tester sends with a DELETE.
    Null,
    Form(Vec<(String, String)>),
}

/// One request.
#[derive(Clone)]
pub struct Ask {
    pub method: &'static str,
    pub url: ProviderUrl,
    pub sent: Sent,
    pub credentials: Credentials,
    /// `NAME=VALUE` of each.
    pub cookies: Vec<String>,
    /// Whether a page is asked for, as by a browser.
    pub page: bool,
}

impl Ask {
    /// With the provider's own credentials, and nothing else.
    pub fn new(method: &'static str, url: ProviderUrl) -> Ask {
        Ask { method, url, sent: Sent::Nothing, credentials: Credentials::Own, cookies: Vec::new(), page: false }
    }

    /// As a browser asks.
    pub fn page(url: ProviderUrl) -> Ask {
        Ask { credentials: Credentials::Nobody, page: true, ..Ask::new("GET", url) }
    }

    pub fn json(self, body: Value) -> Ask {
        Ask { sent: Sent::Json(body), ..self }
    }

    pub fn by(self, credentials: Credentials) -> Ask {
        Ask { credentials, ..self }
    }
}
