//! The grant: what the manifest asks, once the policy admits every line of it.
//!
//! Law 4: a grant is a value, made by [`Grant::decide`] alone. Nothing else decides what is allowed; a manifest the policy
//! does not admit is refused as a whole, with the line to change. The digest covers everything the addon may touch, so that
//! a policy that got tighter or a component that imports more is noticed before the next call.

mod events;
mod remote;
mod services;
mod slots;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::compiler::hex;
use crate::env;
use crate::event::covers;
use crate::hook::HookName;
use crate::id::{AddonId, Id};
use crate::limits::{
    BACKUP_DEADLINE_MS, DEFAULT_DEADLINE_MS, Deadlines, EVENT_DEADLINE_MS, Limit, Limits, SCHEDULE_DEADLINE_MS,
};
use crate::manifest::{Manifest, Problem, RemoteProvider, Setting, is_limit_of_remote};
use crate::outbound::Destination;
use crate::policy::Policy;
use crate::sandbox::{Extension, Import, classify_import};
use crate::slot::Offers;

pub use services::ServiceGrant;
pub use slots::StandIn;

/// What a compiled component imports and exports.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// With their versions, as the component names them.
    pub imports: Vec<String>,
    pub hooks: Vec<HookName>,
    /// Every interface, without version. Empty until the component was looked at.
    pub exports: Vec<String>,
}

impl Facts {
    /// What is known without a component.
    pub fn of(manifest: &Manifest) -> Facts {
        let hooks = manifest.remote.as_ref().map(RemoteProvider::hooks).unwrap_or_default();
        Facts { hooks, ..Facts::default() }
    }
}

/// Everything an addon may touch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Grant {
    #[serde(rename = "addon")]
    pub id: AddonId,
    /// The slot it fills.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<Id>,
    /// The container it stands in for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stands_in: Option<StandIn>,
    /// The provider elsewhere that its hooks are asked of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    pub hooks: Vec<HookName>,
    pub limits: Limits,
    pub deadlines_ms: Deadlines,
    /// Variables it may set in apps; the first is what `url` fills.
    pub config_vars: Vec<String>,
    pub settings: Vec<String>,
    pub services: Vec<ServiceGrant>,
    /// What it may reach.
    pub network: Vec<Destination>,
    /// Events it hears of and decides about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Imports that are denied when they are used.
    pub denied_imports: Vec<String>,
    /// The same in plain words, each with the line of manifest or policy that says so.
    pub lines: Vec<Line>,
    /// `sha256:` over all of the above, but for what is told of the machines that services run on.
    pub digest: String,
}

/// One thing an addon may or may not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Line {
    pub may: bool,
    pub what: String,
    /// The line that says so.
    pub because: String,
}

impl Grant {
    /// # Errors
    /// Every line of the manifest the policy does not admit, with the line to change.
    pub(crate) fn decide(
        manifest: &Manifest,
        policy: &Policy,
        facts: &Facts,
        offers: &Offers<'_>,
    ) -> Result<Grant, Vec<Problem>> {
        let mut refusals = Vec::new();
        let mut lines = Vec::new();
        let stands_in = slots::replaces(manifest, policy, facts, offers.slots, &mut refusals, &mut lines);
        let limits = limits(manifest, policy, &mut refusals, &mut lines);
        let deadlines_ms = deadlines(manifest, policy, facts, &mut refusals, &mut lines);
        config_vars(manifest, policy, &mut refusals, &mut lines);
        network(manifest, policy, &mut refusals, &mut lines);
        events::events(manifest, policy, facts, &mut refusals, &mut lines);
        let denied_imports = imports(manifest, facts, offers.extension, &mut refusals, &mut lines);
        match &manifest.remote {
            Some(provider) => remote::provider(manifest, provider, &mut lines),
            None => surroundings(manifest, &mut lines),
        }
        let services = services::services(manifest, policy, stands_in.as_ref(), &mut refusals, &mut lines);
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let mut grant = Grant {
            id: manifest.id.clone(),
            replaces: manifest.replaces.clone(),
            stands_in,
            remote: manifest.remote.as_ref().map(|provider| provider.base_url.to_string()),
            hooks: facts.hooks.clone(),
            limits,
            deadlines_ms,
            config_vars: manifest.config_vars.clone(),
            settings: manifest.settings.keys().cloned().collect(),
            services,
            network: manifest.network.clone(),
            events: manifest.events.clone(),
            denied_imports,
            lines,
            digest: String::new(),
        };
        grant.digest = grant.compute_digest();
        // That a firewall has rules is no decision about the addon: whoever says so must not be asked for a new one.
        services::machine(&grant.services, &policy.services, &mut grant.lines);
        Ok(grant)
    }

