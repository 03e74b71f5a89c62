//! The addons of this process, loaded when first asked for: manifest, grant, settings, and the component linked once.
//!
//! The store says what is installed, and another process may change it at any time; so every use looks at the store's mark,
//! and where that has changed, at the addon's revision.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasmtime::component::{Component, InstancePre};
use wasmtime_wasi::filesystem::{Dir, FsPerms, OpenMode};

use crate::bindings::{backup, config, events, health, plans, provider, scheduler, setup, upgrade, url, usage};
use crate::error::{Error, Result};
use crate::grant::{Facts, Grant, Settings};
use crate::hook::HookName;
use crate::host::Host;
use crate::id::AddonId;
use crate::lock::AddonLock;
use crate::manifest::{Manifest, RemoteProvider};
use crate::sandbox::Guest;
use crate::slot::Offers;
use crate::store::{AddonRow, Listener, Mark, Revision};
use crate::tree::Size;

/// One addon, ready to be called.
pub(crate) struct Addon {
    pub id: AddonId,
    /// As text, as every call needs it.
    pub name: String,
    pub revision: i64,
    pub version: semver::Version,
    pub manifest: Manifest,
    pub grant: Grant,
    pub settings: Arc<Settings>,
    /// Absent where the addon has services only.
    pub guest: Option<GuestKind>,
    /// What the guest sees as `/addon`, and as `/data` in read hooks and in mutating ones.
    pub files: Dir,
    pub data_readable: Dir,
    pub data_writable: Dir,
    /// What the data directory holds, as this process has last counted it; absent while a call may change that.
    counted: Mutex<Option<Size>>,
}

impl Addon {
    /// Its component, where its hooks are asked of one.
    pub fn component(&self) -> Option<&Linked> {
        match &self.guest {
            Some(GuestKind::Component(linked)) => Some(linked),
            _ => None,
        }
    }

    /// For a call that will say anew what there is.
    pub fn take_count(&self) -> Option<Size> {
        lock(&self.counted).take()
    }

    pub fn count(&self, size: Size) {
        *lock(&self.counted) = Some(size);
    }
}

/// What an addon's hooks are asked of.
pub(crate) enum GuestKind {
    Component(Box<Linked>),
    /// A provider elsewhere.
    Remote(RemoteProvider),
}

/// A component with its imports resolved, and the hooks it exports.
pub(crate) struct Linked {
    pub pre: InstancePre<Guest>,
    pub hooks: Hooks,
    pub facts: Facts,
}

/// The hook interfaces a component exports.
#[derive(Default)]
pub(crate) struct Hooks {
    pub setup: Option<setup::SetupHooksPre<Guest>>,
    pub provider: Option<provider::ProviderHooksPre<Guest>>,
    pub url: Option<url::UrlHooksPre<Guest>>,
    pub config: Option<config::ConfigHooksPre<Guest>>,
    pub plans: Option<plans::PlansHooksPre<Guest>>,
    pub usage: Option<usage::UsageHooksPre<Guest>>,
    pub backup: Option<backup::BackupHooksPre<Guest>>,
    pub health: Option<health::HealthHooksPre<Guest>>,
    pub scheduler: Option<scheduler::SchedulerHooksPre<Guest>>,
    pub upgrade: Option<upgrade::UpgradeHooksPre<Guest>>,
    pub events: Option<events::EventsHooksPre<Guest>>,
}

/// An addon as it was read, and when.
#[derive(Clone)]
struct Known {
    addon: Arc<Addon>,
    now: Revision,
    mark: Option<Mark>,
}

