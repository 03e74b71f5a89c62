//! What is asked of Docker: containers, networks and helpers in its words. Everything that is not set here is Docker's
//! default for an unprivileged container: its seccomp profile, no devices, namespaces of its own.
//!
//! What is allowed was decided before. What is refused here would turn a mistake made there into a hole: a limit of
//! nothing is no limit to Docker, and the name of a network can be `host`.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, EndpointSettings, HealthConfig, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, NetworkCreateRequest, NetworkingConfig, PortBinding, ResourcesUlimits, RestartPolicy,
    RestartPolicyNameEnum, VolumeCreateRequest,
};

use crate::engine::{
    BRIDGES, CAPABILITIES, ContainerSpec, FILES_MAX, Helper, LOG_FILE_BYTES, LOG_FILES, NetworkSpec, OWN_NETWORKS,
    Reach, SCRATCH_BYTES,
};

/// Where a helper has the volume it is made for.
pub const HELPER_MOUNT: &str = "/volume";

/// The longest host name Linux takes, less one.
const HOST_NAME_MAX: usize = 63;

/// Whether Docker takes this as the name of a container, network or volume, or as an id, and as nothing else. Names go
/// into the path of a request; a part of an id is one for Docker as well.
pub fn is_name(name: &str) -> bool {
    let cut_id = name.len() < 64 && name.bytes().all(|c| c.is_ascii_hexdigit());
    let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'));
    plain && !cut_id && name.len() <= 255 && name.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
}

/// Whether this is a reference to an image or its id, and nothing else to the path of a request.
pub fn is_image(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.');
    let part = |part: &str| {
        part.bytes().next().is_some_and(|c| c.is_ascii_alphanumeric())
            && part.bytes().all(|c| plain(c) || matches!(c, b':' | b'@'))
    };
    let cut_id = name.len() < 64 && name.bytes().all(|c| c.is_ascii_hexdigit());
    !cut_id && name.len() <= 512 && name.split('/').all(part)
}

