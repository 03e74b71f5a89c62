//! What is done when a hook fails: its policy, which `[failure]` in `lodger.toml` sets, and what follows from how a call ended.
//!
//! A *fault* is a call that trapped, or exceeded its deadline or a limit. A refusal is an answer, which no policy changes;
//! only one that says `unavailable` may be asked for again. Which policy means something for which hook is one table,
//! [`FailurePolicy::unfit`], and what follows another, [`FailurePolicy::next`]. A policy is about hooks: what an embedder calls
//! of its own world ([`Host::call_world`](crate::Host::call_world)) ends as it ends.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::hook::{Answer, HookName};
use crate::host::Call;
use crate::outcome::Outcome;
use crate::text::shown;

/// Most retries of a call.
const RETRIES_MAX: u32 = 5;
/// Before the first retry; twice as long before each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Faults in a row after which an addon is quarantined, where the policy does not say, and most that it may say.
const IN_A_ROW: u32 = 3;
const IN_A_ROW_MAX: u32 = 100;

/// What is done when a hook fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The verb fails, and the state says which hook has.
    FailClosed,
    /// The verb goes on without the hook.
    FailOpen,
    /// It is called again, so often at most.
    Retry(u32),
    /// As `FailClosed`; after so many faults of the hook in a row, the addon is not called any more until it is enabled
    /// again.
    Quarantine(u32),
}

/// What follows from how a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Stands,
    /// As if the hook had completed.
    GoesOn,
    /// The hook is called again, after this long.
    Again(Duration),
    /// The addon is quarantined where this was the last of so many faults in a row.
    Counts(u32),
}

impl FailurePolicy {
    /// Why this cannot be the policy of a hook.
    const fn unfit(self, hook: HookName) -> Option<&'static str> {
        use FailurePolicy::{FailClosed, FailOpen, Quarantine, Retry};
        use HookName::{
            After, Before, ChangePlan, ConfigVars, Disable, Dump, Enable, Health, Provision, Restore, Resume, Schedule,
            Suspend, Unprovision, Upgrade, Url, Usage,
        };
        match (self, hook) {
            (FailClosed | Retry(_), Schedule) => Some("the built-in decides at once whenever a plugin fails"),
            (Retry(_), Dump | Restore) => Some("what went through its stream cannot be had again"),
            (FailClosed | Retry(_), _) => None,
            (FailOpen, Disable | Unprovision | Url | ConfigVars | Schedule | Before | After) => None,
            (FailOpen, Enable) => Some("apps would be given an addon that is not ready for them"),
            (FailOpen, Provision) => Some("the app would be given nothing"),
            (FailOpen, ChangePlan | Suspend | Resume) => Some("the addon would not know what the app has of it"),
            (FailOpen, Usage) => Some("what was used would pass for nothing"),
            (FailOpen, Dump) => Some("part of a dump would pass for all of it"),
            (FailOpen, Restore) => Some("what was restored in part would pass for all of it"),
            (FailOpen, Health) => Some("an addon that cannot tell how it is would pass for healthy"),
            (FailOpen, Upgrade) => Some("a version would serve on data that it has not taken over"),
            (
                Quarantine(_),
                Provision | Unprovision | Url | ConfigVars | ChangePlan | Suspend | Resume | Usage | Dump | Restore
                | Health | Schedule | Before | After,
            ) => None,
            (Quarantine(_), Enable | Disable) => Some("an addon of which this hook has failed is not called anyway"),
            (Quarantine(_), Upgrade) => Some("the version before is put back whenever it fails"),
        }
    }

    /// What follows from how a call ended that had been made `before` so often.
    pub(crate) fn next<T>(self, outcome: &Outcome<T>, before: u32) -> Next {
        match self {
            _ if outcome.is_completed() => Next::Stands,
            FailurePolicy::Retry(most) if before < most && (outcome.is_fault() || outcome.is_unavailable()) => {
                Next::Again(FIRST_PAUSE * 2_u32.pow(before))
            }
            FailurePolicy::FailOpen if outcome.is_fault() => Next::GoesOn,
            FailurePolicy::Quarantine(most) if outcome.is_fault() => Next::Counts(most),
            FailurePolicy::FailClosed
            | FailurePolicy::FailOpen
            | FailurePolicy::Retry(_)
            | FailurePolicy::Quarantine(_) => Next::Stands,
        }
    }
}

impl fmt::Display for FailurePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailurePolicy::FailClosed => f.write_str("fail-closed"),
            FailurePolicy::FailOpen => f.write_str("fail-open"),
            FailurePolicy::Retry(most) => write!(f, "retry({most})"),
            FailurePolicy::Quarantine(most) => write!(f, "quarantine({most})"),
        }
    }
}

impl FromStr for FailurePolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |name: &str, most: u32| {
            let digits = text.strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
            let number: u32 = digits.parse().ok()?;
            ((1..=most).contains(&number) && number.to_string() == digits).then_some(number)
        };
        Ok(match text {
            "fail-closed" => FailurePolicy::FailClosed,
            "fail-open" => FailurePolicy::FailOpen,
            "quarantine" => FailurePolicy::Quarantine(IN_A_ROW),
            _ => number("retry", RETRIES_MAX)
                .map(FailurePolicy::Retry)
                .or_else(|| number("quarantine", IN_A_ROW_MAX).map(FailurePolicy::Quarantine))
                .ok_or_else(|| {
                    format!(
                        "there are \"fail-closed\", \"fail-open\", \"retry(N)\" with N from 1 to {RETRIES_MAX}, \
                         and \"quarantine(N)\" with N from 1 to {IN_A_ROW_MAX}"
                    )
                })?,
        })
    }
}

