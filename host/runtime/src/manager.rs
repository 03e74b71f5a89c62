//! The addons manager: entries of the marketplace, installed and enabled here, in the background.
//!
//! ```text
//!            ╭──────────── try again ────────────╮
//!            ↓                                   │
//! asked ─→ installing ──→ installed ──→ disabling ──→ disabled ──→ gone
//!            │                             ↑  │
//!            ╰──→ failed ──────────────────╯  ╰──→ failed
//! ```
//!
//! What is noted here is how far that has come, and nothing else: how the addon is, its own state tells, as the reconciler
//! sees it, so that no status can be behind. Only what is approved is installed, with the very package and images that were
//! approved and with a grant that somebody has accepted. Where an engine does not answer, it waits; a host that died goes on.

mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::addons::AddonInfo;
use crate::compiler::hex;
use crate::error::{Error, Result};
use crate::grant::Grant;
use crate::host::{Host, now_ms};
use crate::id::{AddonId, Id};
use crate::key::random;
use crate::lifecycle::{AddonState, UnknownState};
use crate::manifest::Manifest;
use crate::market::told;
use crate::store::{InTheWay, InstallationRow, Wanted};

/// Hex digits of an id are twice as many.
const ID_BYTES: usize = 12;

/// How far an installation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Installing,
    Installed,
    Failed,
    Disabling,
    Disabled,
}

/// Why it came to a stop, or what it waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// As [`Error::code`] and outcomes name it.
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
    /// The service it is about, and the end of what that wrote.
    pub service: Option<Id>,
    pub log: Option<String>,
    /// It is tried again by itself.
    pub waits: bool,
}

/// How an installation is: Oakestra's six.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Installing,
    Active,
    /// Some of its services do not serve.
    PartiallyActive,
    Failed,
    Disabling,
    Disabled,
}

/// An entry of the marketplace that is installed here, or was to be.
#[derive(Clone, Debug)]
pub struct Installation {
    /// 24 hex digits.
    pub id: String,
    /// In the marketplace, where it may have been deleted since.
    pub entry: String,
    pub addon: AddonId,
    pub version: semver::Version,
    pub digest: String,
    pub grant: String,
    /// Its `addon.json`, without values that look like secrets.
    pub manifest: Map<String, Value>,
    pub standing: Standing,
    pub failure: Option<Failure>,
    /// Services that do not serve, with the end of what each wrote.
    pub failed_services: BTreeMap<Id, String>,
    /// Seconds since 1970.
    pub asked_at: i64,
}

impl Host {
    /// Asks for an approved entry to be installed and enabled, which somebody who runs [`Host::watch_installations`] does.
    /// `accepts` says whether its grant is accepted; `by` who asks.
    ///
    /// # Errors
    /// [`Error::UnknownEntry`], [`Error::NotApproved`], [`Error::InstalledAlready`], and what [`Host::install`] refuses. Where
    /// the grant is not accepted, it is in the `Err` within.
    pub async fn ask_to_install(
        &self,
        entry: &str,
        accepts: impl FnOnce(&Grant) -> bool,
        by: &str,
    ) -> Result<std::result::Result<Installation, Box<Grant>>> {
        if self.store.installation_of(entry)?.is_some() {
            return Err(Error::InstalledAlready { entry: entry.to_owned() });
        }
        let (row, _, incoming) = self.approved(entry).await?;
        let would = self.would_install(std::slice::from_ref(&incoming), false).await?;
        if would.contains(&true) && !accepts(&incoming.grant) {
            return Ok(Err(Box::new(incoming.grant)));
        }
        let installation = InstallationRow {
            id: hex(&random::<ID_BYTES>()?),
            entry: row.id,
            addon: row.addon,
            version: row.version,
            digest: row.digest,
            grant_digest: incoming.grant.digest,
            manifest: row.manifest,
            phase: Phase::Installing,
            failure: None,
            asked_by: by.to_owned(),
            asked_at: now_ms() / 1000,
        };
        match self.store.put_installation(&installation)? {
            Ok(()) => {}
            Err(InTheWay::Entry) => return Err(Error::InstalledAlready { entry: installation.entry }),
            Err(InTheWay::Addon(other)) => {
                return Err(Error::OtherVersion { addon: other.addon, installed: other.version.to_string() });
            }
        }
        self.installing.notify_one();
        self.standing_of(installation).map(Ok)
    }

