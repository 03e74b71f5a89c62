//! What Docker answers, in the words of [`engine`](crate::engine). Fields may be missing: Podman leaves some out.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};

use bollard::errors::Error;
use bollard::models::{
    ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
    EndpointSettings, EventMessage, ImageInspect, PortMap, PortSummary, PortSummaryTypeEnum, SystemInfo,
};

use super::tls;
use crate::engine::{Container, Event, Fault, Image, Published, Status, Volume};
use crate::text::shown;

/// Longest message of an engine that is passed on, in bytes.
pub const MESSAGE_MAX: usize = 1000;
/// Longest word, such as the action of an event.
const WORD_MAX: usize = 100;
/// How much of an id Docker gives a container as a name.
const ID_CUT: usize = 12;
/// What engines say of what is taken, or is not as it must be, where they blame themselves: first Docker of ports, then
/// Podman of the name of a container and of a network, of a network in use, and of a container that does not run.
const TAKEN: [&str; 6] = [
    "port is already allocated",
    "address already in use",
    "name is already in use",
    "network already exists",
    "network is being used",
    "container state improper",
];

/// What went wrong, and what the engine says about it.
pub fn fault(error: &Error, at: &str) -> (Fault, String) {
    let (fault, message) = match error {
        error if let Some(why) = tls::disbelief(error) => (Fault::Untrusted, format!("{at} {why}")),
        Error::DockerResponseServerError { status_code, message } => (status(*status_code, message), message.clone()),
        Error::DockerStreamError { error } => (said(error), error.clone()),
        Error::RequestTimeoutError => (Fault::TimedOut, "it did not answer in time".to_owned()),
        Error::SocketNotFoundError(_) => (Fault::Unreachable, format!("{at} is not there")),
        Error::IOError { .. } | Error::HyperLegacyError { .. } | Error::HyperResponseError { .. } => {
            (Fault::Unreachable, format!("{at} does not answer: {}", innermost(error)))
        }
        other => (Fault::Refused, innermost(other)),
    };
    (fault, shown(message.trim(), MESSAGE_MAX))
}

fn status(code: u16, message: &str) -> Fault {
    match code {
        // Docker's words, those of its newer versions, and Podman's.
        _ if ["IPv4 address pool among the defaults", "pools have been fully subnetted", "from subnet pools"]
            .iter()
            .any(|words| message.contains(words)) =>
        {
            Fault::NoAddresses
        }
        // Not an engine, or one that lacks the request: nothing is known about what was asked for.
        404 if message.contains("page not found") => Fault::Refused,
        404 => Fault::NotFound,
        409 => Fault::Conflict,
        // Docker's answer to removing a network that is in use.
        403 if message.contains("active endpoints") => Fault::Conflict,
        // And to making one that somebody else is making.
        403 if message.contains("networks have same bridge name") => Fault::Conflict,
        // Another version runs there since the last request: the next one is made in its words.
        400 if message.contains("client version") => Fault::Unreachable,
        500.. if TAKEN.iter().any(|words| message.contains(words)) => Fault::Conflict,
        _ => Fault::Refused,
    }
}

/// Pulls tell their failures in words only.
fn said(message: &str) -> Fault {
    let message = message.to_ascii_lowercase();
    let missing = ["manifest unknown", "not found", "does not exist", "no such image", "name unknown"];
    if missing.iter().any(|word| message.contains(word)) { Fault::NotFound } else { Fault::Refused }
}

/// The last of a chain of causes says what happened; the ones before say who passed it on.
fn innermost(error: &Error) -> String {
    let mut cause = error.source();
    let mut last = error.to_string();
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    last
}

pub fn image(found: ImageInspect) -> Option<Image> {
    let config = found.config.unwrap_or_default();
    let mut volumes = config.volumes.unwrap_or_default();
    volumes.sort();
    Some(Image {
        id: whole_id(found.id?),
        digests: found.repo_digests.unwrap_or_default(),
        architecture: architecture(found.architecture),
        labels: sorted(config.labels),
        volumes,
    })
}

/// Podman leaves out what kind of digest an image's id is.
fn whole_id(id: String) -> String {
    if id.contains(':') { id } else { format!("sha256:{id}") }
}

pub fn architecture(name: Option<String>) -> String {
    match name.as_deref() {
        Some("x86_64") => "amd64".to_owned(),
        Some("aarch64") => "arm64".to_owned(),
        other => other.unwrap_or_default().to_owned(),
    }
}

pub fn is_rootless(info: &SystemInfo) -> bool {
    let options = info.security_options.iter().flatten();
    options.flat_map(|option| option.split(',')).any(|word| matches!(word, "name=rootless" | "name=userns"))
}

pub fn container(found: ContainerInspectResponse) -> Option<Container> {
    let config = found.config.unwrap_or_default();
    let settings = found.network_settings.unwrap_or_default();
    // Before it runs a container has no ports, but it was told which it will have.
    let ports = settings.ports.filter(|ports| !ports.is_empty());
    let id = found.id?;
    Some(Container {
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image: whole_id(found.image.unwrap_or_default()),
        labels: sorted(config.labels),
        status: found.state.map_or(Status::Other, |state| state_now(&state)),
        aliases: aliases(settings.networks.as_ref(), &id),
        networks: addresses(settings.networks),
        id,
        goes_at_end: found.host_config.as_ref().and_then(|host| host.auto_remove).unwrap_or_default(),
        ports: bound(ports.or(found.host_config.and_then(|host| host.port_bindings))),
    })
}

