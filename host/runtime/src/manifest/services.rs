//! The services of a manifest: container images with what they need, checked. What of it is admitted is the grant's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::raw::{self, Raw};
use super::rules::Found;
use crate::engine::CAPABILITIES;
use crate::env;
use crate::id::Id;
use crate::image::ImageRef;
use crate::text::{is_plain, shown};

pub use super::raw::StartMode;

/// Services, volumes, networks, ports, labels, variables of one manifest or service, each.
const LIST_MAX: usize = 64;
const VALUE_MAX: usize = 4096;
const ARGUMENTS_MAX: usize = 256;
const READY_DEFAULT_MS: u64 = 30_000;
const READY_MAX_MS: u64 = 600_000;
/// Where a container has its secret files. The official images look here.
pub const SECRETS_DIR: &str = "/run/secrets";

/// A container image the addon declares, and how its containers are made.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: Id,
    /// `service_name` as written; siblings know the service by it too.
    pub declared_name: String,
    pub image: ImageRef,
    /// Replaces the image's own command.
    pub command: Option<Vec<String>>,
    /// A setting of the same name overrides the value; a guest may set the value of a service it starts.
    pub environment: BTreeMap<String, String>,
    /// Names of `environment` whose values are not put there but into files, as [`secret_file`] and [`file_variable`] say.
    pub secret_files: Vec<String>,
    /// The author's labels; the host puts `lodger.x.` before each.
    pub labels: BTreeMap<String, String>,
    /// Container port to host port; `None` is assigned once and kept.
    pub ports: BTreeMap<u16, Option<u16>>,
    /// Path in the container to declared volume.
    pub volumes: BTreeMap<String, String>,
    /// Declared networks; none means the addon's own.
    pub networks: Vec<String>,
    pub start: StartMode,
    pub ready: Option<Ready>,
    /// The container itself reaches the outside.
    pub egress: bool,
    /// The container may write outside its volumes, `/tmp` and `/run`.
    pub writable_root: bool,
    /// `None` has those the policy gives.
    pub capabilities: Option<Vec<String>>,
    pub limits: ServiceLimits,
}

/// When a service that runs also serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    pub probe: Probe,
    pub timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// This command, run in the container, exits with 0.
    Exec(Vec<String>),
    /// The port takes a connection and holds it.
    Port(u16),
}

/// What one container may use; `None` has the default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServiceLimits {
    pub memory_bytes: Option<u64>,
    pub millicpus: Option<u64>,
    pub pids: Option<u64>,
    /// What it has written outside of volumes, and its volumes.
    pub disk_bytes: Option<u64>,
}

pub(super) fn check(found: &mut Found, raw: &Raw) -> Vec<Service> {
    found.at_most("services", &raw.services, LIST_MAX);
    found.at_most("volumes", &raw.volumes, LIST_MAX);
    found.at_most("networks", &raw.networks, LIST_MAX);
    found.unique("volumes", raw.volumes.iter().map(|volume| &volume.name));
    found.unique("networks", raw.networks.iter().map(raw::Network::name));
    for (place, volume) in raw.volumes.iter().enumerate() {
        let path = format!("volumes[{place}]");
        plain_driver(found, &path, "local", volume.driver.as_deref(), &volume.driver_opts.0);
        if !volume.labels.0.is_empty() {
            found.add_with_hint(format!("{path}.labels"), "volumes carry the host's labels alone", "remove the line");
        }
    }
    for (place, network) in raw.networks.iter().enumerate() {
        if let raw::Network::Full(network) = network {
            let path = format!("networks[{place}]");
            plain_driver(found, &path, "bridge", network.driver.as_deref(), &network.driver_opts.0);
            if network.enable_ipv6 {
                let message = "networks of services have no addresses of IPv6";
                found.add_with_hint(format!("{path}.enable_ipv6"), message, "remove the line");
            }
        }
    }
    let mut services: Vec<Service> = Vec::new();
    for (place, service) in raw.services.iter().enumerate() {
        let path = format!("services[{place}]");
        if let Some(service) = one(found, raw, &path, service) {
            if services.iter().any(|other| other.name == service.name) {
                found.add(format!("{path}.service_name"), format!("`{}` stands twice", service.name));
            }
            services.push(service);
        }
    }
    services
}

/// Another driver, or an option of this one, may reach any path or network of the machine.
fn plain_driver(found: &mut Found, path: &str, only: &str, asked: Option<&str>, options: &BTreeMap<String, String>) {
    if let Some(driver) = asked.filter(|&driver| driver != only) {
        let message = format!("driver `{}` is not used; only `{only}` is", shown(driver, 40));
        found.add_with_hint(format!("{path}.driver"), message, "remove the line");
    }
    if !options.is_empty() {
        found.add_with_hint(
            format!("{path}.driver_opts"),
            format!("`{only}` is used without options"),
            "remove the line",
        );
    }
}

