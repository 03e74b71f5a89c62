//! Where a server is, and what proves to it who asks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::Uri;
use hyper::header::HeaderValue;

use super::error::RemoteError;

const HTTPS: u16 = 443;
const HTTP: u16 = 80;
/// Longest token, in bytes.
const TOKEN_MAX: usize = 4096;

/// `https://HOST[:PORT][/PATH]`; with `http://` only this machine, since a token would go in clear text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerUrl {
    is_secure: bool,
    /// An address of IPv6 without its brackets.
    host: String,
    port: u16,
    authority: String,
    /// Without a slash at its end.
    path: String,
}

impl ServerUrl {
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// As the header `Host` has it.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// What stands before every path there.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The same server, at a path below this one that begins with a slash and is encoded.
    pub(crate) fn below(&self, path: &str) -> ServerUrl {
        ServerUrl { path: format!("{}{path}", self.path), ..self.clone() }
    }

    /// For whoever looks at what the name leads to before anything goes there in clear text.
    pub(crate) fn anywhere(text: &str) -> Result<ServerUrl, RemoteError> {
        let wrong = |why| RemoteError::Url { why };
        let uri: Uri = text.trim().parse().map_err(|_| wrong("it is no URL"))?;
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("it begins with neither https:// nor http://")),
        };
        let authority = uri.authority().ok_or(wrong("it names no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("there are no user names in it: a token is given by itself"));
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(wrong("nothing is asked with it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let has_port = authority.as_str().len() > authority.host().len();
        let port = match authority.port_u16() {
            Some(port) if port > 0 => port,
            None if !has_port && is_secure => HTTPS,
            None if !has_port => HTTP,
            _ => return Err(wrong("ports are 1 to 65535")),
        };
        if host.is_empty() {
            return Err(wrong("it names no host"));
        }
        Ok(ServerUrl {
            is_secure,
            host,
            port,
            authority: authority.as_str().to_ascii_lowercase(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl FromStr for ServerUrl {
    type Err = RemoteError;

    fn from_str(text: &str) -> Result<ServerUrl, RemoteError> {
        let url = ServerUrl::anywhere(text)?;
        if !url.is_secure && !is_this_machine(&url.host) {
            return Err(RemoteError::ClearText { server: url.to_string() });
        }
        Ok(url)
    }
}

/// By its name: what is connected to is looked at again.
fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.is_secure { "https" } else { "http" }, self.authority, self.path)
    }
}

/// A token, which is never shown.
#[derive(Clone)]
pub struct BearerToken(HeaderValue);

impl BearerToken {
    /// Of a file or the environment: what stands around it is none of it.
    ///
    /// # Errors
    /// [`RemoteError::Token`].
    pub fn new(text: &str) -> Result<BearerToken, RemoteError> {
        let text = text.trim();
        let fits = (1..=TOKEN_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let value = fits.then(|| HeaderValue::try_from(format!("Bearer {text}")).ok()).flatten();
        let mut value = value.ok_or(RemoteError::Token)?;
        value.set_sensitive(true);
        Ok(BearerToken(value))
    }

    pub(super) fn header(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_nothing_else() {
        for (text, shown, host, port) in [
            ("https://lodger.example.com", "https://lodger.example.com", "lodger.example.com", 443),
            ("https://Lodger.Example.com/", "https://lodger.example.com", "lodger.example.com", 443),
            ("https://10.0.0.7:8443/lodger/", "https://10.0.0.7:8443/lodger", "10.0.0.7", 8443),
            ("https://[2001:db8::1]:1", "https://[2001:db8::1]:1", "2001:db8::1", 1),
            ("http://localhost:7420", "http://localhost:7420", "localhost", 7420),
            ("http://127.0.0.9", "http://127.0.0.9", "127.0.0.9", 80),
            ("http://[::1]:7420/", "http://[::1]:7420", "::1", 7420),
        ] {
            let url: ServerUrl = text.parse().unwrap();
            assert_eq!((url.to_string().as_str(), url.host(), url.port()), (shown, host, port));
        }
        for text in [
            "",
            "localhost",
            "localhost:7420",
            "/path",
            "ftp://localhost",
            "https://",
            "https:///x",
            "https://u:p@h/",
            "https://h?x=1",
            "https://h#x",
            "https://h:0",
            "https://h:99999",
            "https://h:",
            "https://a b",
            "http://@localhost",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert_eq!(error.code(), "invalid-url", "{text}: {error}");
        }
        for text in [
            "http://example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://[::ffff:10.0.0.1]",
            "http://0.0.0.0:7420",
            "http://2130706433",
            "http://[2001:db8::1]",
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap_err().code(), "clear-text", "{text}");
        }
    }

    #[test]
    fn a_token_is_one_word_and_is_not_shown() {
        let token = BearerToken::new(" lodger_1_hush \n").unwrap();
        assert_eq!(token.header(), "Bearer lodger_1_hush");
        assert!(!format!("{token:?} {:?}", token.header()).contains("hush"));
        for text in ["", " \n", "two words", "a\r\nX-Evil: 1", "grün", &"x".repeat(5000)] {
            assert_eq!(BearerToken::new(text).unwrap_err().code(), "invalid-token", "{text}");
        }
    }
}
