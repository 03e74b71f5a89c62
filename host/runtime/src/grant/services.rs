//! The services of a grant: what each may be, and which line of manifest or policy says so.

use super::{Line, StandIn, human_bytes, refusal};
use crate::manifest::{Manifest, Problem, Service, StartMode, secret_file};
use crate::policy::{Policy, Reach, ServicePolicy};

/// What one container may use where the manifest does not say.
const MEMORY_DEFAULT: u64 = 256 << 20;
const MILLICPUS_DEFAULT: u64 = 1_000;
const PIDS_DEFAULT: u64 = 200;
/// A database keeps a GiB of its log beside its data without being told otherwise, and must not be stopped for that.
const DISK_DEFAULT: u64 = 4 << 30;

/// A service as granted: what every container of it is made from.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ServiceGrant {
    pub service: crate::Id,
    /// As the manifest names it, in full.
    pub image: String,
    pub start: StartMode,
    /// Container ports that are reached by apps.
    pub ports: Vec<u16>,
    /// Host ports the manifest names.
    pub host_ports: Vec<u16>,
    pub egress: bool,
    pub writable_root: bool,
    pub capabilities: Vec<String>,
    pub memory_bytes: u64,
    pub millicpus: u64,
    pub pids: u64,
    pub disk_bytes: u64,
}

impl ServiceGrant {
    pub(super) fn use_in_words(&self) -> String {
        let cpus = f64::from(u32::try_from(self.millicpus).unwrap_or(u32::MAX)) / 1000.0;
        let memory = human_bytes(self.memory_bytes);
        format!("use up to {memory} of memory, {cpus} processors and {} processes in {}", self.pids, self.service)
    }

    fn disk_in_words(&self) -> String {
        let disk = human_bytes(self.disk_bytes);
        format!("take up to {disk} of disk in {}; looked at every few minutes, so a soft limit", self.service)
    }

    /// What it may use, in words, as far as that is no more than the same service might in `before`.
    pub(super) fn no_more_than(&self, before: &ServiceGrant) -> Vec<String> {
        let same = self.service == before.service;
        let no_more =
            self.memory_bytes <= before.memory_bytes && self.millicpus <= before.millicpus && self.pids <= before.pids;
        let words = (same && no_more).then(|| self.use_in_words());
        let disk = (same && self.disk_bytes <= before.disk_bytes).then(|| self.disk_in_words());
        words.into_iter().chain(disk).collect()
    }
}

pub(super) fn services(
    manifest: &Manifest,
    policy: &Policy,
    stands_in: Option<&StandIn>,
    refusals: &mut Vec<Problem>,
    lines: &mut Vec<Line>,
) -> Vec<ServiceGrant> {
    if manifest.may_use_services && manifest.services.is_empty() {
        refusals.push(refusal(
            "capabilities.services",
            "asks to use services, and the manifest declares none",
            "declare them in `services` of addon.json, or remove the line",
        ));
    }
    let policy = &policy.services;
    let mut granted = Vec::new();
    for (place, service) in manifest.services.iter().enumerate() {
        let path = format!("services[{place}]");
        refuse(service, &path, policy, refusals);
        let grant = grant(service, &path, policy, refusals);
        let stands_in = stands_in.filter(|stands_in| stands_in.service == service.name);
        describe(service, &grant, &path, policy, stands_in, lines);
        granted.push(grant);
    }
    if manifest.services.is_empty() {
        let because = "addon.json: no services".to_owned();
        lines.push(Line { may: false, what: "start any container".to_owned(), because });
    } else {
        let because = "built in".to_owned();
        let what = "mount a path of the machine, join its network or processes, or reach the engine".to_owned();
        lines.push(Line { may: false, what, because });
    }
    granted
}

/// What is between services and the machines they run on: no engine keeps them off by itself.
pub(super) fn machine(services: &[ServiceGrant], policy: &ServicePolicy, lines: &mut Vec<Line>) {
    let guarded = policy.engines.iter().all(|engine| engine.guarded);
    for ServiceGrant { service, .. } in services {
        let reach = format!("reach ports of its machine that listen on more than 127.0.0.1, from {service}");
        let (may, what, because) = match &policy.reach {
            Reach::Host if guarded => {
                (false, format!("reach its machine or 169.254.0.0/16 from {service}"), "lodger.toml: engine.guarded")
            }
            Reach::Host => (true, reach, "lodger.toml: no engine.guarded"),
            // No rule tells services from apps there.
            Reach::Network(_) => (true, reach, "lodger.toml: apps.reach is a network that lodger has not made"),
        };
        lines.push(Line { may, what, because: because.to_owned() });
    }
}