    fn compute_digest(&self) -> String {
        // A map of names, numbers and strings always serializes.
        let text = serde_json::to_vec(self).unwrap_or_default();
        format!("sha256:{}", hex(&Sha256::digest(text)))
    }

    /// The container that this service stands in for.
    pub(crate) fn stands_in_by(&self, service: &Id) -> Option<&StandIn> {
        self.stands_in.as_ref().filter(|part| part.service == *service)
    }

    /// What the addon may do by this grant and may not by the one `before`: to be decided by somebody. A limit that is not
    /// higher widens nothing; whatever else reads differently does.
    pub fn widens(&self, before: &Grant) -> Vec<Line> {
        let limits = Limit::ALL.into_iter().filter(|&limit| self.limits[limit] <= before.limits[limit]);
        let mut narrower: Vec<String> = limits.map(|limit| in_words(limit, self.limits[limit])).collect();
        for hook in &self.hooks {
            let (now, then) = (self.deadlines_ms.of(hook.name()), before.deadlines_ms.of(hook.name()));
            narrower.extend((now <= then).then(|| deadline_in_words(hook.name(), now.as_millis())));
        }
        let heard = |pattern: &&String| before.events.iter().any(|before| covers(before, pattern));
        narrower.extend(self.events.iter().filter(heard).map(|pattern| events::in_words(pattern)));
        for service in &self.services {
            narrower.extend(before.services.iter().flat_map(|before| service.no_more_than(before)));
        }
        let known = |line: &Line| {
            narrower.contains(&line.what) || before.lines.iter().any(|other| other.may && other.what == line.what)
        };
        self.lines.iter().filter(|line| line.may && !known(line)).cloned().collect()
    }

    /// The variables `config-vars` may fill.
    pub fn vars_for_config(&self) -> &[String] {
        let taken = usize::from(self.hooks.contains(&HookName::Url));
        self.config_vars.get(taken..).unwrap_or_default()
    }
}

fn refusal(path: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { path: path.into(), message: message.into(), hint: Some(hint.into()) }
}

fn limits(manifest: &Manifest, policy: &Policy, refusals: &mut Vec<Problem>, lines: &mut Vec<Line>) -> Limits {
    let mut limits = Limits::default();
    for limit in Limit::ALL {
        let ceiling = policy.ceilings[limit];
        let asked = manifest.limits.get(&limit).copied();
        let (value, because) = match (asked, limit.manifest_path()) {
            (Some(asked), Some(path)) if asked > ceiling => {
                refusals.push(refusal(
                    path,
                    format!("asks for {asked}; the policy's ceiling is {ceiling}"),
                    format!("lower it, or set `{limit} = {asked}` under [limits] in lodger.toml"),
                ));
                continue;
            }
            (Some(0), Some(path)) => {
                refusals.push(refusal(path, "must be above 0", "remove the line to have the default"));
                continue;
            }
            (Some(asked), Some(path)) => (asked, format!("addon.json: {path}")),
            _ if ceiling < limit.default_value() => (ceiling, format!("lodger.toml: limits.{limit}")),
            _ => (limit.default_value(), "default".to_owned()),
        };
        limits[limit] = value;
        if matches!(limit, Limit::NetworkBytes | Limit::Connections) && manifest.network.is_empty() {
            continue;
        }
        if manifest.remote.is_some() && !is_limit_of_remote(limit) {
            continue;
        }
        lines.push(Line { may: true, what: in_words(limit, value), because });
    }
    limits
}