fn one(found: &mut Found, raw: &Raw, path: &str, service: &raw::Service) -> Option<Service> {
    let name = Id::nearest(&service.service_name);
    if name.is_none() {
        found.add(format!("{path}.service_name"), "holds no letter or digit to make an id of");
    }
    let image = found.parse::<ImageRef>(&format!("{path}.image"), &service.image);
    for network in &service.networks {
        if !raw.networks.iter().any(|declared| declared.name() == network) {
            found.add_with_hint(
                format!("{path}.networks"),
                format!("network `{}` is not declared", shown(network, 60)),
                "declare it in `networks`",
            );
        }
    }
    found.unique(&format!("{path}.networks"), &service.networks);
    capabilities(found, &format!("{path}.capabilities"), service.capabilities.as_deref().unwrap_or_default());
    Some(Service {
        declared_name: service.service_name.clone(),
        command: command(found, &format!("{path}.command"), service.command.as_ref()),
        environment: environment(found, &format!("{path}.environment"), &service.environment.0),
        secret_files: secret_files(found, path, service),
        labels: labels(found, &format!("{path}.labels"), &service.labels.0),
        ports: ports(found, &format!("{path}.ports"), service),
        volumes: volumes(found, raw, &format!("{path}.volumes"), service),
        networks: service.networks.clone(),
        start: service.start,
        ready: ready(found, &format!("{path}.ready"), service.ready.as_ref()),
        egress: service.egress,
        writable_root: service.writable_root,
        capabilities: service.capabilities.clone(),
        limits: limits(found, &format!("{path}.limits"), &service.limits),
        name: name?,
        image: image?,
    })
}

fn command(found: &mut Found, path: &str, command: Option<&raw::Command>) -> Option<Vec<String>> {
    let words = match command? {
        raw::Command::Words(words) => words.clone(),
        raw::Command::Line(line) => match shell_words::split(line) {
            Ok(words) => words,
            Err(error) => {
                found.add(path, format!("{error}; or give it as a list"));
                return None;
            }
        },
    };
    arguments(found, path, &words);
    (!words.is_empty()).then_some(words)
}

fn arguments(found: &mut Found, path: &str, words: &[String]) {
    found.at_most(path, words, ARGUMENTS_MAX);
    if words.iter().any(|word| word.len() > VALUE_MAX || word.contains('\0')) {
        found.add(path, format!("an argument holds NUL or over {VALUE_MAX} bytes"));
    }
}

fn environment(found: &mut Found, path: &str, map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    if map.len() > LIST_MAX {
        found.add(path, format!("at most {LIST_MAX} entries"));
    }
    for (name, value) in map {
        let path = format!("{path}.{}", shown(name, 40));
        // Names of the container's own world, where `PATH` may mean what it likes.
        if !env::is_well_formed(&name.to_ascii_uppercase()) {
            found.add(path, "names are letters, digits and underscores");
        } else if value.len() > VALUE_MAX || value.contains('\0') {
            found.add(path, format!("the value holds NUL or over {VALUE_MAX} bytes"));
        }
    }
    map.clone()
}

/// The file that a secret is handed over in.
pub(crate) fn secret_file(name: &str) -> String {
    format!("{SECRETS_DIR}/{name}")
}

/// The variable that says where: the official images of databases read it so.
pub(crate) fn file_variable(name: &str) -> String {
    format!("{name}_FILE")
}

fn secret_files(found: &mut Found, path: &str, service: &raw::Service) -> Vec<String> {
    let names = &service.secret_files;
    found.unique(&format!("{path}.secret_files"), names);
    for (place, name) in names.iter().enumerate() {
        let variable = file_variable(name);
        if !service.environment.0.contains_key(name) {
            found.add_with_hint(
                format!("{path}.secret_files[{place}]"),
                format!("`{}` is not in the service's `environment`", shown(name, 60)),
                "declare it there, with \"\" where a setting or a hook gives the value",
            );
        } else if service.environment.0.contains_key(&variable) {
            found.add_with_hint(
                format!("{path}.environment.{}", shown(&variable, 60)),
                format!("says where the secret file `{}` is, which the host sets", shown(name, 60)),
                "remove the line",
            );
        }
    }
    names.clone()
}

fn labels(found: &mut Found, path: &str, map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    if map.len() > LIST_MAX {
        found.add(path, format!("at most {LIST_MAX} entries"));
    }
    for (name, value) in map {
        if name.is_empty() || name.len() > 128 || value.len() > VALUE_MAX || !is_plain(name) || !is_plain(value) {
            found.add(path, format!("label `{}` is empty, too long, or holds control characters", shown(name, 40)));
        }
    }
    map.clone()
}

