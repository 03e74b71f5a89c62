//! What whoever runs a host wants to know of it, and the end of its work.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Host;
use crate::error::{Error, Result};
use crate::id::AddonId;
use crate::limits::Limit;

/// How long an engine may take to say that it is there.
const ENGINE_ANSWERS: Duration = Duration::from_secs(3);

/// Whether a host can do its work.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Readiness {
    pub ready: bool,
    /// The store answers.
    pub store: bool,
    /// Something can be written in the home.
    pub home: bool,
    /// Those that have services of this home, and whether they answer.
    pub engines: BTreeMap<String, bool>,
}

/// What an addon has in its data directory, as last counted, and may have.
#[derive(Clone, Debug)]
pub struct DataUse {
    pub addon: AddonId,
    pub bytes: u64,
    pub max_bytes: u64,
}

impl Host {
    pub async fn readiness(&self) -> Readiness {
        let store = self.store.meta("identity").is_ok();
        let home = self.writable().is_ok() && tempfile::tempfile_in(self.home.cache()).is_ok();
        let engines = self.engines_up().await.unwrap_or_default();
        Readiness { ready: store && home && engines.values().all(|up| *up), store, home, engines }
    }

    /// Which of the engines that have services of this home answer.
    pub async fn engines_up(&self) -> Result<BTreeMap<String, bool>> {
        match tokio::time::timeout(ENGINE_ANSWERS, self.services.about()).await {
            Ok(about) => Ok(about?.into_iter().map(|(name, about)| (name, about.is_ok())).collect()),
            // One is silent, and keeps it from being known of the others.
            Err(_) => Ok(self.store.engines()?.into_iter().map(|name| (name, false)).collect()),
        }
    }

    /// How many instances of services are in which state.
    pub async fn service_states(&self) -> Result<BTreeMap<&'static str, u64>> {
        self.services.states().await
    }

    /// What addons have in their data directories. One whose grant the policy admits no more is left out.
    pub async fn data_use(&self) -> Result<Vec<DataUse>> {
        let mut uses = Vec::new();
        for row in self.store.addons()? {
            match self.registry.get(self, &row.id).await {
                Ok((addon, now)) => {
                    let max_bytes = addon.grant.limits[Limit::DataBytes];
                    uses.push(DataUse { addon: row.id, bytes: now.data.bytes, max_bytes });
                }
                Err(Error::GrantRevoked { .. } | Error::UnknownAddon(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(uses)
    }

    /// Waits until no call is in flight. Calls that begin meanwhile are waited for as well.
    pub async fn at_rest(&self) {
        // It is never closed: that this fails cannot be.
        drop(self.in_flight.acquire_many(self.calls_max).await);
    }
}
