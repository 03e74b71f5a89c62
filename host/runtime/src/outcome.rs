//! How a call ended once the guest was entered, and what it used.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::bindings::GuestError;
use crate::hook::MESSAGE_MAX;
use crate::limits::{Limit, Limits};
use crate::text::{redact, shown};

/// How a call ended. Law 2: there is an outcome exactly when the guest was entered.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome<T> {
    Completed(T),
    /// The hook said no, or the host refused what it answered.
    Refused(Refused),
    /// A panic, an abort, a violation of the component model, an exit.
    Trapped {
        reason: String,
    },
    DeadlineExceeded {
        deadline: Duration,
    },
    LimitExceeded {
        limit: Limit,
        value: u64,
    },
}

/// A hook's own error, or the host's verdict on its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The case of the WIT variant `error`, `bad-answer` when the host refused the answer, or `broken-stream`.
    pub code: String,
    /// One line, escaped and redacted.
    pub message: String,
}

impl Refused {
    pub(crate) fn by_guest(error: GuestError, secrets: &[String]) -> Refused {
        let (code, message) = match error {
            GuestError::Invalid(text) => ("invalid", text),
            GuestError::NotFound(text) => ("not-found", text),
            GuestError::Conflict(text) => ("conflict", text),
            GuestError::Denied(text) => ("denied", text),
            GuestError::Exhausted(text) => ("exhausted", text),
            GuestError::Unavailable(text) => (UNAVAILABLE, text),
            GuestError::Other(text) => ("other", text),
        };
        Refused { code: code.to_owned(), message: shown(&redact(&message, secrets), MESSAGE_MAX) }
    }
}

/// The name of a call that did what was asked, in the record of calls.
pub(crate) const COMPLETED: &str = "completed";

const TRAPPED: &str = "trapped";
const DEADLINE_EXCEEDED: &str = "deadline-exceeded";
const LIMIT_EXCEEDED: &str = "limit-exceeded";
/// The names of calls that ended in a fault.
pub(crate) const FAULTS: [&str; 3] = [TRAPPED, DEADLINE_EXCEEDED, LIMIT_EXCEEDED];

/// Code of a [`Refused`] that may be none the next time.
const UNAVAILABLE: &str = "unavailable";

/// Code of a [`Refused`] whose answer broke a rule of the WIT package.
pub const BAD_ANSWER: &str = "bad-answer";

/// Code of a [`Refused`] whose caller could not go on writing what was dumped, or reading what is restored.
pub const BROKEN_STREAM: &str = "broken-stream";

impl<T> Outcome<T> {
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Completed(_) => COMPLETED,
            Outcome::Refused(_) => "refused",
            Outcome::Trapped { .. } => TRAPPED,
            Outcome::DeadlineExceeded { .. } => DEADLINE_EXCEEDED,
            Outcome::LimitExceeded { .. } => LIMIT_EXCEEDED,
        }
    }

    pub const fn is_completed(&self) -> bool {
        matches!(self, Outcome::Completed(_))
    }

    /// The guest did not come to an end by itself, with an answer or a refusal.
    pub const fn is_fault(&self) -> bool {
        match self {
            Outcome::Completed(_) | Outcome::Refused(_) => false,
            Outcome::Trapped { .. } | Outcome::DeadlineExceeded { .. } | Outcome::LimitExceeded { .. } => true,
        }
    }

    /// The hook says that asking again later may succeed.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Outcome::Refused(refused) if refused.code == UNAVAILABLE)
    }

    /// Exit code of a command that ends so: 0 done, 1 refused, 3 the guest trapped or broke a limit.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Outcome::Completed(_) => 0,
            Outcome::Refused(_) => 1,
            Outcome::Trapped { .. } | Outcome::DeadlineExceeded { .. } | Outcome::LimitExceeded { .. } => 3,
        }
    }

    /// HTTP status of a request that ends so, in the same table: 422 the addon said no, 503 it may say yes later, 400 the
    /// stream that came with the request broke, 504 it was not done in time, and 502 whatever else an addon does wrong.
    pub fn http_status(&self) -> u16 {
        match self {
            Outcome::Completed(_) => 200,
            Outcome::Refused(refused) => match refused.code.as_str() {
                UNAVAILABLE => 503,
                BAD_ANSWER => 502,
                BROKEN_STREAM => 400,
                _ => 422,
            },
            Outcome::DeadlineExceeded { .. } => 504,
            Outcome::Trapped { .. } | Outcome::LimitExceeded { .. } => 502,
        }
    }

    /// Why it did not complete, in words.
    pub fn detail(&self) -> Option<String> {
        match self {
            Outcome::Completed(_) => None,
            Outcome::Refused(refused) => Some(format!("{}: {}", refused.code, refused.message)),
            Outcome::Trapped { reason } => Some(reason.clone()),
            Outcome::DeadlineExceeded { deadline } => Some(format!("{} ms", deadline.as_millis())),
            Outcome::LimitExceeded { limit, value } => Some(format!("{limit} = {value}")),
        }
    }

    pub fn map<U>(self, into: impl FnOnce(T) -> U) -> Outcome<U> {
        self.and_then(|answer| Outcome::Completed(into(answer)))
    }

    /// What becomes of the answer; how a call ended otherwise stays.
    pub fn and_then<U>(self, into: impl FnOnce(T) -> Outcome<U>) -> Outcome<U> {
        match self {
            Outcome::Completed(answer) => into(answer),
            Outcome::Refused(refused) => Outcome::Refused(refused),
            Outcome::Trapped { reason } => Outcome::Trapped { reason },
            Outcome::DeadlineExceeded { deadline } => Outcome::DeadlineExceeded { deadline },
            Outcome::LimitExceeded { limit, value } => Outcome::LimitExceeded { limit, value },
        }
    }
}

impl<T> fmt::Display for Outcome<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Completed(_) => f.write_str("completed"),
            Outcome::Refused(refused) => write!(f, "refused ({}): {}", refused.code, refused.message),
            Outcome::Trapped { reason } => write!(f, "trapped: {reason}"),
            Outcome::DeadlineExceeded { deadline } => write!(f, "exceeded its deadline of {} ms", deadline.as_millis()),
            Outcome::LimitExceeded { limit, value } => write!(f, "exceeded {limit} = {value}"),
        }
    }
}

/// What a call used, and what it was allowed. What has no figure of its own (handles and host objects, stack, instances, bytes
/// copied at one crossing) shows as the outcome when it is exceeded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Report {
    pub wall_us: u64,
    /// Not kept in the record of calls.
    #[serde(skip)]
    pub limits: Limits,
    /// Most linear memory held at one time, all memories together.
    pub memory_bytes: u64,
    /// Most table elements held at one time, all tables together.
    pub table_elements: u64,
    /// Most host memory held on the guest's behalf at one time.
    pub host_memory_bytes: u64,
    pub random_bytes: u64,
    /// Bytes of HTTP requests and responses and of TCP streams.
    #[serde(default)]
    pub network_bytes: u64,
    /// Bytes dumped or restored.
    #[serde(default)]
    pub stream_bytes: u64,
    /// Bytes of log kept, and dropped past the limit.
    pub log_bytes: u64,
    pub log_dropped_bytes: u64,
    /// In the data directory after the call; as last recorded when the call could not write it.
    pub data_bytes: u64,
    pub data_files: u64,
}
