//! What the keys of `addon.json` mean together: names, references, sizes. Finds every problem, not just the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};
use std::str::FromStr;

use hyper::Uri;

use super::raw::{self, Raw};
use super::{Dependency, Manifest, Named, Plan, Problem, Provider, Setting, remote, services};
use crate::env;
use crate::hook::HookName;
use crate::id::{AddonId, Id};
use crate::limits::Limit;
use crate::outbound::Destination;
use crate::text::{is_plain, shown};

const TEXT_MAX: usize = 10_000;
const LIST_MAX: usize = 64;
/// Of a requirement of versions, in bytes.
const VERSION_MAX: usize = 200;

/// Problems found so far.
pub(super) struct Found(Vec<Problem>);

impl Found {
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into(), hint: None });
    }

    pub(super) fn add_with_hint(
        &mut self,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.0.push(Problem { path: path.into(), message: message.into(), hint: Some(hint.into()) });
    }

    /// The value, or `None` with the problem noted.
    pub(super) fn parse<T: FromStr>(&mut self, path: &str, text: &str) -> Option<T>
    where
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error: T::Err| self.add(path, error.to_string())).ok()
    }

    pub(super) fn at_most<T>(&mut self, path: &str, list: &[T], most: usize) {
        if list.len() > most {
            self.add(path, format!("{} entries; at most {most}", list.len()));
        }
    }

    fn text(&mut self, path: &str, text: &str) {
        if text.len() > TEXT_MAX {
            self.add(path, format!("{} bytes; at most {TEXT_MAX}", text.len()));
        }
    }

    pub(super) fn unique(&mut self, path: &str, names: impl IntoIterator<Item = impl AsRef<str>>) {
        let mut seen = BTreeSet::new();
        for name in names {
            let name = name.as_ref().to_owned();
            if seen.contains(&name) {
                self.add(path, format!("`{}` stands twice", shown(&name, 60)));
            }
            seen.insert(name);
        }
    }
}

pub(super) fn check(raw: Raw) -> Result<Manifest, Vec<Problem>> {
    let mut found = Found(Vec::new());
    let found = &mut found;
    let id = addon_id(found, &raw);
    let version = raw.version.as_deref().and_then(|text| found.parse::<semver::Version>("version", text));
    found.text("description", &raw.description);
    let display_name = raw.display_name.clone().unwrap_or_else(|| raw.name.clone());
    found.text("display_name", &display_name);
    let component = raw.component.as_deref().and_then(|name| component_file(found, name));
    let config_vars = config_vars(found, &raw, id.as_ref());
    let plans = plans(found, &raw);
    let mut settings = settings(found, &raw);
    let network = network(found, &raw);
    let limits = limits(&raw);
    let remote = remote::check(found, &raw, &network, &limits);
    deadlines(found, &raw);
    let services = services::check(found, &raw);
    let provider = provider(found, &raw);
    if let Some(remote) = &remote {
        settings.extend(remote.settings());
    }
    if raw.component.is_none() && raw.services.is_empty() && raw.remote.is_none() {
        found.add_with_hint(
            "component",
            "the addon has neither a component nor services",
            "name the component's file: \"component\": \"my-addon.wasm\"",
        );
    }
    let replaces = raw.replaces.as_deref().and_then(|slot| found.parse("replaces", slot));
    let depends = depends(found, &raw, id.as_ref());
    match id {
        Some(id) if found.0.is_empty() => Ok(Manifest {
            id,
            version,
            display_name,
            description: raw.description,
            component,
            remote,
            replaces,
            config_vars,
            plans,
            settings,
            network,
            may_use_services: raw.capabilities.services,
            events: raw.capabilities.events,
            limits,
            deadlines_ms: raw.limits.deadlines_ms.0,
            services,
            provider,
            depends,
        }),
        _ => Err(std::mem::take(&mut found.0)),
    }
}

