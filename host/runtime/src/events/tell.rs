//! How those who listen are told: by whoever has raised an event, after the verb, under the lock of each listener; what is left
//! over by [`Host::reconcile`]. A round goes no further than to the event that was the newest when it began, so that what it
//! may cause itself comes in the next one.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::hook::{HookName, HookRequest};
use crate::host::{Host, Locked};
use crate::id::AddonId;
use crate::repair::CUT_OFF_MAX;

/// How long a listener that is at work is waited for.
const WAIT: Duration = Duration::from_secs(1);

impl Host {
    /// Tells those who listen what they have not heard of yet, as far as this host has raised any since: for whoever has
    /// carried out a verb and answered it. No further event is begun after `within`.
    pub async fn tell_raised_events(&self, within: Duration) -> Result<()> {
        if self.store.has_raised() { self.tell_events(None, within).await } else { Ok(()) }
    }

    /// Tells those who listen, or one of them, what they have not heard of yet. One that is at work is left to whoever comes
    /// next; what fails is told again by a later round, and left out after some.
    ///
    /// # Errors
    /// Only of the store: what a listener answers is in the record of calls, and what is left out [`Host::doctor`] tells.
    pub async fn tell_events(&self, only: Option<&AddonId>, within: Duration) -> Result<()> {
        if self.policy.events.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + within;
        let last = self.store.last_event()?;
        for listener in self.registry.listeners(self)?.iter() {
            let id = &listener.addon;
            if only.is_some_and(|only| only != id) || self.store.next_event(id, last)?.is_none() {
                continue;
            }
            match self.lock_within(id, WAIT).await {
                Ok(mut locked) => self.tell_listener(&mut locked, last, until).await?,
                Err(error @ Error::Store { .. }) => return Err(error),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%id, error, "a listener is told of events later");
                }
            }
        }
        Ok(())
    }

    async fn tell_listener(&self, locked: &mut Locked, last: i64, until: Instant) -> Result<()> {
        let id = &locked.addon.id.clone();
        // Loading the addon counts for nothing: each is told something.
        let mut first = true;
        while locked.state.is_enabled() && (std::mem::take(&mut first) || Instant::now() < until) {
            let Some(event) = self.store.next_event(id, last)? else { break };
            let after = HookName::After.name();
            if self.store.cut_off_in_a_row(id, after, Some(&event.id), CUT_OFF_MAX)? >= CUT_OFF_MAX {
                self.store.leave_out(id, event.sequence)?;
                continue;
            }
            match self.call_locked(locked, HookRequest::After(event), None).await {
                Ok(call) if call.outcome.is_completed() || call.failed_open => {}
                // It is told again later, and nothing before that; or it was left out, or quarantined.
                Ok(_) => self.look_again(locked).await?,
                Err(error @ Error::Store { .. }) => return Err(error),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%id, error, "a listener is told of events later");
                    break;
                }
            }
        }
        Ok(())
    }
}
