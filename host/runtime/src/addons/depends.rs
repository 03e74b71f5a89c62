//! What addons need of each other: in which order they are installed and enabled, and what keeps one from being disabled.
//!
//! Who needs whom is in the manifests and nowhere else. A verb holds the lock of one addon at a time, so what it finds of
//! another may change under its eyes. The order of things keeps both right: `enable` notes that the addon is `enabling`
//! before it looks whether what it needs is enabled; `disable` notes `disabling` before it looks who needs it. Of two at
//! once at least one sees the other, and gives up.

use std::collections::BTreeMap;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::addons::Incoming;
use crate::addons::order::{Direction, Order, Step};
use crate::error::{Error, Result};
use crate::host::{Host, Locked};
use crate::id::AddonId;
use crate::lifecycle::AddonState;
use crate::manifest::{Dependency, Manifest};
use crate::store::AddonRow;

/// What an addon needs, as `info` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Need {
    pub addon: AddonId,
    /// Which versions will do; absent: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The version that is there.
    pub installed: Option<String>,
    pub state: Option<AddonState>,
}

impl Host {
    /// Packages that are to be installed together, whatever is needed first; only one of those that are the same.
    ///
    /// # Errors
    /// [`Error::DependencyMissing`], [`Error::DependencyVersion`] and [`Error::DependencyCycle`], with the chain that leads
    /// there; [`Error::GivenTwice`].
    pub fn in_order(&self, incoming: Vec<Incoming>) -> Result<Vec<Incoming>> {
        let asked: Vec<AddonId> = incoming.iter().map(|incoming| incoming.package.manifest.id.clone()).collect();
        let order = self.needs(&asked, &incoming)?;
        let mut given: BTreeMap<AddonId, Incoming> = BTreeMap::new();
        for incoming in incoming {
            let digest = incoming.package.digest.clone();
            if let Some(other) = given.insert(incoming.package.manifest.id.clone(), incoming)
                && other.package.digest != digest
            {
                return Err(Error::GivenTwice { addon: other.package.manifest.id });
            }
        }
        Ok(order.addons.iter().filter_map(|id| given.remove(id)).collect())
    }

    /// Packages that are to be installed together, whatever is needed first. Each is there once.
    ///
    /// # Errors
    /// As for [`Host::in_order`].
    pub(crate) fn order_of(&self, incoming: &[Incoming]) -> Result<Vec<AddonId>> {
        let asked: Vec<AddonId> = incoming.iter().map(|incoming| incoming.package.manifest.id.clone()).collect();
        Ok(self.needs(&asked, incoming)?.addons)
    }

    /// Whether a package may be installed: what it needs is there or `given` with it, and where it takes the place of an
    /// installed one, that may go on as it is.
    pub(crate) fn check_install_needs(&self, row: &AddonRow, manifest: &Manifest, given: &[Incoming]) -> Result<()> {
        let id = &manifest.id;
        self.needs(std::slice::from_ref(id), given)?;
        let Some(there) = self.store.addon(id)? else { return Ok(()) };
        if there.state != AddonState::Installed {
            for need in &manifest.depends {
                check_enabled(id, need, self.store.addon(&need.id)?.map(|row| row.state))?;
            }
        }
        for (other, needs) in self.all_needs()? {
            if let Some(need) = needs.iter().find(|need| need.id == *id) {
                check_version(need, &row.version, || vec![other.id.clone(), id.clone()])?;
            }
        }
        Ok(())
    }

    /// Enables an addon, and before it all it needs that is not enabled, each as [`Host::enable`] does. `tell` is called
    /// after each but the last, which is returned: the addon itself or, with an outcome that is not completed, one it needs.
    /// Then the addon was not entered.
    ///
    /// # Errors
    /// Those of [`Host::enable`]; of one that it needs as [`Error::Dependency`]. One that it needs and that is quarantined is
    /// not let try again by this.
    pub async fn enable_with_needs(&self, id: &AddonId, mut tell: impl FnMut(&Step)) -> Result<Step> {
        let order = self.needs(std::slice::from_ref(id), &[])?;
        for addon in order.before_last() {
            if self.is_enabled(addon)? {
                continue;
            }
            self.check_unquarantined(addon).map_err(|error| order.error(addon, error))?;
            let step = order.step(addon, self.enable(addon).await)?;
            if !step.done.outcome.is_completed() {
                return Ok(step);
            }
            tell(&step);
        }
        order.step(id, self.enable(id).await)
    }