    pub fn installations(&self) -> Result<Vec<Installation>> {
        self.store.installations()?.into_iter().map(|row| self.standing_of(row)).collect()
    }

    /// # Errors
    /// [`Error::UnknownInstallation`].
    pub fn installation(&self, id: &str) -> Result<Installation> {
        self.standing_of(self.installation_row(id)?)
    }

    fn installation_row(&self, id: &str) -> Result<InstallationRow> {
        self.store.installation(id)?.ok_or_else(|| Error::UnknownInstallation(id.to_owned()))
    }

    /// Asks for it to be made so: only `Installing`, of what does not serve as it should, and `Disabling` are anybody's to ask
    /// for. What is so already stays.
    ///
    /// # Errors
    /// [`Error::UnknownInstallation`], [`Error::Transition`]; what keeps an addon from being disabled, such as apps that use it.
    pub async fn ask_to_be(&self, id: &str, wanted: Standing) -> Result<Installation> {
        let row = self.installation_row(id)?;
        let (phase, now) = (row.phase, self.standing_of(row)?);
        if now.standing == wanted {
            return Ok(now);
        }
        let to = match (now.standing, wanted) {
            (Standing::Disabled | Standing::Failed | Standing::PartiallyActive, Standing::Installing) => {
                Phase::Installing
            }
            (
                Standing::Installing | Standing::Active | Standing::PartiallyActive | Standing::Failed,
                Standing::Disabling,
            ) => {
                self.check_disabling(&now).await?;
                Phase::Disabling
            }
            _ => {
                let (from, to) = (now.standing.name(), wanted.name());
                return Err(Error::Transition { id: now.id, from, to });
            }
        };
        if !self.store.move_installation(id, phase, to, None)? {
            return Err(Error::Busy { addon: now.addon });
        }
        self.installing.notify_one();
        self.installation(id)
    }