impl Serialize for FailurePolicy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FailurePolicy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The policy of every hook.
#[derive(Clone, Debug)]
pub struct FailurePolicies([FailurePolicy; HookName::ALL.len()]);

impl Default for FailurePolicies {
    fn default() -> Self {
        FailurePolicies(HookName::ALL.map(|hook| match FailurePolicy::FailClosed.unfit(hook) {
            None => FailurePolicy::FailClosed,
            Some(_) => FailurePolicy::FailOpen,
        }))
    }
}

impl FailurePolicies {
    #[expect(clippy::indexing_slicing, reason = "the table has one place per hook, in the order of the enum")]
    pub const fn of(&self, hook: HookName) -> FailurePolicy {
        self.0[hook as usize]
    }

    /// Reads `[failure]`. `default` is for the hooks that are not named, as far as it means something for them.
    pub(crate) fn read(lines: &BTreeMap<String, String>, looser: &mut Vec<String>) -> Result<FailurePolicies, String> {
        let mut policies = FailurePolicies::default();
        for (name, text) in lines {
            let line = format!("failure.{} = \"{}\"", shown(name, 60), shown(text, 60));
            let policy: FailurePolicy = text.parse().map_err(|why| format!("{line}: {why}"))?;
            if name == "default" {
                if policy == FailurePolicy::FailOpen {
                    return Err(format!("{line}: not every hook can be gone on without; name those that are to be"));
                }
                let unnamed = HookName::ALL.into_iter().filter(|hook| !lines.contains_key(hook.name()));
                unnamed.filter(|hook| policy.unfit(*hook).is_none()).for_each(|hook| policies.set(hook, policy));
                continue;
            }
            let hook = HookName::from_name(name).ok_or_else(|| {
                format!("{line}: unknown hook; there are {}", HookName::ALL.map(HookName::name).join(", "))
            })?;
            if let Some(why) = policy.unfit(hook) {
                return Err(format!("{line}: {why}"));
            }
            if policy == FailurePolicy::FailOpen && policies.of(hook) != policy {
                looser.push(line);
            }
            policies.set(hook, policy);
        }
        Ok(policies)
    }

    #[expect(clippy::indexing_slicing, reason = "the table has one place per hook, in the order of the enum")]
    const fn set(&mut self, hook: HookName, policy: FailurePolicy) {
        self.0[hook as usize] = policy;
    }
}

/// A call and its retries, each of which is a call of its own.
#[derive(Default)]
pub(crate) struct Tries {
    /// Calls that were made and are to be made again.
    pub before: u32,
    /// One of them has ended so that nobody knows what it has done.
    pub in_doubt: bool,
    last: Option<Call<Answer>>,
}

impl Tries {
    /// Whether another is to be made, after how long; else what came of them.
    pub fn after(&mut self, done: Result<(Call<Answer>, Next)>) -> ControlFlow<Result<Call<Answer>>, Duration> {
        match (done, self.last.take()) {
            (Ok((call, Next::Again(pause))), _) => {
                self.before += 1;
                self.in_doubt |= !call.outcome.is_unavailable();
                self.last = Some(call);
                ControlFlow::Continue(pause)
            }
            (Ok((call, _)), _) => ControlFlow::Break(Ok(call)),
            // The guest was entered before.
            (Err(error), Some(call)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(call = call.id, error, "a hook cannot be called again");
                ControlFlow::Break(Ok(call))
            }
            (Err(error), None) => ControlFlow::Break(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Refused;

    #[test]
    fn policies_read_back_as_they_are_shown() {
        for text in ["fail-closed", "fail-open", "retry(1)", "retry(5)", "quarantine(1)", "quarantine(100)"] {
            assert_eq!(text.parse::<FailurePolicy>().map(|policy| policy.to_string()).as_deref(), Ok(text));
        }
        assert_eq!("quarantine".parse(), Ok(FailurePolicy::Quarantine(3)));
        for text in
            ["", "retry", "retry()", "retry(0)", "retry(6)", "retry(+1)", "retry(01)", "quarantine(101)", "open"]
        {
            assert!(text.parse::<FailurePolicy>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_follows_from_how_a_call_ended() {
        let refused = |code: &str| Outcome::<()>::Refused(Refused { code: code.to_owned(), message: String::new() });
        let fault = Outcome::<()>::Trapped { reason: String::new() };
        let all =
            [FailurePolicy::FailClosed, FailurePolicy::FailOpen, FailurePolicy::Retry(2), FailurePolicy::Quarantine(2)];
        let again = |ms| Next::Again(Duration::from_millis(ms));
        let next = |outcome: &Outcome<()>, before| all.map(|policy| policy.next(outcome, before));
        assert_eq!(next(&Outcome::Completed(()), 0), [Next::Stands; 4]);
        assert_eq!(next(&refused("conflict"), 0), [Next::Stands; 4]);
        assert_eq!(next(&refused("unavailable"), 0), [Next::Stands, Next::Stands, again(100), Next::Stands]);
        assert_eq!(next(&fault, 1), [Next::Stands, Next::GoesOn, again(200), Next::Counts(2)]);
        assert_eq!(next(&fault, 2), [Next::Stands, Next::GoesOn, Next::Stands, Next::Counts(2)]);
    }
}
