//! What the operator allows of services: images, ports, capabilities; where engines are, and where apps live.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use hyper::http::uri::Authority;
use serde::Deserialize;

use crate::engine::CAPABILITIES;
use crate::id::Id;
use crate::image::{ImagePattern, ImageRef, is_registry};
use crate::text::shown;

/// What services may be.
#[derive(Clone, Debug)]
pub struct ServicePolicy {
    /// Images an addon may name; `None`: any, once its operator has accepted it by name.
    pub images: Option<Vec<ImagePattern>>,
    /// Images that need no digest. They are pinned by the id of the image the engine has.
    pub unpinned: Vec<ImagePattern>,
    /// Labels an image may carry, beside those that only describe it. `*` at the end stands for the rest.
    pub image_labels: Vec<String>,
    /// Ports of the machine that services are given.
    pub host_ports: RangeInclusive<u16>,
    /// Capabilities a service may ask for.
    pub capabilities: Vec<String>,
    /// Services may ask to reach the outside.
    pub egress: bool,
    /// Ceilings of one container.
    pub memory_bytes: u64,
    pub millicpus: u64,
    pub pids: u64,
    pub disk_bytes: u64,
    pub engines: Vec<EngineAt>,
    pub reach: Reach,
    /// Where ports are published.
    pub address: IpAddr,
    pub registries: BTreeMap<String, Registry>,
}

/// An engine and where it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineAt {
    pub name: Id,
    pub address: Address,
    /// Where services of one on another machine publish their ports, and are reached.
    pub apps_address: Option<IpAddr>,
    /// Free words for a scheduler, such as `region` or `carbon`.
    pub labels: BTreeMap<String, String>,
    /// Its machine's firewall keeps services off the machine, says whoever has set the rules.
    pub guarded: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Socket(PathBuf),
    /// Mutual TLS; the files are PEM.
    Tls {
        address: String,
        key: PathBuf,
        certificate: PathBuf,
        authority: PathBuf,
    },
}

impl EngineAt {
    /// Whether its ports are those of another machine.
    pub fn is_remote(&self) -> bool {
        matches!(self.address, Address::Tls { .. })
    }
}

/// Where apps live, and so what a URL must hold to work for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the machine: services are reached on ports of it.
    Host,
    /// In this network of the engine: services join it and are reached by their names.
    Network(String),
}

/// What is known of a registry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registry {
    /// Asked in its place.
    pub mirror: Option<String>,
    pub user: Option<String>,
    /// Holds the password, and a line end perhaps.
    pub password_file: Option<PathBuf>,
}