    /// What is being installed has not come to where apps could use it.
    async fn check_disabling(&self, now: &Installation) -> Result<()> {
        if now.standing == Standing::Installing {
            return Ok(());
        }
        match self.would_disable(&now.addon, false).await {
            Ok(_) | Err(Error::UnknownAddon(_) | Error::GrantRevoked { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Oakestra's removal in two steps: what is not disabled is asked to be, and what is, is uninstalled with its data and
    /// forgotten. `None` in that case.
    ///
    /// # Errors
    /// As for [`Host::ask_to_be`] and [`Host::uninstall`].
    pub async fn remove_installation(&self, id: &str) -> Result<Option<Installation>> {
        let row = self.installation_row(id)?;
        let now = self.standing_of(row.clone())?;
        if now.standing == Standing::Disabling {
            return Ok(Some(now));
        }
        if now.standing != Standing::Disabled {
            return self.ask_to_be(id, Standing::Disabling).await.map(Some);
        }
        match self.uninstall(&row.addon, false).await {
            Ok(_) | Err(Error::UnknownAddon(_)) => {}
            Err(error) => return Err(error),
        }
        if self.store.delete_installation(id, row.phase)? { Ok(None) } else { Err(Error::Busy { addon: row.addon }) }
    }

    fn standing_of(&self, row: InstallationRow) -> Result<Installation> {
        let addon = match self.addon(&row.addon) {
            Err(Error::UnknownAddon(_)) => None,
            addon => Some(addon?),
        };
        let (failed_services, all) = self.failed_services(&row, addon.as_ref())?;
        let standing = standing(row.phase, addon.as_ref().map(|addon| &addon.state), all);
        let InstallationRow { id, entry, addon, version, digest, grant_digest, failure, asked_at, .. } = row;
        let failure = failure.filter(|_| matches!(row.phase, Phase::Failed | Phase::Installing | Phase::Disabling));
        let (grant, manifest) = (grant_digest, told(&row.manifest));
        let failed_services = if matches!(standing, Standing::Failed | Standing::PartiallyActive) {
            failed_services
        } else {
            BTreeMap::new()
        };
        Ok(Installation {
            id,
            entry,
            addon,
            version,
            digest,
            grant,
            manifest,
            standing,
            failure,
            failed_services,
            asked_at,
        })
    }

    /// What of its services does not serve, by their own names, and whether those are all.
    fn failed_services(
        &self,
        row: &InstallationRow,
        addon: Option<&AddonInfo>,
    ) -> Result<(BTreeMap<Id, String>, bool)> {
        let mut failed = BTreeMap::new();
        if addon.is_some() {
            for instance in self.store.instances(&row.addon)? {
                if instance.wanted == Wanted::Running && (instance.failures > 0 || instance.disk_bytes.is_some()) {
                    failed.insert(instance.instance.service, instance.log.unwrap_or_default());
                }
            }
        }
        let failure = row.failure.as_ref().filter(|_| row.phase == Phase::Failed);
        if let Some(Failure { service: Some(service), log, .. }) = failure {
            failed.entry(service.clone()).or_insert_with(|| log.clone().unwrap_or_default());
        }
        let declared: BTreeSet<Id> = match Manifest::parse(row.manifest.as_bytes()) {
            Ok(manifest) => manifest.services.into_iter().map(|service| service.name).collect(),
            Err(_) => BTreeSet::new(),
        };
        let all = !declared.is_empty() && declared.iter().all(|service| failed.contains_key(service));
        Ok((failed, all))
    }
}

/// How an installation is. Once it was brought to where it should be, the addon says how that is; whoever disables it by other
/// means has disabled it.
fn standing(phase: Phase, addon: Option<&AddonState>, all_services_failed: bool) -> Standing {
    match (phase, addon) {
        (Phase::Installing, _) => Standing::Installing,
        (Phase::Disabling, _) => Standing::Disabling,
        (Phase::Failed, None) => Standing::Failed,
        (Phase::Failed, Some(AddonState::Installed)) => Standing::Failed,
        (Phase::Installed, None) => Standing::Failed,
        (Phase::Disabled, None) => Standing::Disabled,
        (_, Some(AddonState::Installed)) => Standing::Disabled,
        (_, Some(AddonState::Enabling)) => Standing::Installing,
        (_, Some(AddonState::Disabling)) => Standing::Disabling,
        (_, Some(AddonState::Enabled | AddonState::Upgrading)) => Standing::Active,
        (_, Some(AddonState::Degraded)) if all_services_failed => Standing::Failed,
        (_, Some(AddonState::Degraded)) => Standing::PartiallyActive,
        (_, Some(AddonState::Failed(_) | AddonState::Interrupted(_))) => Standing::Failed,
    }
}

impl Phase {
    const ALL: [Phase; 5] = [Phase::Installing, Phase::Installed, Phase::Failed, Phase::Disabling, Phase::Disabled];

    pub const fn name(self) -> &'static str {
        match self {
            Phase::Installing => "installing",
            Phase::Installed => "installed",
            Phase::Failed => "failed",
            Phase::Disabling => "disabling",
            Phase::Disabled => "disabled",
        }
    }
}

impl FromStr for Phase {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Phase, UnknownState> {
        Phase::ALL.into_iter().find(|phase| phase.name() == text).ok_or(UnknownState)
    }
}

impl Standing {
    pub const ALL: [Standing; 6] = [
        Standing::Installing,
        Standing::Disabling,
        Standing::Disabled,
        Standing::Failed,
        Standing::Active,
        Standing::PartiallyActive,
    ];

    /// Oakestra's word.
    pub const fn name(self) -> &'static str {
        match self {
            Standing::Installing => "installing",
            Standing::Active => "active",
            Standing::PartiallyActive => "partially_active",
            Standing::Failed => "failed",
            Standing::Disabling => "disabling",
            Standing::Disabled => "disabled",
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