    /// The addons that [`Host::enable_with_needs`] would enable, in order; does nothing.
    pub async fn would_enable_with_needs(&self, id: &AddonId) -> Result<Vec<AddonId>> {
        let order = self.needs(std::slice::from_ref(id), &[])?;
        let mut would = Vec::new();
        for addon in &order.addons {
            if !self.is_enabled(addon)? {
                if addon != id {
                    self.check_unquarantined(addon).map_err(|error| order.error(addon, error))?;
                }
                let could = async {
                    self.ask_enabling(addon).await?;
                    self.could_claim_slot(&self.lock(addon).await?)
                };
                could.await.map_err(|error| order.error(addon, error))?;
                would.push(addon.clone());
            }
        }
        Ok(would)
    }

    /// Disables an addon, and before it all that need it and are not disabled, each as [`Host::disable`] does with `force`.
    /// `tell` is called after each but the last, which is returned: the addon itself or, with an outcome that is not
    /// completed, one that needs it. Then the addon was not entered.
    ///
    /// # Errors
    /// Those of [`Host::disable`]; of one that needs it as [`Error::Dependency`]. None is disabled where it can be told
    /// beforehand that one cannot be.
    pub async fn disable_with_dependents(&self, id: &AddonId, mut tell: impl FnMut(&Step)) -> Result<Step> {
        self.would_disable_with_dependents(id).await?;
        let order = self.dependents(id)?;
        for addon in order.before_last() {
            let step = order.step(addon, self.disable(addon, true).await)?;
            if !step.done.outcome.is_completed() {
                return Ok(step);
            }
            if step.done.changed {
                tell(&step);
            }
        }
        order.step(id, self.disable(id, true).await)
    }

    /// The addons that [`Host::disable_with_dependents`] would disable, in order; does nothing.
    pub async fn would_disable_with_dependents(&self, id: &AddonId) -> Result<Vec<AddonId>> {
        let order = self.dependents(id)?;
        let mut would = Vec::new();
        for addon in &order.addons {
            let could = async { self.could_disable(&self.lock(addon).await?, true) };
            if could.await.map_err(|error| order.error(addon, error))? {
                would.push(addon.clone());
            }
        }
        Ok(would)
    }

    /// What an addon needs.
    pub fn needs_of(&self, id: &AddonId) -> Result<Vec<Need>> {
        let row = self.store.addon(id)?.ok_or_else(|| Error::UnknownAddon(id.to_string()))?;
        let mut needs = Vec::new();
        for need in self.read_needs(&row) {
            let there = self.store.addon(&need.id)?.map(|row| self.info(row)).transpose()?;
            needs.push(Need {
                addon: need.id,
                version: need.version.map(|version| version.to_string()),
                installed: there.as_ref().map(|there| there.version.clone()),
                state: there.map(|there| there.state),
            });
        }
        Ok(needs)
    }

    /// The installed addons that name this one among what they need.
    pub fn needed_by(&self, id: &AddonId) -> Result<Vec<AddonId>> {
        let mut all = self.all_needs()?;
        all.retain(|(_, needs)| needs.iter().any(|need| need.id == *id));
        Ok(all.into_iter().map(|(row, _)| row.id).collect())
    }

    /// Whether all that an addon needs is enabled, in a version that will do.
    pub(crate) fn check_needs(&self, manifest: &Manifest) -> Result<()> {
        for need in &manifest.depends {
            let chain = || vec![manifest.id.clone(), need.id.clone()];
            let row = self.store.addon(&need.id)?.ok_or_else(|| Error::DependencyMissing { chain: chain() })?;
            check_version(need, &row.version, chain)?;
            check_enabled(&manifest.id, need, Some(row.state))?;
        }
        Ok(())
    }

    /// Whether nobody that needs the addon is enabled, or was cut off on the way there or back.
    pub(super) fn check_unneeded(&self, id: &AddonId) -> Result<()> {
        let mut by = Vec::new();
        for addon in self.dependents(id)?.before_last() {
            if self.store.addon(addon)?.is_some_and(|row| row.state != AddonState::Installed) {
                by.push(addon.clone());
            }
        }
        if by.is_empty() { Ok(()) } else { Err(Error::Needed { addon: id.clone(), by, verb: "disable" }) }
    }

    /// Whether nobody that needs the addon is installed.
    pub(super) fn check_never_needed(&self, id: &AddonId) -> Result<()> {
        let by = self.dependents(id)?.before_last().to_vec();
        if by.is_empty() { Ok(()) } else { Err(Error::Needed { addon: id.clone(), by, verb: "uninstall" }) }
    }

