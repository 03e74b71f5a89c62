//! What can keep a server elsewhere from answering, and what it refuses.

use serde_json::Value;

use crate::error::Error;
use crate::grant::Grant;
use crate::id::{AddonId, Id};
use crate::manifest::Problem;
use crate::text::{is_plain, shown};

use super::market::Wanted;

/// Longest code, and longest text of a refusal, that is taken from a server.
const CODE_MAX: usize = 60;
const TEXT_MAX: usize = 4000;
/// Most problems that are taken over, and how deep they may stand.
const PROBLEMS_MAX: usize = 100;
const DEPTH_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// Which is not shown: there may be a secret in it.
    #[error("that is no URL of a server: {why}")]
    Url { why: &'static str },
    #[error("`{server}` is not on this machine, and what is asked with a token must not go there in clear text")]
    ClearText { server: String },
    #[error("that is no token: one word of ASCII")]
    Token,
    #[error("the server `{server}` cannot be reached")]
    Unreachable { server: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("the server `{server}` does not prove who it is")]
    Untrusted { server: String, source: std::io::Error },
    #[error("the server `{server}` has not answered in time")]
    TooSlow { server: String },
    #[error("the server `{server}` {what}")]
    Answer { server: String, what: String },
    #[error("what a server has answered cannot be written")]
    Write(#[source] std::io::Error),
    #[error("{}", .0.message)]
    Refused(Box<RemoteRefusal>),

    #[error("`{}` is no NAME or NAMESPACE/NAME, with or without @VERSION", shown(.0, 80))]
    NotWanted(String),
    #[error("the marketplace `{market}` has no approved addon `{wanted}`{}", needed_by(by.as_ref()))]
    UnknownName { market: String, wanted: Wanted, by: Option<AddonId>, versions: Vec<String> },
    #[error("`{name}` could be {} in the marketplace `{market}`", quoted(candidates))]
    AmbiguousName { market: String, name: Id, candidates: Vec<AddonId> },
    #[error("what the marketplace `{market}` gives as `{addon}` {what}")]
    OtherContent { market: String, addon: AddonId, what: String },
    #[error("what is asked for needs more than {most} of the marketplace `{market}`")]
    TooMuch { market: String, most: String },
    #[error(transparent)]
    Host(#[from] Error),
}

/// What a server refuses, in its own words: escaped.
#[derive(Debug)]
pub struct RemoteRefusal {
    pub status: u16,
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    pub problems: Vec<Problem>,
    /// What a command ends with that is refused so.
    pub exit_code: u8,
    /// What would have to be accepted.
    pub grant: Option<Grant>,
}

impl RemoteError {
    /// Stable, but for those a server has of its own.
    pub fn code(&self) -> &str {
        match self {
            RemoteError::Url { .. } => "invalid-url",
            RemoteError::ClearText { .. } => "clear-text",
            RemoteError::Token => "invalid-token",
            RemoteError::Unreachable { .. } => "server-unreachable",
            RemoteError::Untrusted { .. } => "server-untrusted",
            RemoteError::TooSlow { .. } => "server-too-slow",
            RemoteError::Answer { .. } => "server-answer",
            RemoteError::Write(_) => "write",
            RemoteError::Refused(refusal) => &refusal.code,
            RemoteError::NotWanted(_) => "invalid-name",
            RemoteError::UnknownName { .. } => "unknown-name",
            RemoteError::AmbiguousName { .. } => "ambiguous-name",
            RemoteError::OtherContent { .. } => "other-content",
            RemoteError::TooMuch { .. } => "too-much",
            RemoteError::Host(error) => error.code(),
        }
    }

    /// Of a command that ends with it: 1 refused, 2 asked for wrongly, 4 the server is at fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            RemoteError::Url { .. } | RemoteError::ClearText { .. } | RemoteError::Token => 2,
            RemoteError::Unreachable { .. }
            | RemoteError::Untrusted { .. }
            | RemoteError::TooSlow { .. }
            | RemoteError::Answer { .. }
            | RemoteError::OtherContent { .. } => 4,
            RemoteError::Write(_)
            | RemoteError::NotWanted(_)
            | RemoteError::UnknownName { .. }
            | RemoteError::AmbiguousName { .. }
            | RemoteError::TooMuch { .. } => 1,
            RemoteError::Refused(refusal) => refusal.exit_code,
            RemoteError::Host(error) => error.exit_code(),
        }
    }

    pub fn problems(&self) -> &[Problem] {
        match self {
            RemoteError::Refused(refusal) => &refusal.problems,
            RemoteError::Host(error) => error.problems(),
            _ => &[],
        }
    }

    pub fn hint(&self) -> Option<String> {
        Some(match self {
            RemoteError::Url { .. } => {
                "https://HOST[:PORT], or http://localhost:7420 for one of this machine".to_owned()
            }
            RemoteError::ClearText { .. } => "https:// with a proxy there that speaks TLS, or a tunnel".to_owned(),
            RemoteError::Untrusted { .. } => {
                "its certificate must be of an authority that this machine trusts (SSL_CERT_FILE names others)"
                    .to_owned()
            }
            RemoteError::UnknownName { versions, .. } if !versions.is_empty() => {
                format!("there are {}", quoted(versions))
            }
            RemoteError::UnknownName { .. } => "`lodger search` shows what there is".to_owned(),
            RemoteError::AmbiguousName { .. } => "name it with its namespace".to_owned(),
            RemoteError::OtherContent { .. } => "nothing was installed; tell whoever runs the marketplace".to_owned(),
            RemoteError::Refused(refusal) => return refusal.hint.clone(),
            RemoteError::Host(error) => return error.hint(),
            _ => return None,
        })
    }
}

