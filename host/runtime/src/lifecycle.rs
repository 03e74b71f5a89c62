//! The states of addons and resources: what is permitted, and what comes after. Exhaustive matches, nothing else decides.
//!
//! ```text
//!             enable                          disable
//! installed ─────────→ enabling ──→ enabled ──────────→ disabling ──→ installed
//!                         │          ↑    ↓ health          │
//!                         │        degraded                 │
//!                         ↓                                 ↓
//!                 failed{enable} / interrupted{enable}   failed{disable} / interrupted{disable}
//!                         ╰── enable or disable again ──╯
//!
//!                     faults of another hook in a row
//! enabled, degraded ──────────────────────────────────→ failed{that hook}: quarantined, until enabled again
//!
//!                              upgrade, rollback
//! installed, enabled, degraded ──────────────────→ upgrading ──→ as before, in this version or the other
//!
//!  provision                               unprovision
//! ───────────→ provisioning ──→ active ─────────────────→ deprovisioning ──→ gone
//!                   │                                          │
//!                   ↓                                          ↓
//!       failed{provision} / interrupted{provision}    failed{unprovision} / interrupted{unprovision}
//!                   ╰── remove, or add again while interrupted ──╯
//!
//!  active ── remove --keep-data ──→ detached ── add again ──→ active
//!
//!         change-plan               suspend                    resume
//!  active ──→ updating ──→ active ──→ suspending ──→ suspended ──→ resuming ──→ active
//!                │                        │                           │
//!                ↓                        ↓                           ↓
//!      failed{change-plan} /      failed{suspend} /          failed{resume} /
//!      interrupted{change-plan}   interrupted{suspend}       interrupted{resume}
//!                │                        ╰─ suspend or resume again ─╯
//!                ╰── change the plan again, to the old one or another
//! ```
//!
//! A state that says something is under way (`enabling`, `provisioning`, …) is only true while somebody holds the addon's
//! lock; whoever takes the lock and finds it turns it into `interrupted`, and takes an upgrade that was cut off back. A hook of
//! `plans` that refuses leads back to the state it was asked in; and whatever becomes of it, the app keeps being given its
//! variables.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hook::HookName;
use crate::outcome::{BAD_ANSWER, Outcome};

/// Where an addon is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddonState {
    Installed,
    Enabling,
    Enabled,
    /// Enabled, but its `health` says that something is wrong.
    Degraded,
    Disabling,
    /// Another version is being tried, or taken back to.
    Upgrading,
    Failed(HookName),
    /// The host died while the hook ran.
    Interrupted(HookName),
}

/// Where a resource is in its life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResourceState {
    Provisioning,
    Active,
    /// Its plan is being changed.
    Updating,
    Suspending,
    /// Withheld from its app, with its data.
    Suspended,
    Resuming,
    /// Kept with its data, but no app uses it.
    Detached,
    Deprovisioning,
    Failed(HookName),
    Interrupted(HookName),
}

/// Whether an addon in this state may be asked this hook.
pub fn permits(state: &AddonState, hook: HookName) -> bool {
    use AddonState::{Degraded, Disabling, Enabled, Enabling, Failed, Installed, Interrupted, Upgrading};
    match (state, hook) {
        // The version that is left serves until it is left.
        (Upgrading | Interrupted(HookName::Upgrade), _) => hook == HookName::Upgrade || !hook.is_mutating(),
        (_, HookName::Upgrade) => false,
        (Installed | Failed(_) | Interrupted(_), HookName::Enable) => true,
        (Enabled | Degraded, HookName::Enable) => false,
        (Enabled | Degraded, _) => true,
        (Failed(_) | Interrupted(_), HookName::Disable | HookName::Unprovision) => true,
        (Installed | Failed(_) | Interrupted(_), _) => false,
        // Only whoever holds the lock sees these, and it turns them into `interrupted` first.
        (Enabling | Disabling, _) => false,
    }
}

/// The state while a hook runs; `None` where the addon's state does not change.
pub fn during(hook: HookName) -> Option<AddonState> {
    match hook {
        HookName::Enable => Some(AddonState::Enabling),
        HookName::Disable => Some(AddonState::Disabling),
        HookName::Provision
        | HookName::Unprovision
        | HookName::Url
        | HookName::ConfigVars
        | HookName::ChangePlan
        | HookName::Suspend
        | HookName::Resume
        | HookName::Usage
        | HookName::Dump
        | HookName::Restore
        | HookName::Health
        | HookName::Schedule
        | HookName::Upgrade
        | HookName::Before
        | HookName::After => None,
    }
}