    /// Notes that what a state says is under way was not begun after all: no guest was entered.
    pub(super) fn not_begun(&self, locked: &Locked, begun: &AddonState) -> Result<()> {
        match self.store.revision_to_change(&locked.addon.name)? {
            Some(now) if now.state == *begun && !now.running => {
                self.store.set_addon_state(&locked.addon.id, &locked.state)
            }
            _ => Ok(()),
        }
    }

    fn check_unquarantined(&self, id: &AddonId) -> Result<()> {
        let Some(row) = self.store.addon(id)? else { return Ok(()) };
        self.quarantined(id, &row.state)?.map_or(Ok(()), Err)
    }

    fn is_enabled(&self, id: &AddonId) -> Result<bool> {
        Ok(self.store.addon(id)?.is_some_and(|row| row.state.is_enabled()))
    }

    /// Those asked for and all they need, whatever is needed first.
    fn needs(&self, asked: &[AddonId], given: &[Incoming]) -> Result<Order> {
        let given = given.iter().map(|incoming| &incoming.package.manifest);
        let given: BTreeMap<&AddonId, &Manifest> = given.map(|manifest| (&manifest.id, manifest)).collect();
        let version = |id: &AddonId| match given.get(id) {
            Some(manifest) => Ok(Some(manifest.version_or_first())),
            None => Ok::<_, Error>(self.store.addon(id)?.map(|row| row.version)),
        };
        Order::walk(Direction::ToNeeded, asked, |path| {
            let Some(id) = path.last() else { return Ok(Vec::new()) };
            let needs = match given.get(id) {
                Some(manifest) => manifest.depends.clone(),
                None => self.store.addon(id)?.map(|row| self.read_needs(&row)).unwrap_or_default(),
            };
            for need in &needs {
                let chain = |from: usize| path.iter().skip(from).chain([&need.id]).cloned().collect();
                if let Some(place) = path.iter().position(|id| *id == need.id) {
                    return Err(Error::DependencyCycle { chain: chain(place) });
                }
                let version = version(&need.id)?.ok_or_else(|| Error::DependencyMissing { chain: chain(0) })?;
                check_version(need, &version, || chain(0))?;
            }
            Ok(needs.into_iter().map(|need| need.id).collect())
        })
    }

    /// The addon, and before it all that need it, whoever is needed by none of the others first.
    fn dependents(&self, id: &AddonId) -> Result<Order> {
        let mut by: BTreeMap<AddonId, Vec<AddonId>> = BTreeMap::new();
        for (row, needs) in self.all_needs()? {
            needs.into_iter().for_each(|need| by.entry(need.id).or_default().push(row.id.clone()));
        }
        Order::walk(Direction::ToNeeding, std::slice::from_ref(id), |path| {
            Ok(path.last().and_then(|id| by.get(id)).cloned().unwrap_or_default())
        })
    }

    fn all_needs(&self) -> Result<Vec<(AddonRow, Vec<Dependency>)>> {
        let with_needs = |row: AddonRow| {
            let needs = self.read_needs(&row);
            (row, needs)
        };
        Ok(self.store.addons()?.into_iter().map(with_needs).collect())
    }

    /// One whose manifest cannot be read stands in nobody's way: it cannot be called either, and `doctor` says why.
    pub(super) fn read_needs(&self, row: &AddonRow) -> Vec<Dependency> {
        let manifest = self.home.read_manifest(&row.id, &row.version).and_then(|bytes| Manifest::parse(&bytes));
        manifest.map(|manifest| manifest.depends).unwrap_or_default()
    }
}

fn check_version(need: &Dependency, version: &Version, chain: impl Fn() -> Vec<AddonId>) -> Result<()> {
    match &need.version {
        Some(wanted) if !wanted.matches(version) => {
            Err(Error::DependencyVersion { chain: chain(), wanted: wanted.clone(), version: version.clone() })
        }
        _ => Ok(()),
    }
}

fn check_enabled(addon: &AddonId, need: &Dependency, state: Option<AddonState>) -> Result<()> {
    let (addon, needed) = (addon.clone(), need.id.clone());
    let (state, hint) = match state.map(AddonState::settled) {
        Some(state) if state.is_enabled() => return Ok(()),
        Some(state) => (state.to_string(), format!("`lodger enable {needed}` first")),
        None => ("not installed".to_owned(), format!("install and enable `{needed}` first")),
    };
    Err(Error::DependencyNotEnabled { addon, needed, state, hint })
}
