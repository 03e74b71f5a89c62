//! Installing and uninstalling. Everything expensive or refusable happens here, never in a call.

use std::collections::BTreeMap;
use std::path::Path;

use crate::addons::Done;
use crate::compiler;
use crate::error::{Error, Result};
use crate::event::{ADDON_INSTALLED, ADDON_UNINSTALLED};
use crate::grant::{Facts, Grant};
use crate::host::{Host, now_ms};
use crate::id::{AddonId, Id};
use crate::key::random;
use crate::lifecycle::{AddonState, ResourceState};
use crate::package::Package;
use crate::registry;
use crate::sandbox::ProgressEvent;
use crate::services::Repair;
use crate::store::{AddonRow, ResourceRow, Wanted};
use crate::text::shown;
use crate::tree::Size;

/// A package that could be installed: read, compiled, linked, and granted. Shown to people before it is.
#[derive(Debug)]
pub struct Incoming {
    pub package: Package,
    pub grant: Grant,
}

/// What [`Host::install`] has done.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Installed {
    pub id: AddonId,
    pub version: String,
    pub digest: String,
    pub grant: String,
    /// False when the same package with the same grant was there already.
    pub changed: bool,
}

impl Host {
    /// Reads a package, compiles its component and decides its grant. Nothing is installed.
    ///
    /// # Errors
    /// Everything that can be wrong with a package.
    pub async fn inspect(&self, path: &Path) -> Result<Incoming> {
        self.inspect_package(Package::read(path, &self.policy.package)?).await
    }

    /// The same for an archive made by [`pack`](crate::pack), in memory.
    pub async fn inspect_archive(&self, packed: &[u8]) -> Result<Incoming> {
        self.inspect_package(Package::unpack("archive", packed, &self.policy.package)?).await
    }

    /// The same for a package that was read already.
    pub async fn inspect_package(&self, package: Package) -> Result<Incoming> {
        let mut facts = Facts::of(&package.manifest);
        let refused = |refusals| Error::GrantRefused { refusals };
        // What the policy does not admit is told before the component is compiled, which takes its time.
        Grant::decide(&package.manifest, &self.policy, &facts, &self.offers()).map_err(refused)?;
        if let (Some(name), Some(wasm)) = (&package.manifest.component, &package.component) {
            let digest = compiler::digest(wasm);
            let wasm = || {
                self.tell(|| ProgressEvent::Step(format!("compiling {}", shown(name, 80))));
                Ok(wasm.clone())
            };
            let component = self.compiler.load(&self.sandbox.engine, &self.home.key, name, &digest, wasm).await?;
            facts = registry::link(self, name, &component)?.facts;
        }
        let grant = Grant::decide(&package.manifest, &self.policy, &facts, &self.offers()).map_err(refused)?;
        Ok(Incoming { package, grant })
    }

    /// Installs what was inspected; the caller has accepted its grant. `dev` lets the same version come with other content.
    ///
    /// # Errors
    /// [`Error::DigestChanged`], [`Error::OtherVersion`], and what [`Host::in_order`] refuses; with nothing changed.
    pub async fn install(&self, incoming: Incoming, dev: bool) -> Result<Installed> {
        self.install_with(incoming, dev, None).await
    }

    /// The same with exactly the images that were `approved`, which an engine must be there for.
    pub(crate) async fn install_with(
        &self,
        incoming: Incoming,
        dev: bool,
        approved: Option<&BTreeMap<Id, String>>,
    ) -> Result<Installed> {
        let id = incoming.package.manifest.id.clone();
        let _held = self.hold(&id).await?;
        let (row, changed) = self.check_install(&incoming, dev, std::slice::from_ref(&incoming))?;
        if changed {
            let pins = self.resolve_images(&incoming.package.manifest, &incoming.grant, approved).await?;
            self.home.put_version(&id, &row.version, &incoming.package)?;
            self.home.open_data(&id)?;
            let event = self.store.event(ADDON_INSTALLED, Some(&id.to_string()), &self.actor());
            let event = event.with("version", &row.version);
            self.store.put_addon(&row, incoming.grant.replaces.as_ref(), Some(&event))?;
            self.home.open_data(&id)?;
            for (service, pin) in incoming.package.manifest.services.iter().zip(pins.iter().flatten()) {
                self.store.put_pin(&id, &row.version, &service.name, &service.image.to_string(), pin)?;
            }
            self.registry.forget(&id);
            self.prune(&id)?;
        }
        let version = row.version.to_string();
        Ok(Installed { id, version, digest: row.digest, grant: row.grant_digest, changed })
    }