/// The state after faults in a row that a policy does not put up with; `None` where the addon is not called anyway.
pub fn quarantined(state: &AddonState, hook: HookName) -> Option<AddonState> {
    state.is_enabled().then_some(AddonState::Failed(hook))
}

/// The state after a hook; `None` where the addon's state does not change.
pub fn after(hook: HookName, completed: bool) -> Option<AddonState> {
    match (hook, completed) {
        (HookName::Enable, true) => Some(AddonState::Enabled),
        (HookName::Disable, true) => Some(AddonState::Installed),
        (HookName::Enable | HookName::Disable, false) => Some(AddonState::Failed(hook)),
        (
            HookName::Provision
            | HookName::Unprovision
            | HookName::Url
            | HookName::ConfigVars
            | HookName::ChangePlan
            | HookName::Suspend
            | HookName::Resume
            | HookName::Usage
            | HookName::Dump
            | HookName::Restore
            | HookName::Health
            | HookName::Schedule
            | HookName::Upgrade
            | HookName::Before
            | HookName::After,
            _,
        ) => None,
    }
}

/// Whether a resource in this state may be asked this hook. Destroying it is possible at any time.
pub fn permits_on(resource: &ResourceState, hook: HookName) -> bool {
    use HookName::{ChangePlan, Provision, Resume, Suspend};
    use ResourceState::{Active, Failed, Interrupted, Provisioning, Suspended};
    match hook {
        HookName::Url | HookName::ConfigVars | HookName::Usage | HookName::Dump | HookName::Restore => {
            resource.gives_variables()
        }
        Provision => matches!(resource, Provisioning | Active | Failed(Provision) | Interrupted(Provision)),
        ChangePlan => matches!(resource, Active | Failed(ChangePlan) | Interrupted(ChangePlan)),
        Suspend | Resume => {
            matches!(resource, Active | Suspended | Failed(Suspend | Resume) | Interrupted(Suspend | Resume))
        }
        HookName::Enable
        | HookName::Disable
        | HookName::Unprovision
        | HookName::Health
        | HookName::Schedule
        | HookName::Upgrade
        | HookName::Before
        | HookName::After => true,
    }
}

/// The state of the resource while a hook runs; `None` where it does not change, or comes with the resource.
pub fn resource_during(hook: HookName) -> Option<ResourceState> {
    match hook {
        HookName::Unprovision => Some(ResourceState::Deprovisioning),
        HookName::ChangePlan => Some(ResourceState::Updating),
        HookName::Suspend => Some(ResourceState::Suspending),
        HookName::Resume => Some(ResourceState::Resuming),
        HookName::Enable
        | HookName::Disable
        | HookName::Provision
        | HookName::Url
        | HookName::ConfigVars
        | HookName::Usage
        | HookName::Dump
        | HookName::Restore
        | HookName::Health
        | HookName::Schedule
        | HookName::Upgrade
        | HookName::Before
        | HookName::After => None,
    }
}

/// The state of the resource after a hook of `plans` that was asked in the state `before`.
pub fn resource_after<T>(hook: HookName, before: ResourceState, outcome: &Outcome<T>) -> ResourceState {
    match outcome {
        Outcome::Completed(_) if hook == HookName::Suspend => ResourceState::Suspended,
        Outcome::Completed(_) => ResourceState::Active,
        // Its own refusal promises that nothing has changed.
        Outcome::Refused(refused) if refused.code != BAD_ANSWER => before,
        Outcome::Refused(_)
        | Outcome::Trapped { .. }
        | Outcome::DeadlineExceeded { .. }
        | Outcome::LimitExceeded { .. } => ResourceState::Failed(hook),
    }
}

impl AddonState {
    /// What a state found by whoever has just taken the lock really is: nothing is under way any more.
    pub fn settled(self) -> AddonState {
        match self {
            AddonState::Enabling => AddonState::Interrupted(HookName::Enable),
            AddonState::Disabling => AddonState::Interrupted(HookName::Disable),
            AddonState::Upgrading => AddonState::Interrupted(HookName::Upgrade),
            settled => settled,
        }
    }

    /// Not called any more since a hook has failed too often in a row. Other failures of an addon are of the hooks that lead
    /// out of them.
    pub fn is_quarantined(&self) -> bool {
        match self {
            AddonState::Failed(HookName::Enable | HookName::Disable | HookName::Upgrade) => false,
            AddonState::Failed(_) => true,
            _ => false,
        }
    }

    pub fn is_enabled(&self) -> bool {
        matches!(self, AddonState::Enabled | AddonState::Degraded)
    }