fn in_words(limit: Limit, value: u64) -> String {
    let bytes = human_bytes(value);
    match limit {
        Limit::MemoryBytes => format!("use up to {bytes} of memory"),
        Limit::TableElements => format!("hold up to {value} table elements"),
        Limit::Instances => format!("be made of up to {value} core instances"),
        Limit::StackBytes => format!("use up to {bytes} of stack"),
        Limit::CopyBytes => format!("hand up to {bytes} to the host at a time"),
        Limit::HostMemoryBytes => format!("make the host hold up to {bytes} for it"),
        Limit::Handles => format!("hold up to {value} handles"),
        Limit::Resources => format!("hold up to {value} open files, streams and timers"),
        Limit::RandomBytes => format!("draw up to {bytes} of random numbers"),
        Limit::LogBytes => format!("have up to {bytes} of its log kept"),
        Limit::DataBytes => format!("keep up to {bytes} in its own data directory, /data"),
        Limit::DataFiles => format!("keep up to {value} files and directories in it"),
        Limit::NetworkBytes => format!("move up to {bytes} over the network in one call"),
        Limit::Connections => format!("have up to {value} connections at a time"),
    }
}

fn deadline_in_words(hook: &str, ms: u128) -> String {
    format!("run its hook {hook} for up to {ms} ms")
}

/// A size as a person reads it, exact or rounded to a tenth.
pub fn human_bytes(bytes: u64) -> String {
    let mut value = bytes;
    let mut rest = 0;
    let mut units = ["bytes", "KiB", "MiB", "GiB", "TiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while value >= 1024 {
        let Some(next) = units.next() else { break };
        (rest, value, unit) = (value % 1024, value / 1024, next);
    }
    if rest == 0 { format!("{value} {unit}") } else { format!("{value}.{} {unit}", rest * 10 / 1024) }
}

fn deadlines(
    manifest: &Manifest,
    policy: &Policy,
    facts: &Facts,
    refusals: &mut Vec<Problem>,
    lines: &mut Vec<Line>,
) -> Deadlines {
    let mut deadlines = BTreeMap::new();
    let asked = &manifest.deadlines_ms;
    for (hook, &ms) in asked {
        if ms > policy.deadline_ms {
            refusals.push(refusal(
                format!("limits.deadlines_ms.{hook}"),
                format!("asks for {ms} ms; the policy's ceiling is {} ms", policy.deadline_ms),
                format!("lower it, or set `deadline_ms = {ms}` under [limits] in lodger.toml"),
            ));
        }
    }
    for hook in &facts.hooks {
        let default = DEFAULT_DEADLINE_MS.min(policy.deadline_ms);
        let (ms, because) = match (asked.get(hook.name()), asked.get("default")) {
            // Somebody waits for a service meanwhile, and the built-in could have decided.
            (None, asked) if *hook == HookName::Schedule => {
                (SCHEDULE_DEADLINE_MS.min(asked.copied().unwrap_or(default)), "default".to_owned())
            }
            (None, asked) if matches!(hook, HookName::Before | HookName::After) => {
                (EVENT_DEADLINE_MS.min(asked.copied().unwrap_or(default)), "default".to_owned())
            }
            (Some(&ms), _) => (ms, format!("addon.json: limits.deadlines_ms.{hook}")),
            (None, Some(&ms)) => (ms, "addon.json: limits.deadlines_ms.default".to_owned()),
            (None, None) if matches!(hook, HookName::Dump | HookName::Restore) => {
                (BACKUP_DEADLINE_MS.min(policy.deadline_ms), "default".to_owned())
            }
            (None, None) => (default, "default".to_owned()),
        };
        lines.push(Line { may: true, what: deadline_in_words(hook.name(), u128::from(ms)), because });
        deadlines.insert(hook.name().to_owned(), ms);
    }
    deadlines.insert(
        "default".to_owned(),
        asked.get("default").copied().unwrap_or(DEFAULT_DEADLINE_MS.min(policy.deadline_ms)),
    );
    Deadlines(deadlines)
}

