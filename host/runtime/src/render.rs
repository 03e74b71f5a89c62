//! From a granted service to the container that an engine is asked for: names, labels, networks, volumes, limits.
//!
//! Law 9: everything an engine is told about a container is made here, from the manifest, the grant and the policy. A guest
//! adds the values of variables the manifest declares, and nothing else. Names are made of hashes, so that no two things
//! share one, whatever their ids are; a label authenticates what this home has made (threats 2 and 3).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::engine::{Container, ContainerSpec, Helper, NetworkSpec, OWN_NETWORKS, Published, Reach};
use crate::grant::ServiceGrant;
use crate::id::{AddonId, Id};
use crate::key::Key;
use crate::manifest::{SECRETS_DIR, Service, StartMode, file_variable, secret_file};
use crate::policy::{self, ServicePolicy};

pub(crate) const LABEL_HOME: &str = "lodger.home";
pub(crate) const LABEL_ADDON: &str = "lodger.addon";
pub(crate) const LABEL_SERVICE: &str = "lodger.service";
pub(crate) const LABEL_RESOURCE: &str = "lodger.resource";
pub(crate) const LABEL_SPEC: &str = "lodger.spec";
/// On a container through which a volume is read or filled, with the volume.
pub(crate) const LABEL_HELPER: &str = "lodger.helper";

/// Longest part of a name that is for people.
const SPOKEN_MAX: usize = 24;
/// What every container may write: programs expect it, and it is gone with the container.
const SCRATCH: [&str; 2] = ["/tmp", "/run"];

/// Networks that are somebody else's, each with the names a container has there.
pub(crate) type Places = BTreeMap<String, Vec<String>>;

/// Which instance: of which service, for which resource; an empty key is the addon's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub addon: AddonId,
    pub service: Id,
    pub resource: String,
}

/// An image as it was pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pin {
    /// `sha256:…` of its configuration, by which containers are made.
    pub id: String,
    /// `name@sha256:…`, by which it can be fetched again.
    pub digest: Option<String>,
    /// Paths the image declares as volumes.
    pub volumes: Vec<String>,
}

/// Everything an instance needs of its engine.
#[derive(Clone)]
pub(crate) struct Rendered {
    pub container: ContainerSpec,
    pub networks: Vec<NetworkSpec>,
    /// Names and labels of volumes.
    pub volumes: BTreeMap<String, BTreeMap<String, String>>,
    pub secrets: Option<Secrets>,
}

/// What an instance is handed as files, in a volume of its own that comes and goes with its container.
#[derive(Clone)]
pub(crate) struct Secrets {
    pub volume: String,
    pub labels: BTreeMap<String, String>,
    /// Names and content.
    pub files: BTreeMap<String, String>,
}

/// What names and labels are made with: the home's identity and key.
pub(crate) struct Marks<'a> {
    pub home: &'a str,
    pub key: &'a Key,
}

/// What an instance is rendered from.
pub(crate) struct Plan<'a> {
    pub service: &'a Service,
    pub grant: &'a ServiceGrant,
    /// The addon declares no other service.
    pub alone: bool,
    pub pin: &'a Pin,
    /// Host ports assigned to container ports.
    pub ports: &'a BTreeMap<u16, u16>,
    /// Where those are published.
    pub address: IpAddr,
    /// Where it stands in for a core container.
    pub places: Option<&'a Places>,
    /// Over the manifest's values.
    pub environment: BTreeMap<String, String>,
}

impl Instance {
    /// The container's name, and the only name it has in a network of apps.
    pub fn container_name(&self, marks: &Marks<'_>) -> String {
        marks.name(self.service.as_str(), &[&self.addon.to_string(), "service", self.service.as_str(), &self.resource])
    }

    /// The volume its secret files are in.
    pub fn secrets_volume(&self, marks: &Marks<'_>) -> String {
        marks.name(self.service.as_str(), &[&self.addon.to_string(), "secrets", self.service.as_str(), &self.resource])
    }
}