    /// Whether a slot that an addon in this state has claimed is its own. One that is found to be under way may have been
    /// cut off: it is as if it were, until somebody enables or disables it.
    pub fn holds_slots(&self) -> bool {
        self.is_enabled() || matches!(self, AddonState::Enabling | AddonState::Disabling | AddonState::Upgrading)
    }

    /// The command that leads on from here.
    pub fn way_on(&self, addon: &impl fmt::Display) -> String {
        match self {
            AddonState::Installed => format!("`lodger enable {addon}` first"),
            AddonState::Enabled | AddonState::Degraded => format!("`lodger disable {addon}` first"),
            AddonState::Enabling | AddonState::Disabling | AddonState::Upgrading => {
                "wait until it has ended".to_owned()
            }
            AddonState::Failed(HookName::Upgrade) | AddonState::Interrupted(HookName::Upgrade) => {
                format!("`lodger reconcile {addon}` takes it back to the version before")
            }
            state if state.is_quarantined() => format!("`lodger enable {addon}` lets it try again"),
            AddonState::Failed(hook) | AddonState::Interrupted(hook) => {
                format!("`lodger {hook} {addon}` again, or `lodger calls {addon}` to see why")
            }
        }
    }
}

impl ResourceState {
    /// Those that say something is under way.
    pub const UNDER_WAY: [ResourceState; 5] = [
        ResourceState::Provisioning,
        ResourceState::Updating,
        ResourceState::Suspending,
        ResourceState::Resuming,
        ResourceState::Deprovisioning,
    ];

    pub fn settled(self) -> ResourceState {
        match self {
            ResourceState::Provisioning => ResourceState::Interrupted(HookName::Provision),
            ResourceState::Updating => ResourceState::Interrupted(HookName::ChangePlan),
            ResourceState::Suspending => ResourceState::Interrupted(HookName::Suspend),
            ResourceState::Resuming => ResourceState::Interrupted(HookName::Resume),
            ResourceState::Deprovisioning => ResourceState::Interrupted(HookName::Unprovision),
            settled => settled,
        }
    }

    /// Whether the app receives its variables: from when the resource is made until it is destroyed, whatever happens to its
    /// plan meanwhile.
    pub fn gives_variables(&self) -> bool {
        use HookName::{ChangePlan, Resume, Suspend};
        match self {
            ResourceState::Active
            | ResourceState::Updating
            | ResourceState::Suspending
            | ResourceState::Suspended
            | ResourceState::Resuming => true,
            ResourceState::Failed(hook) | ResourceState::Interrupted(hook) => {
                matches!(hook, ChangePlan | Suspend | Resume)
            }
            ResourceState::Provisioning | ResourceState::Detached | ResourceState::Deprovisioning => false,
        }
    }
}

impl fmt::Display for AddonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddonState::Installed => f.write_str("installed"),
            AddonState::Enabling => f.write_str("enabling"),
            AddonState::Enabled => f.write_str("enabled"),
            AddonState::Degraded => f.write_str("degraded"),
            AddonState::Disabling => f.write_str("disabling"),
            AddonState::Upgrading => f.write_str("upgrading"),
            AddonState::Failed(hook) => write!(f, "failed{{{hook}}}"),
            AddonState::Interrupted(hook) => write!(f, "interrupted{{{hook}}}"),
        }
    }
}

impl fmt::Display for ResourceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResourceState::Provisioning => f.write_str("provisioning"),
            ResourceState::Active => f.write_str("active"),
            ResourceState::Updating => f.write_str("updating"),
            ResourceState::Suspending => f.write_str("suspending"),
            ResourceState::Suspended => f.write_str("suspended"),
            ResourceState::Resuming => f.write_str("resuming"),
            ResourceState::Detached => f.write_str("detached"),
            ResourceState::Deprovisioning => f.write_str("deprovisioning"),
            ResourceState::Failed(hook) => write!(f, "failed{{{hook}}}"),
            ResourceState::Interrupted(hook) => write!(f, "interrupted{{{hook}}}"),
        }
    }
}

/// The text in the store is none of our states.
#[derive(Debug, thiserror::Error)]
#[error("unknown state")]
pub struct UnknownState;

/// `failed{hook}` and `interrupted{hook}`.
fn with_hook<S>(text: &str, name: &str, make: fn(HookName) -> S) -> Option<S> {
    let hook = text.strip_prefix(name)?.strip_prefix('{')?.strip_suffix('}')?;
    HookName::from_name(hook).map(make)
}

