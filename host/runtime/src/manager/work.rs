//! What installs and disables in the background: each installation by itself, so that none keeps another waiting.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::sleep;

use super::{Failure, Phase};
use crate::addons::Done;
use crate::answers::HookFailed;
use crate::error::{Error, Kind, Result};
use crate::host::{Host, acting_for};
use crate::lifecycle::AddonState;
use crate::store::InstallationRow;

/// How long to wait for an engine that does not answer, or an addon that is at work.
const AGAIN: Duration = Duration::from_secs(1);
/// How often is looked for what another process was asked.
const LOOK: Duration = Duration::from_secs(5);

/// Why a step was not done.
enum Stopped {
    Refused(Error),
    Hook(HookFailed),
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Stopped {
        Stopped::Refused(error)
    }
}

impl Host {
    /// Brings installations to where they should be, for ever. Those that a host which died has left are gone on with.
    pub async fn watch_installations(&self) {
        let mut at_work = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        loop {
            let news = self.installing.notified();
            match self.store.installations() {
                Ok(rows) => {
                    for row in rows {
                        let moves = matches!(row.phase, Phase::Installing | Phase::Disabling);
                        if moves && busy.insert(row.id.clone()) {
                            at_work.push(acting_for(row.asked_by.clone(), self.bring_on(row)));
                        }
                    }
                }
                Err(error) => tell(&error, "installations are not looked after"),
            }
            tokio::select! {
                Some(id) = at_work.next(), if !at_work.is_empty() => {
                    busy.remove(&id);
                }
                () = news => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Returns its id when it has come to an end, or may be tried again.
    async fn bring_on(&self, row: InstallationRow) -> String {
        let (done, to) = match row.phase {
            Phase::Disabling => (self.disable_installed(&row).await, Phase::Disabled),
            _ => (self.install_and_enable(&row).await, Phase::Installed),
        };
        let failure = done.err().map(failure);
        let waits = failure.as_ref().is_some_and(|failure| failure.waits);
        let to = match &failure {
            Some(_) if waits => row.phase,
            Some(_) => Phase::Failed,
            None => to,
        };
        if failure.is_none() || failure != row.failure {
            let (addon, why) = (&row.addon, failure.as_ref().map(|failure| &failure.message));
            tracing::info!(installation = row.id, %addon, why, "{}", to.name());
            if let Err(error) = self.store.move_installation(&row.id, row.phase, to, failure.as_ref()) {
                tell(&error, "how an installation has come on is not noted");
                sleep(AGAIN).await;
            }
        }
        if waits {
            sleep(AGAIN).await;
        }
        row.id
    }

    async fn install_and_enable(&self, row: &InstallationRow) -> Result<(), Stopped> {
        let there = self.store.addon(&row.addon)?;
        if there.as_ref().is_none_or(|there| there.digest != row.digest) {
            let (_, review, incoming) = self.approved(&row.entry).await?;
            if incoming.grant.digest != row.grant_digest {
                // The policy has changed since it was accepted.
                return Err(Error::GrantNotAccepted.into());
            }
            self.install_with(incoming, false, Some(&review.images)).await?;
        } else if there.is_some_and(|there| there.state.is_enabled()) {
            self.retry_services(&row.addon).await?;
            self.reconcile(Some(&row.addon)).await?;
            return Ok(());
        }
        let step = self.enable_with_needs(&row.addon, |_| ()).await?;
        completed(step.done, &step.addon)
    }

    async fn disable_installed(&self, row: &InstallationRow) -> Result<(), Stopped> {
        match self.store.addon(&row.addon)? {
            Some(there) if there.state != AddonState::Installed => {
                completed(self.disable(&row.addon, false).await?, &row.addon)
            }
            _ => Ok(()),
        }
    }
}

fn completed(done: Done<()>, addon: &crate::id::AddonId) -> Result<(), Stopped> {
    done.completed(addon).map_err(Stopped::Hook)
}

fn failure(stopped: Stopped) -> Failure {
    match stopped {
        Stopped::Hook(HookFailed { code, message, hint, .. }) => {
            Failure { code: code.to_owned(), message, hint, service: None, log: None, waits: false }
        }
        Stopped::Refused(error) => {
            let (service, log) = match &error {
                Error::ServiceNotReady { service, log, .. } => (Some(service.clone()), Some(log.clone())),
                Error::Service { service, .. } | Error::PortTaken { service, .. } => (Some(service.clone()), None),
                _ => (None, None),
            };
            Failure {
                code: error.code().to_owned(),
                message: error.to_string(),
                hint: error.hint(),
                service,
                log,
                waits: error.is_unreachable() || error.kind() == Kind::Busy,
            }
        }
    }
}

fn tell(error: &Error, what: &str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}