fn refuse(service: &Service, path: &str, policy: &ServicePolicy, refusals: &mut Vec<Problem>) {
    let image = &service.image;
    if !policy.admits(image) {
        refusals.push(refusal(
            format!("{path}.image"),
            format!("`{image}` is not among the images the policy lists"),
            format!("add `{}` to images under [grant] in lodger.toml", image.name()),
        ));
    }
    if service.egress && !policy.egress {
        refusals.push(refusal(
            format!("{path}.egress"),
            "the policy lets no service reach the outside",
            "remove the line, or set `egress = true` under [grant] in lodger.toml",
        ));
    }
    for name in service.capabilities.iter().flatten().filter(|name| !policy.capabilities.contains(name)) {
        refusals.push(refusal(
            format!("{path}.capabilities"),
            format!("the policy gives no service {name}"),
            format!("remove it, or add `{name}` to capabilities under [grant] in lodger.toml"),
        ));
    }
    let range = &policy.host_ports;
    for port in service.ports.values().flatten().filter(|port| !range.contains(port)) {
        refusals.push(refusal(
            format!("{path}.ports"),
            format!("host port {port} is outside the policy's {} to {}", range.start(), range.end()),
            "write \"0\" to have one assigned, or widen host_ports under [grant] in lodger.toml",
        ));
    }
}

fn grant(service: &Service, path: &str, policy: &ServicePolicy, refusals: &mut Vec<Problem>) -> ServiceGrant {
    let mut limit = |name: &str, asked: Option<u64>, default: u64, ceiling: u64| match asked {
        Some(asked) if asked > ceiling => {
            refusals.push(refusal(
                format!("{path}.limits.{}", if name == "millicpus" { "cpus" } else { name }),
                format!("asks for {asked}; the policy's ceiling is {ceiling}"),
                format!("lower it, or set `service_{name} = {asked}` under [limits] in lodger.toml"),
            ));
            ceiling
        }
        Some(asked) => asked,
        None => default.min(ceiling),
    };
    ServiceGrant {
        memory_bytes: limit("memory_bytes", service.limits.memory_bytes, MEMORY_DEFAULT, policy.memory_bytes),
        millicpus: limit("millicpus", service.limits.millicpus, MILLICPUS_DEFAULT, policy.millicpus),
        pids: limit("pids", service.limits.pids, PIDS_DEFAULT, policy.pids),
        disk_bytes: limit("disk_bytes", service.limits.disk_bytes, DISK_DEFAULT, policy.disk_bytes),
        service: service.name.clone(),
        image: service.image.to_string(),
        start: service.start,
        ports: service.ports.keys().copied().collect(),
        host_ports: service.ports.values().flatten().copied().collect(),
        egress: service.egress,
        writable_root: service.writable_root,
        capabilities: service.capabilities.clone().unwrap_or_else(|| policy.capabilities.clone()),
    }
}

fn describe(
    service: &Service,
    grant: &ServiceGrant,
    path: &str,
    policy: &ServicePolicy,
    stands_in: Option<&StandIn>,
    lines: &mut Vec<Line>,
) {
    let name = &grant.service;
    let mut add =
        |may, what: String, key: &str| lines.push(Line { may, what, because: format!("addon.json: {path}{key}") });
    let when = match grant.start {
        StartMode::Enable => "while it is enabled",
        StartMode::Provision => "once for every app that uses it",
        StartMode::Manual => "when its hooks ask for it",
    };
    add(true, format!("run the image {} as its service {name}, {when}", grant.image), ".image");
    add(true, grant.use_in_words(), ".limits");
    add(true, grant.disk_in_words(), ".limits.disk_bytes");
    for (port, host) in &service.ports {
        let on = match (&policy.reach, host) {
            (Reach::Network(network), None) => format!("in the network {network}"),
            (_, Some(host)) => format!("on port {host} of {}", policy.addresses()),
            (Reach::Host, None) => format!("on a port of {} that is assigned once", policy.addresses()),
        };
        add(true, format!("be reached at port {port} of {name} {on}"), ".ports");
    }
    for (target, volume) in &service.volumes {
        add(true, format!("keep data of {name} in its volume {volume}, at {target}"), ".volumes");
    }
    if grant.egress {
        add(true, format!("reach the outside from {name}, every host and port of it"), ".egress");
    } else {
        // The line that lets it stand in says what it reaches there.
        let but = stands_in.map(|part| format!(" but through the networks of {}", part.container)).unwrap_or_default();
        add(false, format!("reach the outside from {name}{but}"), ": no egress");
    }
    if grant.writable_root {
        add(true, format!("write anywhere in the containers of {name}"), ".writable_root");
    }
    if !grant.capabilities.is_empty() {
        let capabilities = grant.capabilities.join(", ");
        let what = format!("use {capabilities} of root's powers within the containers of {name}");
        match &service.capabilities {
            Some(_) => add(true, what, ".capabilities"),
            None => add(true, what, ": no capabilities, so those the policy gives"),
        }
    }
    let secrets = &service.secret_files;
    if !secrets.is_empty() {
        let paths: Vec<String> = secrets.iter().map(|secret| secret_file(secret)).collect();
        let files = if let [_] = &paths[..] { "file" } else { "files" };
        let what = format!("hand {} to {name} as the {files} {}", secrets.join(", "), paths.join(", "));
        add(true, what, ".secret_files");
    }
    let names = service.environment.keys().filter(|name| !secrets.contains(name));
    let names: Vec<&str> = names.map(String::as_str).collect();
    if !names.is_empty() {
        let names = names.join(", ");
        let what = format!("hand {names} to {name} in its environment, which whoever may ask the engine can read");
        add(true, what, ".environment");
    }
}