fn ports(found: &mut Found, path: &str, service: &raw::Service) -> BTreeMap<u16, Option<u16>> {
    let mut ports = BTreeMap::new();
    for (container, host) in &service.ports.0 {
        let path = format!("{path}.{}", shown(container, 20));
        let container = container.strip_suffix("/tcp").unwrap_or(container);
        let container = container.parse::<u16>().ok().filter(|&port| port > 0);
        let host = host.number().and_then(|port| u16::try_from(port).ok());
        let (Some(container), Some(host)) = (container, host) else {
            found.add_with_hint(
                path,
                "a port is a TCP container port and a host port",
                "write \"6379\": \"0\" for a host port that is assigned once and kept",
            );
            continue;
        };
        if host != 0 && service.start == StartMode::Provision {
            found.add_with_hint(path.clone(), "each resource needs a host port of its own", "write \"0\"");
        }
        if ports.insert(container, (host != 0).then_some(host)).is_some() {
            found.add(path, format!("port {container} stands twice"));
        }
    }
    if ports.len() > LIST_MAX {
        found.add(path, format!("at most {LIST_MAX} entries"));
    }
    ports
}

fn volumes(found: &mut Found, raw: &Raw, path: &str, service: &raw::Service) -> BTreeMap<String, String> {
    let mut volumes = BTreeMap::new();
    let mut names = BTreeSet::new();
    for (at, volume) in service.volumes.iter().enumerate() {
        let path = format!("{path}[{at}]");
        let (name, target) = volume.split_once(':').unwrap_or((volume, ""));
        if name.starts_with(['/', '.', '~']) {
            found.add_with_hint(path, "a host path is never mounted", "declare a volume in `volumes` and name it here");
        } else if !raw.volumes.iter().any(|volume| volume.name == name) {
            let message = format!("volume `{}` is not declared", shown(name, 60));
            found.add_with_hint(path, message, "declare it in `volumes`");
        } else if !is_mount_point(target) {
            let message = format!("`{}` is no absolute path of the container", shown(target, 60));
            found.add_with_hint(path, message, "write \"volume:/path\"");
        } else if !service.secret_files.is_empty() && Path::new(target).starts_with(SECRETS_DIR) {
            let message = format!("{SECRETS_DIR} is where the files of `secret_files` are");
            found.add_with_hint(path, message, "mount the volume at another path");
        } else if !names.insert(name) || volumes.insert(target.to_owned(), name.to_owned()).is_some() {
            found.add(path, "the volume or the path stands twice");
        }
    }
    volumes
}

/// An absolute path without `.`, `..`, empty parts, options and whatever acts on a terminal, and not the root or a part
/// of the kernel.
pub(crate) fn is_mount_point(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let mut parts = rest.split('/');
    let kernel = ["proc", "sys", "dev"].iter().any(|name| rest == *name || rest.starts_with(&format!("{name}/")));
    path.len() <= 255
        && !kernel
        && is_plain(path)
        && !path.contains([':', ','])
        && parts.all(|part| !matches!(part, "" | "." | ".."))
}

fn ready(found: &mut Found, path: &str, ready: Option<&raw::Ready>) -> Option<Ready> {
    let ready = ready?;
    let ms = ready.timeout_ms.unwrap_or(READY_DEFAULT_MS);
    if ms == 0 || ms > READY_MAX_MS {
        found.add(format!("{path}.timeout_ms"), format!("must be 1 to {READY_MAX_MS}"));
    }
    let probe = match (&ready.exec, ready.port) {
        (Some(command), None) if !command.is_empty() => {
            arguments(found, path, command);
            Probe::Exec(command.clone())
        }
        (None, Some(port)) if port > 0 => Probe::Port(port),
        _ => {
            found.add(path, "needs either `exec`, a command, or `port`");
            return None;
        }
    };
    Some(Ready { probe, timeout: Duration::from_millis(ms) })
}

fn capabilities(found: &mut Found, path: &str, names: &[String]) {
    found.unique(path, names);
    for name in names.iter().filter(|name| !CAPABILITIES.contains(&name.as_str())) {
        found.add(path, format!("`{}` is never given; there are {}", shown(name, 40), CAPABILITIES.join(", ")));
    }
}

fn limits(found: &mut Found, path: &str, limits: &raw::ServiceLimits) -> ServiceLimits {
    // Below this the engine itself refuses.
    if limits.memory_bytes.is_some_and(|bytes| bytes < 6 << 20) {
        found.add(format!("{path}.memory_bytes"), "must be 6291456 or more");
    }
    for (name, value) in [("pids", limits.pids), ("disk_bytes", limits.disk_bytes)] {
        if value == Some(0) {
            found.add(format!("{path}.{name}"), "must be above 0");
        }
    }
    let millicpus = limits.cpus.map(|cpus| {
        if !(0.01..=1024.0).contains(&cpus) {
            found.add(format!("{path}.cpus"), "must be 0.01 to 1024");
        }
        (cpus * 1000.0).round() as u64
    });
    ServiceLimits { memory_bytes: limits.memory_bytes, millicpus, pids: limits.pids, disk_bytes: limits.disk_bytes }
}