fn config_vars(manifest: &Manifest, policy: &Policy, refusals: &mut Vec<Problem>, lines: &mut Vec<Line>) {
    let prefix = manifest.id.name.env_prefix();
    for (place, name) in manifest.config_vars.iter().enumerate() {
        let path = format!("config_vars[{place}]");
        let because = if name.starts_with(&prefix) {
            format!("addon.json: {path}")
        } else if policy.env_names.contains(name) {
            format!("lodger.toml: grant.env_names has `{name}`")
        } else {
            refusals.push(refusal(
                path,
                format!("`{name}` does not start with `{prefix}`"),
                format!("rename it, or add `{name}` to env_names under [grant] in lodger.toml"),
            ));
            continue;
        };
        // The default name is checked here too: an addon called `ld` must not fill LD_URL.
        if env::is_allowed(name) {
            lines.push(Line { may: true, what: format!("set the variable {name} in apps that use it"), because });
        } else {
            refusals.push(refusal(path, format!("`{name}` is never given to an app"), "choose another name"));
        }
    }
}

/// Admits what is to be reached, by name. Which addresses a name may lead to is in the policy too, and so in the grant.
fn network(manifest: &Manifest, policy: &Policy, refusals: &mut Vec<Problem>, lines: &mut Vec<Line>) {
    for (place, to) in manifest.network.iter().enumerate() {
        let path = format!("capabilities.network[{place}]");
        match policy.network.iter().find(|pattern| pattern.admits(to)) {
            Some(pattern) => lines.push(Line {
                may: true,
                what: format!("connect to {to}, and look up that name"),
                because: format!("addon.json: {path}; lodger.toml: grant.network has `{pattern}`"),
            }),
            None => refusals.push(refusal(
                path,
                format!("asks for `{to}`, which the policy does not let addons reach"),
                format!("remove it, or add it in lodger.toml under [grant]: `network = [\"{to}\"]`"),
            )),
        }
    }
    if manifest.may_use_services {
        lines.push(Line {
            may: true,
            what: "start, stop, watch and run commands in its own services, and connect to their ports".to_owned(),
            because: "addon.json: capabilities.services".to_owned(),
        });
    }
    if manifest.network.is_empty() && !manifest.may_use_services {
        lines.push(Line {
            may: false,
            what: "reach any network: connecting, listening and name lookups are refused".to_owned(),
            because: "addon.json: no capabilities.network".to_owned(),
        });
        return;
    }
    for net in &policy.network_addresses {
        lines.push(Line {
            may: true,
            what: format!("be led by these names to {net}, which is not for the public"),
            because: format!("lodger.toml: grant.network_addresses has `{net}`"),
        });
    }
    lines.push(Line {
        may: false,
        what: "reach any other host, look up any other name, listen, or use UDP".to_owned(),
        because: "addon.json: capabilities.network".to_owned(),
    });
}

