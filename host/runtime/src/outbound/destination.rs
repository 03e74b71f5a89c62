//! Whom one may reach: `host:port`, as manifests ask for it, policies admit it and guests name it.
//!
//! A host is a DNS name in lower case and in one spelling. Addresses are never taken, in none of their forms
//! (`127.0.0.1`, `2130706433`, `0x7f.1`, `[::1]`): a name ends in a label that begins with a letter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::shown;

/// Longest name and label, in bytes.
const NAME_MAX: usize = 253;
const LABEL_MAX: usize = 63;

/// A named host and a TCP port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    host: String,
    port: u16,
}

/// What a policy admits: one destination, or every sub-domain of a name (`*.example.com:443`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    below: bool,
    to: Destination,
}

/// The text names no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a name and a port, such as `api.example.com:443`: {why}", shown(.text, 80))]
pub struct NotADestination {
    text: String,
    why: &'static str,
}

impl Destination {
    /// A name in any case, as a guest may spell it.
    pub fn new(host: &str, port: u16) -> Result<Destination, NotADestination> {
        match (name(host), port) {
            (Ok(_), 0) => Err("ports are 1 to 65535"),
            (Ok(host), port) => Ok(Destination { host, port }),
            (Err(why), _) => Err(why),
        }
        .map_err(|why| NotADestination { text: format!("{host}:{port}"), why })
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

fn name(host: &str) -> Result<String, &'static str> {
    let host = host.to_ascii_lowercase();
    if host.is_empty() || host.len() > NAME_MAX {
        return Err("a name has 1 to 253 bytes");
    }
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !host.split('.').all(label) {
        return Err("a name is made of a-z, 0-9 and inner dashes, with single dots between");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.starts_with(|first: char| first.is_ascii_lowercase()) {
        Ok(host)
    } else {
        Err("that is an address, and only names are taken")
    }
}

fn port(text: &str) -> Option<u16> {
    // Only the one spelling: no sign, no zeros in front.
    text.parse().ok().filter(|port: &u16| *port > 0 && port.to_string() == text)
}

impl FromStr for Destination {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, NotADestination> {
        let wrong = |why| NotADestination { text: text.to_owned(), why };
        let (host, after) = text.rsplit_once(':').ok_or(wrong("it has no port"))?;
        let port = port(after).ok_or(wrong("ports are 1 to 65535"))?;
        Ok(Destination { host: name(host).map_err(wrong)?, port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl From<Destination> for String {
    fn from(to: Destination) -> String {
        to.to_string()
    }
}

impl TryFrom<String> for Destination {
    type Error = NotADestination;

    fn try_from(text: String) -> Result<Self, NotADestination> {
        text.parse()
    }
}

impl Pattern {
    pub fn admits(&self, to: &Destination) -> bool {
        let host = if self.below {
            to.host.strip_suffix(&self.to.host).and_then(|above| above.strip_suffix('.')).is_some()
        } else {
            to.host == self.to.host
        };
        host && to.port == self.to.port
    }
}

impl FromStr for Pattern {
    type Err = NotADestination;

    fn from_str(text: &str) -> Result<Self, NotADestination> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        Ok(Pattern { below, to: rest.parse().map_err(|error| NotADestination { text: text.to_owned(), ..error })? })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.below { "*." } else { "" }, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_in_one_spelling() {
        for (text, normal) in [
            ("api.example.com:443", "api.example.com:443"),
            ("API.Example.COM:443", "api.example.com:443"),
            ("localhost:1", "localhost:1"),
            ("xn--bcher-kva.example:65535", "xn--bcher-kva.example:65535"),
            ("1.2.3.4.in-addr.arpa:53", "1.2.3.4.in-addr.arpa:53"),
        ] {
            assert_eq!(text.parse::<Destination>().unwrap().to_string(), normal);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let long_label = format!("{}.example:443", "a".repeat(64));
        let long_name = format!("{}example:443", "abcdefg.".repeat(32));
        for text in [
            "",
            ":443",
            "example.com",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "example.com:+443",
            "example.com:0443",
            "example.com:443/path",
            "https://example.com:443",
            "example.com:443:443",
            "user@example.com:443",
            "example.com.:443",
            ".example.com:443",
            "a..b:443",
            "-a.example:443",
            "a-.example:443",
            "exa_mple.com:443",
            "exämple.com:443",
            "example.com :443",
            "*:443",
            "*.example.com:443",
            "a*.example.com:443",
            "127.0.0.1:80",
            "2130706433:80",
            "0x7f.1:80",
            "0x7f000001:80",
            "0177.0.0.1:80",
            "127.1:80",
            "[::1]:80",
            "::1:80",
            "[::ffff:127.0.0.1]:80",
            "::ffff:127.0.0.1:80",
            "1.2.3.4.:80",
            "a.0x7f:80",
            "a.1:80",
            "a\0b.example:80",
            "a%2eexample:80",
            &long_label,
            &long_name,
        ] {
            assert!(text.parse::<Destination>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_pattern_admits_its_own_name_or_those_below_it() {
        let to = |text: &str| text.parse::<Destination>().unwrap();
        let exact: Pattern = "example.com:443".parse().unwrap();
        let below: Pattern = "*.example.com:443".parse().unwrap();
        for (name, by_exact, by_below) in [
            ("example.com:443", true, false),
            ("example.com:80", false, false),
            ("api.example.com:443", false, true),
            ("a.b.example.com:443", false, true),
            ("api.example.com:80", false, false),
            ("evilexample.com:443", false, false),
            ("example.com.evil.net:443", false, false),
        ] {
            assert_eq!((exact.admits(&to(name)), below.admits(&to(name))), (by_exact, by_below), "{name}");
        }
        for text in ["*", "*:443", "*.:443", "*.*.example.com:443", "*.127.0.0.1:80", "a.*.com:443"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
    }
}