/// A reference with a tag. Docker fetches every tag of one that has neither tag nor digest.
pub fn with_tag(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

/// The registry a reference is fetched from, by Docker's rule: the first part, if it looks like a host.
pub fn registry(name: &str) -> &str {
    match name.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

pub fn container(spec: &ContainerSpec) -> Result<ContainerCreateBody, String> {
    if spec.memory_bytes == 0 || spec.nano_cpus == 0 || spec.pids == 0 {
        return Err("a container needs limits of memory, processors and processes".to_owned());
    }
    if let Some(other) = spec.capabilities.iter().find(|given| !CAPABILITIES.contains(&given.as_str())) {
        return Err(format!("the capability {other} is never given"));
    }
    for name in spec.networks.keys().chain(spec.volumes.keys()).chain(spec.read_only_volumes.keys()) {
        if !is_name(name) {
            return Err(format!("`{name}` is not the name of a network or volume"));
        }
    }
    if let Some(name) = spec.networks.keys().find(|name| OWN_NETWORKS.contains(&name.as_str())) {
        return Err(format!("the network `{name}` is the engine's own"));
    }
    let first = spec.networks.iter().next();
    let endpoints = first.map(|(network, aliases)| HashMap::from([(network.clone(), endpoint(aliases))]));
    Ok(ContainerCreateBody {
        hostname: Some(host_name(&spec.name)),
        image: Some(spec.image.clone()),
        cmd: spec.command.clone(),
        env: Some(spec.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        labels: Some(spec.labels.clone().into_iter().collect()),
        exposed_ports: Some(spec.ports.iter().map(|port| format!("{}/tcp", port.container_port)).collect()),
        // The host finds out itself whether a service is ready; an image's own check would run for nobody.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host_config(spec)?),
        networking_config: Some(NetworkingConfig { endpoints_config: endpoints }),
        ..ContainerCreateBody::default()
    })
}

fn host_config(spec: &ContainerSpec) -> Result<HostConfig, String> {
    let mut ports: HashMap<String, Option<Vec<PortBinding>>> = HashMap::new();
    for port in &spec.ports {
        let binding =
            PortBinding { host_ip: Some(port.host.ip().to_string()), host_port: Some(port.host.port().to_string()) };
        let bindings = ports.entry(format!("{}/tcp", port.container_port)).or_default();
        bindings.get_or_insert_default().push(binding);
    }
    let memory = number(spec.memory_bytes)?;
    Ok(HostConfig {
        mounts: Some(mounts(spec)),
        tmpfs: Some(spec.scratch.iter().map(|path| (path.clone(), scratch())).collect()),
        network_mode: Some(spec.networks.keys().next().map_or("none", String::as_str).to_owned()),
        port_bindings: Some(ports),
        publish_all_ports: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(spec.capabilities.clone()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        privileged: Some(false),
        ipc_mode: Some("private".to_owned()),
        readonly_rootfs: Some(spec.read_only),
        memory: Some(memory),
        // Memory and swap together: none of it is swap.
        memory_swap: Some(memory),
        nano_cpus: Some(number(spec.nano_cpus)?),
        pids_limit: Some(number(spec.pids)?),
        shm_size: Some(number(SCRATCH_BYTES)?),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            soft: Some(number(FILES_MAX)?),
            hard: Some(number(FILES_MAX)?),
        }]),
        log_config: Some(HostConfigLogConfig {
            typ: Some("json-file".to_owned()),
            config: Some(HashMap::from([
                ("max-size".to_owned(), LOG_FILE_BYTES.to_string()),
                ("max-file".to_owned(), LOG_FILES.to_string()),
            ])),
        }),
        // Reconciling restarts, and counts.
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        // Images bring the first process they were built for, some an init that insists on being it; the engine's own is a
        // package that may not be there. What nobody reaps counts against the limit of processes.
        init: Some(false),
        ..HostConfig::default()
    })
}

fn mounts(spec: &ContainerSpec) -> Vec<Mount> {
    let written = spec.volumes.iter().map(|(volume, path)| mount(volume, path));
    let read = spec.read_only_volumes.iter().map(|(volume, path)| Mount {
        read_only: Some(true),
        volume_options: Some(without_copy()),
        ..mount(volume, path)
    });
    written.chain(read).collect()
}

/// Docker fills a new volume with what the image has at that path, and gives it its owner: without the capability to
/// change owners a service could not write to it otherwise.
fn mount(volume: &str, path: &str) -> Mount {
    Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(path.to_owned()),
        read_only: Some(false),
        ..Mount::default()
    }
}

fn without_copy() -> MountVolumeOptions {
    MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }
}

/// Open to whichever user the image runs as, like `/tmp`.
fn scratch() -> String {
    format!("rw,noexec,nosuid,nodev,size={SCRATCH_BYTES},mode=1777")
}

pub fn endpoint(aliases: &[String]) -> EndpointSettings {
    EndpointSettings { aliases: Some(aliases.to_vec()), ..EndpointSettings::default() }
}

fn host_name(name: &str) -> String {
    name.chars().take(HOST_NAME_MAX).collect::<String>().trim_end_matches(['-', '.', '_']).to_owned()
}

fn number(value: u64) -> Result<i64, String> {
    i64::try_from(value).map_err(|_| format!("a limit of {value} is too large"))
}

pub fn network(spec: &NetworkSpec) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some("bridge".to_owned()),
        internal: Some(spec.reach == Reach::Internal),
        attachable: Some(false),
        enable_ipv6: Some(false),
        options: Some(network_options(spec)),
        labels: Some(spec.labels.clone().into_iter().collect()),
        ..NetworkCreateRequest::default()
    }
}

/// Podman takes this option, and does not tell it of a network that is there.
pub const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// Off, containers of a network do not reach each other.
pub const ICC: &str = "com.docker.network.bridge.enable_icc";