/// Admits the component's imports by name, and returns those that are denied when they are used.
fn imports(
    manifest: &Manifest,
    facts: &Facts,
    extension: Option<&Extension>,
    refusals: &mut Vec<Problem>,
    lines: &mut Vec<Line>,
) -> Vec<String> {
    let mut denied = Vec::new();
    for import in &facts.imports {
        match classify_import(import, extension) {
            Import::Given => {}
            Import::Settings if !manifest.settings.is_empty() => {}
            Import::Settings => refusals.push(refusal(
                "component",
                format!("imports `{import}`, but the manifest declares no settings"),
                "declare them in `settings` of addon.json",
            )),
            Import::Services if manifest.may_use_services => {}
            Import::Services => refusals.push(refusal(
                "component",
                format!("imports `{import}`, but the manifest does not ask to use its services"),
                "write \"services\": true under `capabilities` of addon.json",
            )),
            Import::Network if !manifest.network.is_empty() || manifest.may_use_services => {}
            Import::Network | Import::Never => denied.push(import.clone()),
            Import::Unknown => refusals.push(refusal(
                "component",
                format!("imports `{}`, which this host does not offer", crate::text::shown(import, 120)),
                "use only WASI 0.2 and lodger:addon imports",
            )),
        }
    }
    let because = if manifest.network.is_empty() { "addon.json: no capabilities.network" } else { "built in" };
    for import in &denied {
        let what = format!("use what it imports as {import}: every use is denied");
        lines.push(Line { may: false, what, because: because.to_owned() });
    }
    denied
}

/// What every addon has and what none has.
fn surroundings(manifest: &Manifest, lines: &mut Vec<Line>) {
    let mut add = |may, what: String, because: &str| lines.push(Line { may, what, because: because.to_owned() });
    add(true, "read the files of its own package in /addon".to_owned(), "built in");
    add(true, "read the clocks, and ADDON, ADDON_DATA and ADDON_ROOT as its environment".to_owned(), "built in");
    for (name, setting) in &manifest.settings {
        let kind = if setting.secret { "secret setting" } else { "setting" };
        add(true, format!("read its {kind} {name}"), &format!("addon.json: settings.{name}"));
    }
    needs(manifest, lines);
    let what = "see any other file, variable, process or addon".to_owned();
    lines.push(Line { may: false, what, because: "built in".to_owned() });
}

fn needs(manifest: &Manifest, lines: &mut Vec<Line>) {
    lines.extend(manifest.depends.iter().enumerate().map(|(place, needed)| Line {
        may: true,
        what: format!("have {needed} enabled before it"),
        because: format!("addon.json: depends[{place}]"),
    }));
}

/// How a guest asks for a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SettingAccess {
    Plain,
    Secret,
}

/// The settings of one addon, as its guest may read them.
#[derive(Debug, Default)]
pub(crate) struct Settings {
    declared: BTreeMap<String, Setting>,
    values: BTreeMap<String, String>,
    /// Values to redact wherever the guest's text is shown.
    secrets: Vec<String>,
}

impl Settings {
    pub fn new(declared: BTreeMap<String, Setting>, values: BTreeMap<String, String>) -> Settings {
        let is_secret = |name: &String| declared.get(name).is_some_and(|setting| setting.secret);
        let secrets = values.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.clone()).collect();
        Settings { declared, values, secrets }
    }

    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// The value, or the default, whatever its kind: for a service's environment.
    pub fn value(&self, name: &str) -> Option<String> {
        self.values.get(name).or_else(|| self.declared.get(name)?.default.as_ref()).cloned()
    }

    /// All that is to be redacted from text of a call that was handed these, too.
    pub fn secrets_and(&self, others: &[String]) -> Vec<String> {
        self.secrets.iter().chain(others).cloned().collect()
    }

    /// # Errors
    /// Why this name may not be read this way, for the guest.
    pub fn read(&self, name: &str, access: SettingAccess) -> Result<Option<String>, String> {
        let shown = crate::text::shown(name, 60);
        let Some(setting) = self.declared.get(name) else {
            return Err(format!("`{shown}` is not among the manifest's settings"));
        };
        match (setting.secret, access) {
            (true, SettingAccess::Plain) => Err(format!("`{shown}` is a secret: ask for it with `secret`")),
            (false, SettingAccess::Secret) => Err(format!("`{shown}` is no secret: ask for it with `get`")),
            _ => Ok(self.values.get(name).or(setting.default.as_ref()).cloned()),
        }
    }
}