impl RemoteRefusal {
    /// From problem details, or the shape Oakestra's errors have. `None` where it is neither.
    pub(super) fn read(status: u16, body: &[u8]) -> Option<RemoteRefusal> {
        let mut told: Value = serde_json::from_slice(body).ok()?;
        make_plain(&mut told);
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(|text| shown(text, TEXT_MAX));
        let code = text("code").or_else(|| text("reason"))?;
        let is_code =
            |code: &String| code.len() <= CODE_MAX && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let code = Some(code).filter(is_code)?;
        let mut problems: Vec<Problem> =
            told.get("problems").and_then(|given| serde_json::from_value(given.clone()).ok()).unwrap_or_default();
        let errors = told.get("errors").and_then(|errors| errors.get("json"));
        errors.into_iter().for_each(|errors| collect(errors, "", DEPTH_MAX, &mut problems));
        problems.truncate(PROBLEMS_MAX);
        let given = told.get("exit_code").and_then(Value::as_u64).and_then(|code| u8::try_from(code).ok());
        Some(RemoteRefusal {
            status,
            message: text("detail").or_else(|| text("message")).unwrap_or_else(|| code.replace('-', " ")),
            hint: text("hint"),
            problems,
            exit_code: given.filter(|code| (1..=4).contains(code)).unwrap_or(if status >= 500 { 4 } else { 1 }),
            grant: told.get("grant").and_then(|grant| serde_json::from_value(grant.clone()).ok()),
            code,
        })
    }
}

/// `{"services": {"0": {"image": [message]}}}` as a problem of `services[0].image`.
fn collect(errors: &Value, path: &str, depth: usize, problems: &mut Vec<Problem>) {
    match errors {
        Value::String(message) => {
            let path = if path.is_empty() { "." } else { path }.to_owned();
            problems.push(Problem { path, message: message.clone(), hint: None });
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, depth, problems)),
        Value::Object(below) if depth > 0 => {
            for (name, errors) in below {
                let path = match name.as_str() {
                    "_schema" => path.to_owned(),
                    name if name.bytes().all(|b| b.is_ascii_digit()) => format!("{path}[{name}]"),
                    name if path.is_empty() => name.to_owned(),
                    name => format!("{path}.{name}"),
                };
                collect(errors, &path, depth - 1, problems);
            }
        }
        _ => {}
    }
}

/// Escapes every text in it that does not show itself and nothing else.
pub(super) fn make_plain(value: &mut Value) {
    let plain = |text: &str| shown(text, usize::MAX);
    match value {
        Value::String(text) if !is_plain(text) => *text = plain(text),
        Value::Array(items) => items.iter_mut().for_each(make_plain),
        Value::Object(members) => {
            if members.keys().any(|name| !is_plain(name)) {
                *members = std::mem::take(members).into_iter().map(|(name, value)| (plain(&name), value)).collect();
            }
            members.values_mut().for_each(make_plain);
        }
        _ => {}
    }
}

fn quoted(items: &[impl ToString]) -> String {
    items.iter().map(|item| format!("`{}`", item.to_string())).collect::<Vec<_>>().join(", ")
}

fn needed_by(addon: Option<&AddonId>) -> String {
    addon.map(|addon| format!(", which `{addon}` needs")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_in_both_shapes_and_nothing_else_is_one() {
        let problem = br#"{"type":"x","status":409,"code":"in-use","detail":"a\u001b[31m b","hint":"h","exit_code":3,
            "problems":[{"path":"a","message":"m"}]}"#;
        let refusal = RemoteRefusal::read(409, problem).unwrap();
        assert_eq!((refusal.code.as_str(), refusal.message.as_str()), ("in-use", "a\\u{1b}[31m b"));
        assert_eq!((refusal.exit_code, refusal.problems.len(), refusal.hint.as_deref()), (3, 1, Some("h")));

        let theirs = br#"{"code":422,"status":"x","reason":"invalid-manifest",
            "errors":{"json":{"name":["n"],"services":{"0":{"image":["i"],"_schema":["s"]}}}}}"#;
        let refusal = RemoteRefusal::read(422, theirs).unwrap();
        let paths: Vec<(&str, &str)> =
            refusal.problems.iter().map(|problem| (problem.path.as_str(), problem.message.as_str())).collect();
        assert_eq!(paths, [("name", "n"), ("services[0]", "s"), ("services[0].image", "i")]);
        assert_eq!((refusal.code.as_str(), refusal.exit_code), ("invalid-manifest", 1));

        for body in ["", "{}", "[]", "<html>", r#"{"code":7}"#, r#"{"code":"In Use"}"#, "{\"code\":\"a\u{202e}\"}"] {
            assert!(RemoteRefusal::read(500, body.as_bytes()).is_none(), "{body}");
        }
        // Whatever it says, it has failed.
        let lies = br#"{"code":"x","exit_code":0}"#;
        assert_eq!(RemoteRefusal::read(500, lies).unwrap().exit_code, 4);
    }
}