impl FromStr for AddonState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Ok(match text {
            "installed" => AddonState::Installed,
            "enabling" => AddonState::Enabling,
            "enabled" => AddonState::Enabled,
            "degraded" => AddonState::Degraded,
            "disabling" => AddonState::Disabling,
            "upgrading" => AddonState::Upgrading,
            _ => with_hook(text, "failed", AddonState::Failed)
                .or_else(|| with_hook(text, "interrupted", AddonState::Interrupted))
                .ok_or(UnknownState)?,
        })
    }
}

impl FromStr for ResourceState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Ok(match text {
            "provisioning" => ResourceState::Provisioning,
            "active" => ResourceState::Active,
            "updating" => ResourceState::Updating,
            "suspending" => ResourceState::Suspending,
            "suspended" => ResourceState::Suspended,
            "resuming" => ResourceState::Resuming,
            "detached" => ResourceState::Detached,
            "deprovisioning" => ResourceState::Deprovisioning,
            _ => with_hook(text, "failed", ResourceState::Failed)
                .or_else(|| with_hook(text, "interrupted", ResourceState::Interrupted))
                .ok_or(UnknownState)?,
        })
    }
}

impl Serialize for AddonState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AddonState {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for ResourceState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResourceState {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_read_back_as_they_were_written() {
        let mut addon = vec![
            AddonState::Installed,
            AddonState::Enabling,
            AddonState::Enabled,
            AddonState::Degraded,
            AddonState::Disabling,
            AddonState::Upgrading,
        ];
        for hook in HookName::ALL {
            addon.extend([AddonState::Failed(hook), AddonState::Interrupted(hook)]);
            let resource = ResourceState::Failed(hook);
            assert_eq!(resource.to_string().parse::<ResourceState>().ok(), Some(resource));
        }
        for state in addon {
            assert_eq!(state.to_string().parse::<AddonState>().ok(), Some(state));
        }
        let resting = [ResourceState::Active, ResourceState::Suspended, ResourceState::Detached];
        for state in resting.into_iter().chain(ResourceState::UNDER_WAY) {
            assert_eq!(state.to_string().parse::<ResourceState>().ok(), Some(state));
        }
    }

    /// What is cut off is never lost from sight: every state under way becomes one that some hook leads out of.
    #[test]
    fn what_was_under_way_has_a_way_out() {
        for state in ResourceState::UNDER_WAY {
            let ResourceState::Interrupted(hook) = state.clone().settled() else { panic!("{state}") };
            assert!(permits_on(&state.clone().settled(), hook), "{state}");
            assert!(
                !matches!(hook, HookName::ChangePlan | HookName::Suspend | HookName::Resume) || state.gives_variables()
            );
        }
    }

    #[test]
    fn the_table_of_what_is_permitted_on_a_resource() {
        use HookName::{ChangePlan, Resume, Suspend};
        use ResourceState::{Active, Detached, Failed, Interrupted, Suspended};
        for (state, permitted) in [
            (Active, &[ChangePlan, Suspend, Resume][..]),
            (Suspended, &[Suspend, Resume]),
            (Failed(ChangePlan), &[ChangePlan]),
            (Interrupted(ChangePlan), &[ChangePlan]),
            (Interrupted(Suspend), &[Suspend, Resume]),
            (Failed(Resume), &[Suspend, Resume]),
            (Detached, &[]),
            (Failed(HookName::Provision), &[]),
            (Interrupted(HookName::Unprovision), &[]),
        ] {
            for hook in [ChangePlan, Suspend, Resume] {
                assert_eq!(permits_on(&state, hook), permitted.contains(&hook), "{state} {hook}");
            }
            for hook in [HookName::Url, HookName::Dump, HookName::Restore] {
                assert_eq!(permits_on(&state, hook), !permitted.is_empty(), "{state} {hook}");
            }
            assert!(permits_on(&state, HookName::Unprovision), "{state}");
        }
    }

    /// Design §7, line by line.
    #[test]
    fn the_table_of_what_is_permitted() {
        let enabled = [AddonState::Enabled, AddonState::Degraded];
        let stuck = [AddonState::Failed(HookName::Enable), AddonState::Interrupted(HookName::Disable)];
        for hook in HookName::ALL {
            for state in &enabled {
                let not_now = matches!(hook, HookName::Enable | HookName::Upgrade);
                assert_eq!(permits(state, hook), !not_now, "{state} {hook}");
            }
            for state in &stuck {
                let way_out = matches!(hook, HookName::Enable | HookName::Disable | HookName::Unprovision);
                assert_eq!(permits(state, hook), way_out, "{state} {hook}");
            }
            assert_eq!(permits(&AddonState::Installed, hook), hook == HookName::Enable, "{hook}");
            assert!(!permits(&AddonState::Enabling, hook) && !permits(&AddonState::Disabling, hook));
        }
    }
}