fn provider(found: &mut Found, raw: &Raw) -> Provider {
    let raw::Provider { regions, log_drain, logo_url, short_description, dashboard } = &raw.provider;
    found.at_most("provider.regions", regions, LIST_MAX);
    found.unique("provider.regions", regions);
    found.text("provider.short_description", short_description.as_deref().unwrap_or_default());
    found.text("provider.logo_url", logo_url.as_deref().unwrap_or_default());
    if let Some(url) = dashboard
        && !url.parse::<Uri>().is_ok_and(|url| url.scheme_str() == Some("https") && !is_with_user(&url))
    {
        let hint = "\"dashboard\": \"https://…\": it is never served from here, where sessions are";
        found.add_with_hint("provider.dashboard", "is no `https` URL", hint);
    }
    Provider {
        regions: regions.clone(),
        log_drain: *log_drain,
        logo_url: logo_url.clone(),
        short_description: short_description.clone(),
        dashboard: dashboard.clone(),
    }
}

fn is_with_user(url: &Uri) -> bool {
    url.authority().is_none_or(|authority| authority.as_str().contains('@'))
}

/// What it is called and in which version, and nothing more.
pub(super) fn named(raw: &Raw) -> Result<Named, Vec<Problem>> {
    let mut found = Found(Vec::new());
    let id = addon_id(&mut found, raw);
    let version = raw.version.as_deref().and_then(|text| found.parse::<semver::Version>("version", text));
    match id {
        Some(id) if found.0.is_empty() => Ok(Named { id, version, has_component: raw.component.is_some() }),
        _ => Err(found.0),
    }
}

/// `name` and `namespace`. A name that is no id becomes the nearest one, as Oakestra's names are free text.
fn addon_id(found: &mut Found, raw: &Raw) -> Option<AddonId> {
    let namespace = found.parse("namespace", raw.namespace.as_deref().unwrap_or("local"));
    let name = Id::nearest(&raw.name);
    if name.is_none() {
        found.add("name", format!("`{}` holds no letter or digit to make an id of", shown(&raw.name, 60)));
    }
    Some(AddonId { namespace: namespace?, name: name? })
}

/// A plain file name in the package's root: nothing a path could be built from.
fn component_file(found: &mut Found, name: &str) -> Option<String> {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(part)), None) if part == name);
    if plain && is_plain(name) && name.len() <= 255 && !name.contains('\\') {
        return Some(name.to_owned());
    }
    found.add_with_hint(
        "component",
        format!("`{}` is not a file name in the package's root", shown(name, 60)),
        "put the component beside addon.json and name it without a directory",
    );
    None
}

fn config_vars(found: &mut Found, raw: &Raw, id: Option<&AddonId>) -> Vec<String> {
    let Some(names) = &raw.config_vars else {
        return id.map(|id| format!("{}URL", id.name.env_prefix())).into_iter().collect();
    };
    found.at_most("config_vars", names, LIST_MAX);
    found.unique("config_vars", names);
    for (place, name) in names.iter().enumerate() {
        let path = format!("config_vars[{place}]");
        if !env::is_well_formed(name) {
            found.add(path, format!("`{}` does not match ^[A-Z][A-Z0-9_]*$", shown(name, 60)));
        } else if !env::is_allowed(name) {
            found.add(path, format!("`{name}` is read by loaders, interpreters or proxies and is never given"));
        }
    }
    names.clone()
}

fn plans(found: &mut Found, raw: &Raw) -> Vec<Plan> {
    found.at_most("plans", &raw.plans, LIST_MAX);
    found.unique("plans", raw.plans.iter().map(|plan| &plan.name));
    let mut plans = Vec::new();
    for (place, plan) in raw.plans.iter().enumerate() {
        let path = format!("plans[{place}]");
        found.text(&format!("{path}.description"), &plan.description);
        if !plan.price.is_finite() || plan.price < 0.0 {
            found.add(format!("{path}.price"), "must be 0 or more");
        }
        if plan.options.0.len() > 32 {
            found.add(format!("{path}.options"), "at most 32 entries");
        }
        for (name, value) in &plan.options.0 {
            if name.len() > 128 || value.len() > 4096 {
                found.add(format!("{path}.options.{}", shown(name, 40)), "name over 128 or value over 4096 bytes");
            }
        }
        if let Some(name) = found.parse::<Id>(&format!("{path}.name"), &plan.name) {
            plans.push(Plan {
                display_name: plan.display_name.clone().unwrap_or_else(|| name.to_string()),
                name,
                price: plan.price,
                description: plan.description.clone(),
                options: plan.options.0.clone(),
            });
        }
    }
    plans
}