fn state_now(state: &ContainerState) -> Status {
    match state.status {
        Some(ContainerStateStatusEnum::CREATED) => Status::Created,
        Some(ContainerStateStatusEnum::RUNNING) => Status::Running,
        Some(ContainerStateStatusEnum::EXITED) => Status::Exited(state.exit_code),
        _ => Status::Other,
    }
}

pub fn listed(found: ContainerSummary) -> Option<Container> {
    // Other names are those that linked containers have for it.
    let mut names = found.names.unwrap_or_default().into_iter().map(|name| name.trim_start_matches('/').to_owned());
    Some(Container {
        id: found.id?,
        name: names.find(|name| !name.contains('/')).unwrap_or_default(),
        image: whole_id(found.image_id.unwrap_or_default()),
        labels: sorted(found.labels),
        status: match found.state {
            Some(ContainerSummaryStateEnum::CREATED) => Status::Created,
            Some(ContainerSummaryStateEnum::RUNNING) => Status::Running,
            Some(ContainerSummaryStateEnum::EXITED) => Status::Exited(None),
            _ => Status::Other,
        },
        networks: addresses(found.network_settings.and_then(|settings| settings.networks)),
        aliases: BTreeMap::new(),
        goes_at_end: false,
        ports: in_order(found.ports.into_iter().flatten().filter_map(|port| published(&port)).collect()),
    })
}

fn addresses(networks: Option<HashMap<String, EndpointSettings>>) -> BTreeMap<String, Option<IpAddr>> {
    let address = |endpoint: EndpointSettings| endpoint.ip_address.and_then(|ip| ip.parse().ok());
    networks.into_iter().flatten().map(|(name, endpoint)| (name, address(endpoint))).collect()
}

/// Newer versions tell what they answer to apart from what they were told. The beginning of its id is among both, which is
/// nobody else's name.
fn aliases(networks: Option<&HashMap<String, EndpointSettings>>, id: &str) -> BTreeMap<String, Vec<String>> {
    let is_id = |name: &str| name.len() >= ID_CUT && id.starts_with(name);
    let names = |endpoint: &EndpointSettings| {
        let told = endpoint.aliases.iter().chain(&endpoint.dns_names).flatten();
        let mut names: Vec<String> = told.filter(|name| !is_id(name)).cloned().collect();
        names.sort();
        names.dedup();
        names
    };
    let all = networks.into_iter().flatten().map(|(network, endpoint)| (network.clone(), names(endpoint)));
    all.filter(|(_, names)| !names.is_empty()).collect()
}

fn bound(ports: Option<PortMap>) -> Vec<Published> {
    let mut all = Vec::new();
    for (port, bindings) in ports.into_iter().flatten() {
        let Some(container_port) = port.strip_suffix("/tcp").and_then(|port| port.parse().ok()) else { continue };
        for binding in bindings.into_iter().flatten() {
            let ip = binding.host_ip.and_then(|ip| host_ip(&ip));
            let port = binding.host_port.and_then(|port| port.parse::<u16>().ok());
            if let (Some(ip), Some(port)) = (ip, port) {
                all.push(Published { container_port, host: SocketAddr::new(ip, port) });
            }
        }
    }
    in_order(all)
}

fn published(port: &PortSummary) -> Option<Published> {
    if port.typ != Some(PortSummaryTypeEnum::TCP) {
        return None;
    }
    let ip = host_ip(port.ip.as_deref().unwrap_or_default())?;
    Some(Published { container_port: port.private_port, host: SocketAddr::new(ip, port.public_port?) })
}

/// Podman says nothing where it means every address.
fn host_ip(text: &str) -> Option<IpAddr> {
    if text.is_empty() { Some(IpAddr::from([0, 0, 0, 0])) } else { text.parse().ok() }
}

fn in_order(mut ports: Vec<Published>) -> Vec<Published> {
    ports.sort_by_key(|port| (port.container_port, port.host));
    ports.dedup();
    ports
}

pub fn volume(found: bollard::models::Volume) -> Volume {
    Volume { name: found.name, labels: found.labels.into_iter().collect() }
}

/// Commands run in a container, by us or by its health check, are not events of it, and their action has the command.
pub fn event(message: EventMessage) -> Option<Event> {
    let action = message.action?;
    if action.starts_with("exec_") || action.starts_with("health_status") {
        return None;
    }
    // Podman's word for what Docker calls the end of a container.
    let action = if action == "remove" { "destroy" } else { &action };
    Some(Event { container: shown(&message.actor?.id?, WORD_MAX), action: shown(action, WORD_MAX) })
}

pub fn sorted(labels: Option<HashMap<String, String>>) -> BTreeMap<String, String> {
    labels.unwrap_or_default().into_iter().collect()
}