impl Default for ServicePolicy {
    fn default() -> Self {
        let socket = Address::Socket("/var/run/docker.sock".into());
        ServicePolicy {
            images: None,
            unpinned: Vec::new(),
            image_labels: Vec::new(),
            host_ports: 16_000..=16_999,
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            egress: false,
            memory_bytes: 2 << 30,
            millicpus: 4_000,
            pids: 4_096,
            disk_bytes: 10 << 30,
            engines: Id::nearest("local")
                .map(|name| EngineAt {
                    name,
                    address: socket,
                    apps_address: None,
                    labels: BTreeMap::new(),
                    guarded: false,
                })
                .into_iter()
                .collect(),
            reach: Reach::Host,
            address: Ipv4Addr::LOCALHOST.into(),
            registries: BTreeMap::new(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Engine {
    name: Id,
    socket: Option<PathBuf>,
    address: Option<String>,
    key: Option<PathBuf>,
    certificate: Option<PathBuf>,
    authority: Option<PathBuf>,
    apps_address: Option<IpAddr>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    guarded: bool,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Apps {
    reach: Option<String>,
    address: Option<IpAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RegistryFile {
    name: String,
    mirror: Option<String>,
    user: Option<String>,
    password_file: Option<PathBuf>,
}

impl ServicePolicy {
    /// Takes over what the file says, and notes in `looser` what is looser than the built-in default.
    pub(super) fn take(
        &mut self,
        grant: super::Grant,
        engines: Vec<Engine>,
        apps: Apps,
        registries: Vec<RegistryFile>,
        looser: &mut Vec<String>,
    ) -> Result<(), String> {
        self.images = grant.images.map(|list| patterns("grant.images", &list)).transpose()?;
        self.unpinned = patterns("grant.unpinned", &grant.unpinned)?;
        looser.extend(grant.unpinned.iter().map(|image| format!("grant.unpinned: `{image}`")));
        looser.extend(grant.image_labels.iter().map(|label| format!("grant.image_labels: `{}`", shown(label, 60))));
        self.image_labels = grant.image_labels;
        if let Some(range) = grant.host_ports {
            self.host_ports = port_range(&range)?;
        }
        if let Some(names) = grant.capabilities {
            if let Some(unknown) = names.iter().find(|name| !CAPABILITIES.contains(&name.as_str())) {
                let known = CAPABILITIES.join(", ");
                return Err(format!("grant.capabilities: `{}` is never given; there are {known}", shown(unknown, 60)));
            }
            self.capabilities = names;
        }
        self.egress = grant.egress;
        if self.egress {
            looser.push("grant.egress: services may reach the outside".to_owned());
        }
        if !engines.is_empty() {
            self.engines = engines.into_iter().map(engine).collect::<Result<_, _>>()?;
        }
        let mut names: Vec<&Id> = self.engines.iter().map(|engine| &engine.name).collect();
        names.sort();
        if let Some([twice, _]) = names.array_windows().find(|[one, other]| one == other) {
            return Err(format!("engine: `{twice}` stands twice"));
        }
        if let Some(reach) = apps.reach {
            self.reach = parse_reach(&reach)?;
        }
        if let Some(address) = apps.address {
            if !address.is_loopback() {
                looser.push(format!("apps.address: services are reached on {address}, not on the loopback"));
            }
            self.address = address;
        }
        for engine in &self.engines {
            if let Some(address) = engine.apps_address {
                looser
                    .push(format!("engine `{}`: services are reached on {address}, not on the loopback", engine.name));
            } else if engine.is_remote() && self.reach == Reach::Host {
                return Err(format!(
                    "engine `{}`: is on another machine: add `apps_address`, the address of that machine where its services are reached",
                    engine.name
                ));
            }
        }
        for registry in registries {
            let (name, entry) = parse_registry(registry)?;
            if self.registries.insert(name.clone(), entry).is_some() {
                return Err(format!("registry: `{name}` stands twice"));
            }
        }
        Ok(())
    }

    /// Where services on an engine publish their ports.
    pub fn address_on(&self, engine: &str) -> IpAddr {
        let at = self.engines.iter().find(|at| at.name.as_str() == engine);
        at.and_then(|at| at.apps_address).unwrap_or(self.address)
    }

    /// Whether what is published at an address of an engine's machine is reached there from this one.
    pub fn reaches(&self, engine: &str, address: IpAddr) -> bool {
        let at = self.engines.iter().find(|at| at.name.as_str() == engine);
        at.is_some_and(|at| !at.is_remote() || at.apps_address == Some(address))
    }

    /// Where services publish their ports, whichever engine they go to.
    pub fn addresses(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        for engine in &self.engines {
            let address = engine.apps_address.unwrap_or(self.address).to_string();
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all.join(" or ")
    }

    pub fn admits(&self, image: &ImageRef) -> bool {
        self.images.as_ref().is_none_or(|list| list.iter().any(|pattern| pattern.matches(image)))
    }

    pub fn may_be_unpinned(&self, image: &ImageRef) -> bool {
        self.unpinned.iter().any(|pattern| pattern.matches(image))
    }

    /// Labels that only describe, and those the policy lists.
    pub fn admits_image_label(&self, label: &str) -> bool {
        const DESCRIBING: [&str; 4] = ["maintainer", "org.opencontainers.image.*", "org.label-schema.*", "description"];
        let matches = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => label.starts_with(start),
            None => label == pattern,
        };
        !label.starts_with("lodger.")
            && (DESCRIBING.iter().any(|pattern| matches(pattern))
                || self.image_labels.iter().any(|pattern| matches(pattern)))
    }
}

fn patterns(key: &str, list: &[String]) -> Result<Vec<ImagePattern>, String> {
    list.iter().map(|text| text.parse().map_err(|error| format!("{key}: {error}"))).collect()
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse(), last.trim().parse()) {
        (Ok(first), Ok(last)) if first >= 1024 && first <= last => Ok(first..=last),
        _ => Err(format!(
            "grant.host_ports: `{}` is no range of ports from 1024 on, as \"16000-16999\"",
            shown(text, 60)
        )),
    }
}

fn engine(raw: Engine) -> Result<EngineAt, String> {
    let name = raw.name;
    let address = match (raw.socket, raw.address, raw.key, raw.certificate, raw.authority) {
        (Some(socket), None, None, None, None) if socket.is_absolute() => Address::Socket(socket),
        (None, Some(address), Some(key), Some(certificate), Some(authority)) => {
            if tls_address(&address).is_none() {
                let address = shown(&address, 60);
                return Err(format!("engine `{name}`: `{address}` is no `address`: that is HOST:PORT, over TLS"));
            }
            Address::Tls { address, key, certificate, authority }
        }
        (None, Some(_), ..) => {
            return Err(format!(
                "engine `{name}`: over plain TCP whoever reaches its `address` has the machine: add `key`, `certificate` and `authority` for mutual TLS, or use `socket`"
            ));
        }
        _ => {
            return Err(format!(
                "engine `{name}`: needs either `socket`, an absolute path, or `address` with `key`, `certificate` and `authority`"
            ));
        }
    };
    let Engine { apps_address, labels, guarded, .. } = raw;
    let at = EngineAt { name, address, apps_address, labels, guarded };
    match at.apps_address {
        Some(_) if !at.is_remote() => Err(format!(
            "engine `{}`: `apps_address` is for one with `address`; services of this one are where [apps] says",
            at.name
        )),
        Some(address) if address.is_loopback() || address.is_unspecified() => {
            Err(format!("engine `{}`: `apps_address` {address} does not lead to another machine", at.name))
        }
        _ => Ok(at),
    }
}

/// The host and port of an engine over TLS; `tcp://` and `https://` before them say the same.
pub(crate) fn tls_address(text: &str) -> Option<Authority> {
    let at = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
    let at: Authority = at.parse().ok()?;
    (!at.as_str().contains('@') && !at.host().is_empty() && at.port_u16().is_some_and(|port| port > 0)).then_some(at)
}

fn parse_reach(text: &str) -> Result<Reach, String> {
    let word = |name: &&str| {
        (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
    };
    match text.strip_prefix("network:").filter(word) {
        Some(name) => Ok(Reach::Network(name.to_owned())),
        None if text == "host" => Ok(Reach::Host),
        None => Err(format!("apps.reach: `{}` is neither \"host\" nor \"network:NAME\"", shown(text, 60))),
    }
}

fn parse_registry(raw: RegistryFile) -> Result<(String, Registry), String> {
    let name = shown(&raw.name, 60);
    for registry in [Some(&raw.name), raw.mirror.as_ref()].into_iter().flatten() {
        if !is_registry(registry) {
            return Err(format!("registry `{name}`: `{}` is no host name with or without a port", shown(registry, 60)));
        }
    }
    if raw.user.is_some() != raw.password_file.is_some() {
        return Err(format!("registry `{name}`: `user` and `password_file` come together"));
    }
    Ok((raw.name, Registry { mirror: raw.mirror, user: raw.user, password_file: raw.password_file }))
}