#[derive(Default)]
pub(crate) struct Registry {
    addons: Mutex<BTreeMap<AddonId, Known>>,
    locks: Mutex<BTreeMap<AddonId, Arc<AddonLock>>>,
    /// Who listens to events, as it was read, and when.
    listeners: Mutex<Option<(Mark, Arc<Vec<Listener>>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    pub fn lock_of(&self, host: &Host, id: &AddonId) -> Arc<AddonLock> {
        let mut locks = lock(&self.locks);
        locks.entry(id.clone()).or_insert_with(|| Arc::new(AddonLock::new(host.home.lock_path(id)))).clone()
    }

    /// The addon as it is now, with its state.
    ///
    /// # Errors
    /// [`Error::UnknownAddon`]; [`Error::GrantRevoked`] when the policy does not admit any more what was decided at install;
    /// whatever keeps its files from being read.
    pub async fn get(&self, host: &Host, id: &AddonId) -> Result<(Arc<Addon>, Revision)> {
        let known = lock(&self.addons).get(id).cloned();
        let mark = host.store.mark();
        match known {
            Some(known) if known.mark.is_some() && known.mark == mark => Ok((known.addon, known.now)),
            known => self.look(host, id, known, mark, host.store.revision(&id.to_string())?).await,
        }
    }

    /// The same, whatever is remembered: for whoever holds the addon's lock, which another process may have died with.
    pub async fn get_under_lock(&self, host: &Host, id: &AddonId) -> Result<(Arc<Addon>, Revision)> {
        let known = lock(&self.addons).get(id).cloned();
        let mark = host.store.mark();
        self.look(host, id, known, mark, host.store.revision_to_change(&id.to_string())?).await
    }

    /// `mark` was taken before `now` was read, so that a change made meanwhile is noticed the next time.
    async fn look(
        &self,
        host: &Host,
        id: &AddonId,
        known: Option<Known>,
        mark: Option<Mark>,
        now: Option<Revision>,
    ) -> Result<(Arc<Addon>, Revision)> {
        let unknown = || Error::UnknownAddon(id.to_string());
        let Some(now) = now else {
            self.forget(id);
            return Err(unknown());
        };
        let addon = match known.filter(|known| known.addon.revision == now.revision) {
            Some(known) => known.addon,
            None => Arc::new(load(host, &host.store.addon(id)?.ok_or_else(unknown)?, host.home.open_data(id)?).await?),
        };
        let known = Known { addon: addon.clone(), now: now.clone(), mark };
        lock(&self.addons).insert(id.clone(), known);
        Ok((addon, now))
    }

    /// All who listen to events. Read anew only after something has changed.
    pub fn listeners(&self, host: &Host) -> Result<Arc<Vec<Listener>>> {
        let mark = host.store.mark();
        match &*lock(&self.listeners) {
            Some((then, listeners)) if Some(*then) == mark => return Ok(listeners.clone()),
            _ => {}
        }
        let listeners = Arc::new(host.store.listeners()?);
        *lock(&self.listeners) = mark.map(|mark| (mark, listeners.clone()));
        Ok(listeners)
    }

    pub fn forget(&self, id: &AddonId) {
        lock(&self.addons).remove(id);
    }
}

/// An addon of a version that is on the disk, with the data directory it is to see.
///
/// # Errors
/// As for [`Registry::get`].
pub(crate) async fn load(host: &Host, row: &AddonRow, data: File) -> Result<Addon> {
    let name = row.id.to_string();
    let manifest = Manifest::parse(&host.home.read_manifest(&row.id, &row.version)?)?;
    let revoked = |refusals| Error::GrantRevoked { addon: row.id.clone(), refusals };
    // What the policy does not admit is told before the component is loaded, which a tighter policy may make impossible.
    let mut facts = Facts::of(&manifest);
    Grant::decide(&manifest, &host.policy, &facts, &host.offers()).map_err(revoked)?;
    let mut guest = manifest.remote.clone().map(GuestKind::Remote);
    if let Some(digest) = &row.component_digest {
        let wasm = || host.home.read_component(&row.id, &row.version);
        let compiled = host.compiler.load(&host.sandbox.engine, &host.home.key, &name, digest, wasm).await?;
        let linked = link(host, &name, &compiled)?;
        facts = linked.facts.clone();
        guest = Some(GuestKind::Component(Box::new(linked)));
    }
    let grant = Grant::decide(&manifest, &host.policy, &facts, &host.offers()).map_err(revoked)?;
    if grant.digest != row.grant_digest {
        return Err(revoked(Vec::new()));
    }
    let mut values = BTreeMap::new();
    for (name, sealed) in host.store.settings(&row.id)? {
        let value = host.home.key.open(&setting_place(&row.id, &name), &sealed)?;
        values.insert(name, value);
    }
    let writable = OpenMode::READ | OpenMode::WRITE;
    let readable = data.try_clone().map_err(Error::io("open the data directory of", &name))?;
    Ok(Addon {
        name,
        revision: row.revision,
        version: row.version.clone(),
        settings: Arc::new(Settings::new(manifest.settings.clone(), values)),
        manifest,
        grant,
        guest,
        files: Dir::new(host.home.open_files(&row.id, &row.version)?, FsPerms::ReadOnly, OpenMode::READ, true),
        data_readable: Dir::new(readable, FsPerms::ReadOnly, OpenMode::READ, true),
        data_writable: Dir::new(data, FsPerms::ReadWrite, writable, true),
        counted: Mutex::new(None),
        id: row.id.clone(),
    })
}

/// What a sealed setting is bound to.
pub(crate) fn setting_place(addon: &AddonId, name: &str) -> String {
    format!("setting:{addon}:{name}")
}

/// Reads what a component imports and exports, and links it.
///
/// # Errors
/// [`Error::Component`] when it exports no hook, a hook of another version or shape, or needs more of the pool than one
/// call has. Its imports are judged by the grant; one that is unknown is reported there by name.
pub(crate) fn link(host: &Host, name: &str, component: &Component) -> Result<Linked> {
    let facts = facts(name, component, &host.offers())?;
    let refused = |message: String| Error::Component { component: name.to_owned(), message, hint: None };
    fits_the_pool(component).map_err(refused)?;
    // An unknown import would fail here too, with less to say about it: the grant is asked first.
    let linkable = |import: &String| {
        crate::sandbox::classify_import(import, host.extension.as_ref()) != crate::sandbox::Import::Unknown
    };
    if let Some(unknown) = facts.imports.iter().find(|import| !linkable(import)) {
        return Err(Error::Component {
            component: name.to_owned(),
            message: format!("imports `{}`, which this host does not offer", crate::text::shown(unknown, 120)),
            hint: Some("use only WASI 0.2 and lodger:addon imports".to_owned()),
        });
    }
    let pre = host.sandbox.link(component).map_err(|error| refused(crate::text::shown(&format!("{error:#}"), 500)))?;
    let hooks = Hooks::of(&pre, &facts).map_err(|error| refused(crate::text::shown(&format!("{error:#}"), 500)))?;
    Ok(Linked { pre, hooks, facts })
}

/// Our hook interfaces, as a component exports them, with their hooks.
const INTERFACES: &[(&str, &[HookName])] = &[
    ("lodger:addon/setup@0.1.0", &[HookName::Enable, HookName::Disable]),
    ("lodger:addon/provider@0.1.0", &[HookName::Provision, HookName::Unprovision]),
    ("lodger:addon/url@0.1.0", &[HookName::Url]),
    ("lodger:addon/config@0.1.0", &[HookName::ConfigVars]),
    ("lodger:addon/plans@0.1.0", &[HookName::ChangePlan, HookName::Suspend, HookName::Resume]),
    ("lodger:addon/usage@0.1.0", &[HookName::Usage]),
    ("lodger:addon/backup@0.1.0", &[HookName::Dump, HookName::Restore]),
    ("lodger:addon/health@0.1.0", &[HookName::Health]),
    ("lodger:addon/scheduler@0.1.0", &[HookName::Schedule]),
    ("lodger:addon/upgrade@0.1.0", &[HookName::Upgrade]),
    ("lodger:addon/events@0.1.0", &[HookName::Before, HookName::After]),
];

fn facts(name: &str, component: &Component, offers: &Offers<'_>) -> Result<Facts> {
    let engine = component.engine();
    let kind = component.component_type();
    let imports = kind.imports(engine).map(|(import, _)| import.to_owned()).collect();
    let (mut hooks, mut exports) = (Vec::new(), Vec::new());
    let mut theirs = false;
    for (export, _) in kind.exports(engine) {
        let bare = export.split('@').next().unwrap_or(export);
        exports.push(bare.to_owned());
        theirs |= offers.extension.is_some_and(|ours| ours.exports.iter().any(|export| export == bare));
        theirs |= offers.slots.iter().any(|slot| slot.export == bare);
        match INTERFACES.iter().find(|(interface, _)| *interface == export) {
            Some((_, names)) => hooks.extend_from_slice(names),
            None if bare.starts_with("lodger:addon/") => {
                return Err(Error::Component {
                    component: name.to_owned(),
                    message: format!("exports `{}`, which this host does not know", crate::text::shown(export, 120)),
                    hint: Some("build it against lodger:addon@0.1.0".to_owned()),
                });
            }
            None => {}
        }
    }
    if hooks.is_empty() && !theirs {
        return Err(Error::Component {
            component: name.to_owned(),
            message: "exports no hook interface of lodger:addon".to_owned(),
            hint: Some(
                "export at least one of setup, provider, url, config, plans, backup, health, scheduler, upgrade, events \
                 (wit/)"
                    .to_owned(),
            ),
        });
    }
    Ok(Facts { imports, exports, hooks })
}

fn fits_the_pool(component: &Component) -> Result<(), String> {
    use crate::sandbox::{MEMORIES_MAX, TABLES_MAX};
    let Some(needs) = component.resources_required() else {
        return Err("imports or instantiates modules it does not hold itself".to_owned());
    };
    for (what, number, most) in
        [("memories", needs.num_memories, MEMORIES_MAX), ("tables", needs.num_tables, TABLES_MAX)]
    {
        if number > most {
            return Err(format!("has {number} {what}; at most {most}"));
        }
    }
    Ok(())
}

impl Hooks {
    fn of(pre: &InstancePre<Guest>, facts: &Facts) -> wasmtime::Result<Hooks> {
        let has = |hook| facts.hooks.contains(&hook);
        let of = || pre.clone();
        Ok(Hooks {
            setup: has(HookName::Enable).then(|| setup::SetupHooksPre::new(of())).transpose()?,
            provider: has(HookName::Provision).then(|| provider::ProviderHooksPre::new(of())).transpose()?,
            url: has(HookName::Url).then(|| url::UrlHooksPre::new(of())).transpose()?,
            config: has(HookName::ConfigVars).then(|| config::ConfigHooksPre::new(of())).transpose()?,
            plans: has(HookName::ChangePlan).then(|| plans::PlansHooksPre::new(of())).transpose()?,
            usage: has(HookName::Usage).then(|| usage::UsageHooksPre::new(of())).transpose()?,
            backup: has(HookName::Dump).then(|| backup::BackupHooksPre::new(of())).transpose()?,
            health: has(HookName::Health).then(|| health::HealthHooksPre::new(of())).transpose()?,
            scheduler: has(HookName::Schedule).then(|| scheduler::SchedulerHooksPre::new(of())).transpose()?,
            upgrade: has(HookName::Upgrade).then(|| upgrade::UpgradeHooksPre::new(of())).transpose()?,
            events: has(HookName::Before).then(|| events::EventsHooksPre::new(of())).transpose()?,
        })
    }
}
