//! Names, as newtypes that can only hold what the pattern allows.
//!
//! Every id of the system (addon, namespace, plan, app, alias, service) matches
//! `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`, so that no id can be a path, an option, or two ids joined ambiguously.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest id, in bytes.
pub const ID_MAX: usize = 40;

/// A name that matches the id pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id(String);

/// The text is not an id.
#[derive(Debug, Clone, thiserror::Error)]
#[error("`{}` is not an id: 1 to {ID_MAX} of a-z, 0-9 and inner dashes", crate::text::shown(.0, 60))]
pub struct NotAnId(pub String);

impl Id {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id nearest to a free-form name: `My Addon` becomes `my-addon`. `None` when nothing is left of it.
    pub fn nearest(name: &str) -> Option<Id> {
        let dashed: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let words: Vec<&str> = dashed.split('-').filter(|word| !word.is_empty()).collect();
        let mut id = words.join("-");
        id.truncate(ID_MAX);
        id.trim_end_matches('-').parse().ok()
    }

    /// The id as the first part of environment variable names: `my-addon` becomes `MY_ADDON_`.
    pub fn env_prefix(&self) -> String {
        format!("{}_", self.0.to_ascii_uppercase().replace('-', "_"))
    }
}

impl FromStr for Id {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let ok = (1..=ID_MAX).contains(&text.len())
            && text.bytes().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        if ok { Ok(Id(text.to_owned())) } else { Err(NotAnId(text.to_owned())) }
    }
}

impl TryFrom<String> for Id {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> String {
        id.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which addon: `namespace/name`, each an [`Id`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddonId {
    pub namespace: Id,
    pub name: Id,
}

impl fmt::Display for AddonId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for AddonId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| NotAnId(text.to_owned()))?;
        Ok(AddonId { namespace: namespace.parse()?, name: name.parse()? })
    }
}

impl Serialize for AddonId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddonId {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<AddonId, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_hold_only_the_pattern() {
        for good in ["a", "a1", "a-b", "0", &"x".repeat(40)] {
            assert!(good.parse::<Id>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "..", "a b", "é", "a\n", &"x".repeat(41)] {
            assert!(bad.parse::<Id>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_free_name_has_a_nearest_id() {
        let nearest = |name| Id::nearest(name).map(String::from);
        assert_eq!(nearest("My Addon_2"), Some("my-addon-2".into()));
        assert_eq!(nearest("--x--"), Some("x".into()));
        assert_eq!(nearest("!!!"), None);
    }
}