    /// Which of these [`Host::install`] would install, one after the other; does nothing.
    pub async fn would_install(&self, incoming: &[Incoming], dev: bool) -> Result<Vec<bool>> {
        let mut would = Vec::new();
        for one in incoming {
            let _held = self.hold(&one.package.manifest.id).await?;
            would.push(self.check_install(one, dev, incoming)?.1);
        }
        Ok(would)
    }

    /// The row it would have, and whether that is anything new. What it needs may be among `given`, too.
    fn check_install(&self, incoming: &Incoming, dev: bool, given: &[Incoming]) -> Result<(AddonRow, bool)> {
        let package = &incoming.package;
        let id = package.manifest.id.clone();
        let mut row = AddonRow {
            version: package.manifest.version_or_first(),
            digest: package.digest.clone(),
            component_digest: package.component.as_deref().map(compiler::digest),
            dev,
            grant_digest: incoming.grant.digest.clone(),
            events: incoming.grant.events.clone(),
            state: AddonState::Installed,
            // Never one that an addon of this id had before.
            revision: i64::from_ne_bytes(random()?) >> 1,
            data: Size::default(),
            installed_at: now_ms() / 1000,
            id,
        };
        let Some(there) = self.store.addon(&row.id)? else {
            self.check_install_needs(&row, &package.manifest, given)?;
            return Ok((row, true));
        };
        let addon = there.id.clone();
        row.state = there.state;
        if package.manifest.version.is_none() && there.digest == row.digest {
            row.version = there.version.clone();
        }
        match (there.version == row.version, there.digest == row.digest) {
            (true, true) => {
                let changed = there.grant_digest != row.grant_digest;
                Ok((row, changed))
            }
            _ if dev => {
                self.check_install_needs(&row, &package.manifest, given)?;
                Ok((row, true))
            }
            (true, false) => Err(Error::DigestChanged { addon, version: there.version.to_string() }),
            (false, _) => Err(Error::OtherVersion { addon, installed: there.version.to_string() }),
        }
    }

    /// Removes an addon that is not enabled, that no app uses and no other addon needs; with its data unless `keep_data`.
    ///
    /// The order makes a crash in between harmless: the data goes first, then the addon is forgotten, then its files go, so
    /// that what is left can be uninstalled again, or is written over by the next install.
    pub async fn uninstall(&self, id: &AddonId, keep_data: bool) -> Result<Done<()>> {
        let _held = self.hold(id).await?;
        let row = self.check_uninstall(id)?;
        let repairs =
            if keep_data { self.services.leave(id).await? } else { self.services.end(id, None, Wanted::Gone).await? };
        // What cannot go now stays recorded, and the addon with it.
        let stuck = repairs.into_iter().find(Repair::is_problem);
        if let Some((service, why)) = stuck.and_then(|problem| Some((problem.service?, problem.why))) {
            return Err(Error::Service {
                addon: id.clone(),
                service,
                message: why.unwrap_or_else(|| "cannot be removed".to_owned()),
                hint: format!("see to that, then `lodger uninstall {id}` again"),
            });
        }
        if !keep_data {
            self.home.remove_data(id)?;
        }
        let event = self.store.event(ADDON_UNINSTALLED, Some(&id.to_string()), &self.actor());
        self.store.delete_addon(id, Some(&event))?;
        self.registry.forget(id);
        self.home.remove_versions(id)?;
        if let Some(digest) = &row.component_digest {
            self.compiler.forget(&self.sandbox.engine, digest);
        }
        Ok(Done::without_call(()))
    }

    /// Whether [`Host::uninstall`] could be carried out; does nothing.
    pub async fn would_uninstall(&self, id: &AddonId) -> Result<()> {
        let _held = self.hold(id).await?;
        self.check_uninstall(id).map(drop)
    }

    fn check_uninstall(&self, id: &AddonId) -> Result<AddonRow> {
        let row = self.store.addon(id)?.ok_or_else(|| Error::UnknownAddon(id.to_string()))?;
        self.check_never_needed(id)?;
        let state = row.state.clone().settled();
        let (detached, in_use): (Vec<_>, Vec<_>) =
            self.store.resources_of_addon(id)?.into_iter().partition(|row| row.state == ResourceState::Detached);
        let apps = |rows: Vec<ResourceRow>| rows.into_iter().map(|row| row.app).collect();
        if !in_use.is_empty() {
            return Err(Error::InUse { addon: id.clone(), apps: apps(in_use) });
        }
        if !detached.is_empty() {
            return Err(Error::DataKept { addon: id.clone(), apps: apps(detached) });
        }
        if state.is_enabled() {
            let hint = state.way_on(id);
            let state = state.to_string();
            return Err(Error::NotPermitted { addon: id.clone(), state, verb: "uninstall", needs: "disabled", hint });
        }
        Ok(row)
    }
}