fn settings(found: &mut Found, raw: &Raw) -> BTreeMap<String, Setting> {
    if raw.settings.0.len() > LIST_MAX {
        found.add("settings", format!("at most {LIST_MAX} entries"));
    }
    for (name, setting) in &raw.settings.0 {
        let path = format!("settings.{}", shown(name, 60));
        if !env::is_well_formed(name) {
            found.add(path.clone(), "setting names match ^[A-Z][A-Z0-9_]*$");
        }
        if setting.secret && setting.default.is_some() {
            found.add_with_hint(path, "a secret with a default is no secret", "remove the default");
        }
    }
    let setting = |raw: &raw::Setting| Setting { default: raw.default.clone(), secret: raw.secret };
    raw.settings.0.iter().map(|(name, raw)| (name.clone(), setting(raw))).collect()
}

fn network(found: &mut Found, raw: &Raw) -> Vec<Destination> {
    const PATH: &str = "capabilities.network";
    let asked = &raw.capabilities.network;
    found.at_most(PATH, asked, LIST_MAX);
    let parse = |(place, text): (usize, &String)| found.parse::<Destination>(&format!("{PATH}[{place}]"), text);
    let network: Vec<Destination> = asked.iter().enumerate().filter_map(parse).collect();
    // As they are understood: two spellings of a name are one.
    found.unique(PATH, network.iter().map(Destination::to_string));
    network
}

fn limits(raw: &Raw) -> BTreeMap<Limit, u64> {
    let asked = &raw.limits;
    let data = &raw.capabilities.data;
    [
        (Limit::MemoryBytes, asked.memory_bytes),
        (Limit::TableElements, asked.table_elements),
        (Limit::Instances, asked.instances),
        (Limit::CopyBytes, asked.copy_bytes),
        (Limit::HostMemoryBytes, asked.host_memory_bytes),
        (Limit::Handles, asked.handles),
        (Limit::Resources, asked.resources),
        (Limit::RandomBytes, asked.random_bytes),
        (Limit::LogBytes, asked.log_bytes),
        (Limit::NetworkBytes, asked.network_bytes),
        (Limit::Connections, asked.connections),
        (Limit::DataBytes, data.max_bytes),
        (Limit::DataFiles, data.max_files),
    ]
    .into_iter()
    .filter_map(|(limit, value)| Some((limit, value?)))
    .collect()
}

fn deadlines(found: &mut Found, raw: &Raw) {
    for (hook, ms) in &raw.limits.deadlines_ms.0 {
        let path = format!("limits.deadlines_ms.{}", shown(hook, 40));
        if hook != "default" && HookName::from_name(hook).is_none() {
            let known: Vec<&str> = HookName::ALL.iter().map(|hook| hook.name()).collect();
            found.add(path.clone(), format!("no such hook; there are default, {}", known.join(", ")));
        }
        if *ms == 0 {
            found.add(path, "must be above 0");
        }
    }
}

fn depends(found: &mut Found, raw: &Raw, this: Option<&AddonId>) -> Vec<Dependency> {
    found.at_most("depends", &raw.depends, LIST_MAX);
    let mut depends = Vec::new();
    for (place, needed) in raw.depends.iter().enumerate() {
        let path = format!("depends[{place}]");
        let namespace = found.parse(&format!("{path}.namespace"), needed.namespace.as_deref().unwrap_or("local"));
        let name = found.parse(&format!("{path}.name"), &needed.name);
        let version =
            needed.version.as_deref().and_then(|text| version_wanted(found, &format!("{path}.version"), text));
        let Some((namespace, name)) = namespace.zip(name) else { continue };
        let id = AddonId { namespace, name };
        if this == Some(&id) {
            found.add_with_hint(path, format!("`{id}` cannot need itself"), "remove it");
        }
        depends.push(Dependency { id, version });
    }
    found.unique("depends", depends.iter().map(|needed| needed.id.to_string()));
    depends
}

fn version_wanted(found: &mut Found, path: &str, text: &str) -> Option<semver::VersionReq> {
    if text.len() > VERSION_MAX {
        found.add(path, format!("{} bytes; at most {VERSION_MAX}", text.len()));
        return None;
    }
    found.parse(path, text)
}