impl Marks<'_> {
    /// `lodger-<spoken>-<12 hex>`.
    fn name(&self, spoken: &str, parts: &[&str]) -> String {
        let mut hash = blake3::Hasher::new();
        for part in [self.home].iter().chain(parts) {
            hash.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
        }
        let spoken = crate::text::cut_at(spoken, SPOKEN_MAX).trim_end_matches('-');
        format!("lodger-{spoken}-{}", &hash.finalize().to_hex()[..12])
    }

    /// The label of this home.
    pub fn home_label(&self) -> String {
        blake3::hash(self.home.as_bytes()).to_hex()[..16].to_owned()
    }

    fn labels(&self, addon: &AddonId) -> BTreeMap<String, String> {
        [(LABEL_HOME.to_owned(), self.home_label()), (LABEL_ADDON.to_owned(), addon.to_string())].into()
    }

    /// `<what it is made from>.<that it is ours>`: the first half changes with the spec, the second vouches for the first
    /// under this name. Both need the home's key, so that neither can be made nor secrets be tried out without it.
    fn spec_label(&self, name: &str, spec: &impl serde::Serialize) -> String {
        // Maps of strings and numbers always serialize.
        let json = serde_json::to_vec(spec).unwrap_or_default();
        let spec = self.key.spec_mac("spec", &json);
        format!("{spec}.{}", self.vouch(name, &spec))
    }

    fn vouch(&self, name: &str, spec: &str) -> String {
        self.key.spec_mac(name, format!("{}.{spec}", self.home).as_bytes())
    }

    /// Whether this home has made what carries these labels under this name. Anything else is foreign, whatever it says.
    pub fn vouches_for(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let Some((spec, vouched)) = labels.get(LABEL_SPEC).and_then(|label| label.split_once('.')) else {
            return false;
        };
        labels.get(LABEL_HOME) == Some(&self.home_label())
            && blake3::hash(vouched.as_bytes()) == blake3::hash(self.vouch(name, spec).as_bytes())
    }

    /// The volume of an addon that its manifest calls `volume`, for one resource or for all.
    fn volume_name(&self, addon: &AddonId, resource: &str, volume: &str) -> String {
        self.name(volume, &[&addon.to_string(), "volume", volume, resource])
    }

    fn network_name(&self, addon: &AddonId, network: &str) -> String {
        self.name(addon.name.as_str(), &[&addon.to_string(), "network", network])
    }

    /// What a volume of an addon is reached through. No two share a name: one that was left is in nobody's way, and goes as
    /// every container of the addon does that none of its instances is.
    pub fn helper(&self, addon: &AddonId, volume: &str, image: &str) -> Helper {
        let name = self.name("helper", &[&addon.to_string(), "helper", &uuid::Uuid::new_v4().to_string()]);
        let mut labels = self.labels(addon);
        labels.insert(LABEL_HELPER.to_owned(), volume.to_owned());
        let label = self.spec_label(&name, &labels);
        labels.insert(LABEL_SPEC.to_owned(), label);
        Helper { name, image: image.to_owned(), labels }
    }

    pub fn render(&self, instance: &Instance, plan: &Plan<'_>, policy: &ServicePolicy) -> Rendered {
        let Plan { service, grant, pin, .. } = plan;
        let name = instance.container_name(self);
        let ports = self.published(plan, policy);
        let (joined, networks) = self.networks(instance, plan, &name, !ports.is_empty(), policy);
        let (mounted, volumes) = self.volumes(instance, service, pin);
        let mut labels = self.labels(&instance.addon);
        labels.insert(LABEL_SERVICE.to_owned(), instance.service.to_string());
        labels.insert(LABEL_RESOURCE.to_owned(), instance.resource.clone());
        labels.extend(service.labels.iter().map(|(label, value)| (format!("lodger.x.{label}"), value.clone())));
        let mut environment = service.environment.clone();
        environment.extend(plan.environment.clone());
        let secrets = self.secrets(instance, service, &mut environment);
        let secret_files = secrets.as_ref().map(|secrets| &secrets.files);
        let mut container = ContainerSpec {
            image: pin.id.clone(),
            command: service.command.clone(),
            environment,
            labels,
            scratch: SCRATCH
                .into_iter()
                .filter(|path| !mounted.values().any(|at| at == path))
                .map(str::to_owned)
                .collect(),
            volumes: mounted,
            read_only_volumes: secrets.iter().map(|it| (it.volume.clone(), SECRETS_DIR.to_owned())).collect(),
            networks: joined,
            ports,
            capabilities: grant.capabilities.clone(),
            read_only: !grant.writable_root,
            memory_bytes: grant.memory_bytes,
            nano_cpus: grant.millicpus * 1_000_000,
            pids: grant.pids,
            name,
        };
        // Another value is another container, wherever it is handed over.
        let label = self.spec_label(&container.name, &(&container, secret_files));
        container.labels.insert(LABEL_SPEC.to_owned(), label);
        Rendered { container, networks, volumes, secrets }
    }

    /// Takes what is handed over as files out of the environment, which then says where they are.
    fn secrets(
        &self,
        instance: &Instance,
        service: &Service,
        environment: &mut BTreeMap<String, String>,
    ) -> Option<Secrets> {
        let mut files = BTreeMap::new();
        for name in &service.secret_files {
            files.insert(name.clone(), environment.remove(name).unwrap_or_default());
            environment.insert(file_variable(name), secret_file(name));
        }
        let volume = instance.secrets_volume(self);
        let labels = self.volume_labels(&volume, instance);
        (!files.is_empty()).then_some(Secrets { volume, labels, files })
    }

    /// Apps on the machine need a port of it for each; in a network they need none but those the manifest fixes.
    fn published(&self, plan: &Plan<'_>, policy: &ServicePolicy) -> Vec<Published> {
        let on_machine = |port: &u16| match plan.service.ports.get(port) {
            Some(Some(_)) => true,
            _ => policy.reach == policy::Reach::Host,
        };
        let ports = plan.ports.iter().filter(|(port, _)| on_machine(port));
        ports
            .map(|(&container_port, &host)| Published { container_port, host: SocketAddr::new(plan.address, host) })
            .collect()
    }

    /// Siblings meet in internal networks; an edge network is only there to publish a port, or to let out who may. Whoever
    /// has no siblings is in one network only, which starts faster and takes fewer of the engine's addresses.
    fn networks(
        &self,
        instance: &Instance,
        plan: &Plan<'_>,
        name: &str,
        publishes: bool,
        policy: &ServicePolicy,
    ) -> (BTreeMap<String, Vec<String>>, Vec<NetworkSpec>) {
        let addon = &instance.addon;
        let mut joined = BTreeMap::new();
        let mut specs = Vec::new();
        let mut join = |network: String, reach, aliases: Vec<String>| {
            let mut spec = NetworkSpec { name: network.clone(), labels: self.labels(addon), reach };
            let label = self.spec_label(&network, &spec);
            spec.labels.insert(LABEL_SPEC.to_owned(), label);
            specs.push(spec);
            joined.insert(network, aliases);
        };
        // Several instances of one service in a network would share its name: those of resources have only their own.
        let known_as = match plan.service.start {
            StartMode::Provision => vec![name.to_owned()],
            StartMode::Enable | StartMode::Manual => {
                let mut names = vec![name.to_owned(), instance.service.to_string()];
                let declared = &plan.service.declared_name;
                names.extend(Some(declared.clone()).filter(|name| is_host_name(name) && !names.contains(name)));
                names
            }
        };
        let own = [String::new()];
        let declared = match &plan.service.networks[..] {
            [] if plan.alone && (publishes || plan.grant.egress || plan.places.is_some()) => &[],
            [] => &own[..],
            declared => declared,
        };
        for network in declared {
            join(self.network_name(addon, &format!("internal:{network}")), Reach::Internal, known_as.clone());
        }
        if plan.grant.egress {
            join(self.network_name(addon, "outside"), Reach::Outside, Vec::new());
        } else if publishes {
            join(self.network_name(addon, "edge"), Reach::Edge, Vec::new());
        }
        if let policy::Reach::Network(apps) = &policy.reach {
            joined.insert(apps.clone(), vec![name.to_owned()]);
        }
        // Threat 13: the one other way into a network that is not ours, and to a name that is not; the policy names the
        // container that had it, and the grant says so.
        for (network, names) in plan.places.into_iter().flatten() {
            joined.entry(network.clone()).or_default().extend(names.iter().cloned());
        }
        (joined, specs)
    }

    /// Declared volumes, and one of our own for each path the image would else give a nameless one.
    /// Names with where they are mounted, and names with labels.
    pub fn volumes(
        &self,
        instance: &Instance,
        declared: &Service,
        pin: &Pin,
    ) -> (BTreeMap<String, String>, BTreeMap<String, BTreeMap<String, String>>) {
        let Instance { addon, service, resource } = instance;
        let secret_files = !declared.secret_files.is_empty();
        let declared = declared.volumes.iter();
        let mut mounted: BTreeMap<String, String> =
            declared.map(|(path, volume)| (self.volume_name(addon, resource, volume), path.clone())).collect();
        for path in &pin.volumes {
            let secrets = path == SECRETS_DIR && secret_files;
            let taken = secrets || mounted.values().any(|at| at == path) || SCRATCH.contains(&path.as_str());
            if !taken && crate::manifest::is_mount_point(path) {
                let name =
                    self.name(service.as_str(), &[&addon.to_string(), "image", service.as_str(), resource, path]);
                mounted.insert(name, path.clone());
            }
        }
        let volumes = mounted.keys().map(|name| (name.clone(), self.volume_labels(name, instance))).collect();
        (mounted, volumes)
    }

    fn volume_labels(&self, name: &str, instance: &Instance) -> BTreeMap<String, String> {
        let mut labels = self.labels(&instance.addon);
        labels.insert(LABEL_RESOURCE.to_owned(), instance.resource.clone());
        let label = self.spec_label(name, &labels);
        labels.insert(LABEL_SPEC.to_owned(), label);
        labels
    }
}

/// Where others find a container that is not ours: by name, in networks that were made for it. What answers in its place
/// needs no more.
pub(crate) fn places(container: &Container) -> Places {
    let networks = container.networks.keys().filter(|network| !OWN_NETWORKS.contains(&network.as_str()));
    let names = |network| {
        let aliases = container.aliases.get(network).into_iter().flatten().filter(|alias| **alias != container.name);
        [&container.name].into_iter().chain(aliases).cloned().collect()
    };
    networks.map(|network| (network.clone(), names(network))).collect()
}

/// What can be looked up as it is written.
fn is_host_name(name: &str) -> bool {
    name.len() <= 63 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

impl Rendered {
    /// Whether a container that is there is the one that should be.
    pub fn is(&self, there: &Container) -> bool {
        there.labels.get(LABEL_SPEC) == self.container.labels.get(LABEL_SPEC)
            && self.container.networks.keys().all(|network| there.networks.contains_key(network))
    }
}
