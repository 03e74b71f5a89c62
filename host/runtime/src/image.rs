//! Image references: parsed, normalised, and compared part by part, never by prefix.
//!
//! The grammar is that of the distribution project (<https://github.com/distribution/reference>): `registry/path:tag@digest`,
//! where a first part without a dot, a colon and not `localhost` belongs to the path, and a name without a registry is
//! Docker Hub's. Only sha256 digests are taken.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The registry of names without one.
pub const DOCKER_HUB: &str = "docker.io";

const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;

/// One image, in full: `docker.io/library/redis:7`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageRef {
    pub registry: String,
    /// Parts of the path, `library` and `redis`.
    path: Vec<String>,
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an image reference: {why}", crate::text::shown(text, 100))]
pub struct NotAnImage {
    text: String,
    why: &'static str,
}

impl ImageRef {
    /// Without tag and digest, as the engine names it.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.path.join("/"))
    }

    /// The same image by digest alone.
    pub fn at(&self, digest: &str) -> String {
        format!("{}@{digest}", self.name())
    }

    /// Without the tag where there is a digest, which alone says what is meant: not every engine takes both.
    pub fn exact(&self) -> ImageRef {
        ImageRef { tag: self.tag.clone().filter(|_| self.digest.is_none()), ..self.clone() }
    }

    /// The same image on another registry.
    pub fn on(&self, registry: &str) -> ImageRef {
        ImageRef { registry: registry.to_owned(), ..self.clone() }
    }
}

impl FromStr for ImageRef {
    type Err = NotAnImage;

    fn from_str(text: &str) -> Result<ImageRef, NotAnImage> {
        let not = |why| NotAnImage { text: text.to_owned(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return Err(not("the digest is not sha256: and 64 hex digits"));
        }
        // A colon after the last slash is the tag's; one before it is the registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(not("the tag holds other than letters, digits, dots, dashes and underscores"));
        }
        if name.len() > NAME_MAX {
            return Err(not("the name is over 255 bytes"));
        }
        let (registry, path) = split_registry(name);
        if !is_registry(registry) {
            return Err(not("the registry is not a host name with or without a port"));
        }
        let mut path: Vec<String> = path.split('/').map(str::to_owned).collect();
        if !path.iter().all(|part| is_path_part(part)) {
            return Err(not("the name holds other than lower-case letters, digits and single separators"));
        }
        if registry == DOCKER_HUB && path.len() == 1 {
            path.insert(0, "library".to_owned());
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(ImageRef { registry: registry.to_owned(), path, tag, digest: digest.map(str::to_owned) })
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl Serialize for ImageRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a policy lists: an image with any tag, with one tag, or with `*` for one or more last parts of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImagePattern {
    registry: String,
    path: Vec<String>,
    any_below: bool,
    tag: Option<String>,
}

impl ImagePattern {
    pub fn matches(&self, image: &ImageRef) -> bool {
        let path = if self.any_below {
            image.path.len() > self.path.len() && image.path.starts_with(&self.path)
        } else {
            image.path == self.path
        };
        path && self.registry == image.registry && (self.tag.is_none() || self.tag == image.tag)
    }
}

impl FromStr for ImagePattern {
    type Err = NotAnImage;

    fn from_str(text: &str) -> Result<ImagePattern, NotAnImage> {
        let Some(above) = text.strip_suffix("/*") else {
            let image: ImageRef = text.parse()?;
            // A reference without a tag means `latest`; a pattern without one means any.
            let tag = image.tag.filter(|tag| text.ends_with(&format!(":{tag}")));
            return Ok(ImagePattern { registry: image.registry, path: image.path, any_below: false, tag });
        };
        let (registry, path) =
            if above.contains('/') || !looks_like_registry(above) { split_registry(above) } else { (above, "") };
        let path: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if !is_registry(registry) || !path.iter().all(|part| is_path_part(part)) {
            return Err(NotAnImage { text: text.to_owned(), why: "a pattern is a name, or its first parts and `/*`" });
        }
        Ok(ImagePattern { registry: registry.to_owned(), path, any_below: true, tag: None })
    }
}

fn looks_like_registry(part: &str) -> bool {
    part.contains('.') || part.contains(':') || part == "localhost"
}

fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest)) if looks_like_registry(first) => {
            (if first == "index.docker.io" { DOCKER_HUB } else { first }, rest)
        }
        _ => (DOCKER_HUB, name),
    }
}

/// A host name and perhaps a port.
pub(crate) fn is_registry(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// `[a-z0-9]+((.|_|__|-+)[a-z0-9]+)*`
fn is_path_part(part: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = |end: Option<&u8>| end.is_some_and(alphanumeric);
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separator = |run: &str| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|b| b == b'-');
    ends(bytes.first()) && ends(bytes.last()) && separators.into_iter().all(separator)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=TAG_MAX).contains(&tag.len())
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
        && tag.bytes().next().is_some_and(word)
}

fn is_digest(digest: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    digest.strip_prefix("sha256:").is_some_and(|rest| rest.len() == 64 && rest.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_normalised() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (text, full) in [
            ("redis", "docker.io/library/redis:latest"),
            ("redis:7", "docker.io/library/redis:7"),
            ("acme/redis", "docker.io/acme/redis:latest"),
            ("index.docker.io/redis", "docker.io/library/redis:latest"),
            ("127.0.0.1:5000/a/b__c:1", "127.0.0.1:5000/a/b__c:1"),
            ("localhost/x", "localhost/x:latest"),
            (&format!("redis@{digest}"), &format!("docker.io/library/redis@{digest}")),
            (&format!("redis:7@{digest}"), &format!("docker.io/library/redis:7@{digest}")),
        ] {
            assert_eq!(text.parse::<ImageRef>().map(|image| image.to_string()).as_deref(), Ok(full));
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = "a".repeat(256);
        for bad in [
            "",
            "Redis",
            "redis:",
            "redis:-x",
            "redis@sha256:1",
            "a//b",
            "/a",
            "a/",
            "../a",
            "a b",
            "a\n",
            "-a",
            "a..b",
            "http://a/b",
            "user@host/a",
            "a_b-/c",
            "evil.com:x/a",
            "a:1:2",
            &long,
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn patterns_match_by_part() {
        let matches = |pattern: &str, image: &str| {
            let pattern: ImagePattern = pattern.parse().unwrap_or_else(|error| unreachable!("{error}"));
            image.parse::<ImageRef>().is_ok_and(|image| pattern.matches(&image))
        };
        assert!(matches("redis", "docker.io/library/redis:7") && matches("docker.io/library/redis:7", "redis:7"));
        assert!(
            !matches("redis:7", "redis:8") && !matches("docker.io/library/redis", "docker.io.evil.com/library/redis")
        );
        assert!(matches("ghcr.io/acme/*", "ghcr.io/acme/a/b:1") && !matches("ghcr.io/acme/*", "ghcr.io/acmecorp/a"));
        assert!(!matches("ghcr.io/acme/*", "ghcr.io/acme") && matches("127.0.0.1:5000/*", "127.0.0.1:5000/x"));
        assert!(!matches("127.0.0.1:5000/*", "127.0.0.1:50001/x") && !matches("acme/*", "ghcr.io/acme/x"));
    }
}
