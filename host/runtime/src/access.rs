//! Who may ask a server of this home, and what for: tokens and their scopes.
//!
//! A token is `lodger_ID_SECRET`. Its id is public and finds it; its secret is 256 random bits, shown once and kept as a
//! hash: there is nothing to guess that a slower hash would have to protect. What a scope admits, the server's routes say.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize, Serializer};

use crate::compiler::hex;
use crate::error::{Error, Result};
use crate::host::{Host, now_ms};
use crate::id::Id;
use crate::key::random;
use crate::store::Mark;
use crate::text::shown;

pub(crate) const HASH_BYTES: usize = 32;

const PREFIX: &str = "lodger_";
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// Most tokens that are remembered.
const LOOKED_UP_MAX: usize = 1000;
/// Longest name of a token, in characters.
const NAME_MAX: usize = 100;

/// What a token may be used for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub enum Scope {
    /// To see everything but secrets.
    Read,
    /// Everything.
    Manage,
    /// To publish addons of this namespace.
    Publish(Id),
    /// To give this app addons, take them away, and read its variables.
    App(Id),
}

/// A token, without what proves it.
#[derive(Clone, Debug, Serialize)]
pub struct Token {
    pub id: String,
    /// What it is for, in its maker's words.
    pub name: Option<String>,
    pub scopes: Vec<Scope>,
    /// Milliseconds since 1970.
    pub created_at: i64,
    /// Milliseconds since 1970; `None`: never.
    pub expires: Option<i64>,
}

/// A token that was just made: the one time that all of it is seen.
#[derive(Clone, Serialize)]
pub struct NewToken {
    pub id: String,
    pub token: String,
    pub name: Option<String>,
    pub scopes: Vec<Scope>,
    pub expires: Option<i64>,
}

/// A token that somebody claims to have.
pub struct Claim {
    pub token: Arc<Token>,
    hash: blake3::Hash,
    presented: blake3::Hash,
}

type Kept = (Arc<Token>, blake3::Hash);

/// Tokens that were looked up, for as long as nobody has changed the store: looking again costs as much as what is asked for.
#[derive(Default)]
pub(crate) struct LookedUp(Mutex<(Option<Mark>, HashMap<String, Kept>)>);

impl LookedUp {
    fn get(&self, id: &str, now: Option<Mark>) -> Option<Kept> {
        let known = self.known();
        if now.is_some() && known.0 == now { known.1.get(id).cloned() } else { None }
    }

    fn put(&self, id: &str, kept: Kept, at: Option<Mark>) {
        let mut known = self.known();
        if known.0 != at || known.1.len() >= LOOKED_UP_MAX {
            *known = (at, HashMap::new());
        }
        known.1.insert(id.to_owned(), kept);
    }

    fn known(&self) -> MutexGuard<'_, (Option<Mark>, HashMap<String, Kept>)> {
        // Whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whether its secret was shown; compared in constant time.
    pub fn is_proved(&self) -> bool {
        self.hash == self.presented
    }
}

impl Token {
    pub fn is_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= now_ms())
    }
}

impl Host {
    /// Makes a token.
    pub fn create_token(
        &self,
        name: Option<&str>,
        scopes: Vec<Scope>,
        expires_in: Option<Duration>,
    ) -> Result<NewToken> {
        let id = hex(&random::<ID_BYTES>()?);
        let secret = hex(&random::<SECRET_BYTES>()?);
        let created_at = now_ms();
        let in_ms = expires_in.map(|within| i64::try_from(within.as_millis()).unwrap_or(i64::MAX));
        let expires = in_ms.map(|within| created_at.saturating_add(within));
        let name = name.map(|name| shown(name, NAME_MAX));
        let token = Token { id: id.clone(), name: name.clone(), scopes: scopes.clone(), created_at, expires };
        self.store.put_token(&token, blake3::hash(secret.as_bytes()).as_bytes())?;
        Ok(NewToken { token: format!("{PREFIX}{id}_{secret}"), id, name, scopes, expires })
    }

    /// The oldest first, those that have expired among them.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        self.store.tokens()
    }

    /// Takes a token out of use, at once.
    ///
    /// # Errors
    /// [`Error::UnknownToken`].
    pub fn revoke_token(&self, id: &str) -> Result<()> {
        if self.store.delete_token(id)? { Ok(()) } else { Err(Error::UnknownToken(id.to_owned())) }
    }

    /// The token that is claimed with this text, if there is one; whoever asks has yet to look whether it is proved, and has
    /// not expired.
    pub fn claimed_token(&self, presented: &str) -> Result<Option<Claim>> {
        let parts = presented.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_'));
        let Some((id, secret)) = parts.filter(|(id, _)| id.len() == 2 * ID_BYTES) else { return Ok(None) };
        // From before the look: a token that is revoked meanwhile is not remembered.
        let mark = self.store.mark();
        let known = match self.tokens.get(id, mark) {
            Some(known) => Some(known),
            None => self.look_up(id, mark)?,
        };
        Ok(known.map(|(token, hash)| Claim { token, hash, presented: blake3::hash(secret.as_bytes()) }))
    }

    fn look_up(&self, id: &str, mark: Option<Mark>) -> Result<Option<Kept>> {
        let Some((token, hash)) = self.store.token(id)? else { return Ok(None) };
        let kept = (Arc::new(token), blake3::Hash::from_bytes(hash));
        self.tokens.put(id, kept.clone(), mark);
        Ok(Some(kept))
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Scope> {
        let of = |name: &str| name.parse().map_err(|_| Error::InvalidScope(text.to_owned()));
        match text.split_once(':') {
            None if text == "read" => Ok(Scope::Read),
            None if text == "manage" => Ok(Scope::Manage),
            Some(("publish", namespace)) => of(namespace).map(Scope::Publish),
            Some(("app", name)) => of(name).map(Scope::App),
            _ => Err(Error::InvalidScope(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = Error;

    fn try_from(text: String) -> Result<Scope> {
        text.parse()
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Read => f.write_str("read"),
            Scope::Manage => f.write_str("manage"),
            Scope::Publish(namespace) => write!(f, "publish:{namespace}"),
            Scope::App(app) => write!(f, "app:{app}"),
        }
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