/// Containers of an internal network are there for each other; those of the others only share a bridge.
pub fn network_options(spec: &NetworkSpec) -> HashMap<String, String> {
    let off = |option: &str| (option.to_owned(), "false".to_owned());
    let mut options = match spec.reach {
        Reach::Internal => HashMap::new(),
        Reach::Edge => HashMap::from([off(ICC), off("com.docker.network.bridge.enable_ip_masquerade")]),
        Reach::Outside => HashMap::from([off(ICC)]),
    };
    options.insert(BRIDGE_NAME.to_owned(), bridge(&spec.name));
    options
}

/// The name of a network's Linux interface: always the same, and of the 15 bytes that Linux takes at most.
fn bridge(network: &str) -> String {
    let hash = blake3::hash(network.as_bytes());
    let letters = hash.as_bytes().iter().take(15 - BRIDGES.len()).map(|byte| char::from(b'a' + byte % 26));
    BRIDGES.chars().chain(letters).collect()
}

pub fn volume(name: &str, labels: &BTreeMap<String, String>) -> VolumeCreateRequest {
    VolumeCreateRequest {
        name: Some(name.to_owned()),
        driver: Some("local".to_owned()),
        labels: Some(labels.clone().into_iter().collect()),
        ..VolumeCreateRequest::default()
    }
}

pub fn helper(volume: &str, helper: &Helper) -> ContainerCreateBody {
    let mount = Mount {
        // What the image has there is nobody's data.
        volume_options: Some(without_copy()),
        ..mount(volume, HELPER_MOUNT)
    };
    ContainerCreateBody {
        image: Some(helper.image.clone()),
        // An image need not have a command; a container must.
        cmd: Some(vec!["never-started".to_owned()]),
        labels: Some(helper.labels.clone().into_iter().collect()),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".to_owned()),
            cap_drop: Some(vec!["ALL".to_owned()]),
            security_opt: Some(vec!["no-new-privileges".to_owned()]),
            readonly_rootfs: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_nothing_else_in_a_path() {
        let id = "0123456789abcdef".repeat(4);
        for good in ["lodger-redis-0a1b", "a.b_c", id.as_str()] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a?b", "a%2fb", "container:x", "cafe", "a b", "ä"] {
            assert!(!is_name(bad), "{bad}");
        }
        for good in ["docker.io/library/redis:7", "127.0.0.1:5000/a/b@sha256:00", "sha256:00"] {
            assert!(is_image(good), "{good}");
        }
        for bad in ["", "a//b", "a/../b", "cafe", "a?b", "/a", "a/", "a b"] {
            assert!(!is_image(bad), "{bad}");
        }
    }

    #[test]
    fn a_reference_names_one_image_of_one_registry() {
        assert_eq!(with_tag("127.0.0.1:5000/redis"), "127.0.0.1:5000/redis:latest");
        assert_eq!(with_tag("redis:7"), "redis:7");
        assert_eq!(with_tag("a/redis@sha256:00"), "a/redis@sha256:00");
        assert_eq!(registry("127.0.0.1:5000/redis"), "127.0.0.1:5000");
        assert_eq!(registry("library/redis"), "docker.io");
        assert_eq!(registry("docker.io.evil.com/redis"), "docker.io.evil.com");
    }

    #[test]
    fn a_mistake_in_rendering_is_no_hole() {
        let sound = ContainerSpec {
            name: "lodger-x".to_owned(),
            memory_bytes: 1,
            nano_cpus: 1,
            pids: 1,
            ..ContainerSpec::default()
        };
        assert!(container(&sound).is_ok());
        assert!(container(&ContainerSpec { memory_bytes: 0, ..sound.clone() }).is_err());
        assert!(container(&ContainerSpec { capabilities: vec!["NET_RAW".to_owned()], ..sound.clone() }).is_err());
        for network in ["host", "container:other", "bridge"] {
            let networks = BTreeMap::from([(network.to_owned(), Vec::new())]);
            assert!(container(&ContainerSpec { networks, ..sound.clone() }).is_err(), "{network}");
        }
        let volumes = BTreeMap::from([("/etc".to_owned(), "/x".to_owned())]);
        assert!(container(&ContainerSpec { volumes, ..sound }).is_err());
    }
}
