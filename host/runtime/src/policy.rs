//! The operator's ceilings and allow-lists: `<home>/lodger.toml`.
//!
//! An absent key means the safe built-in default; an unknown key, a wrong type or a value out of range is an error, never
//! a fallback: a policy that cannot be read keeps the host from opening.

mod marketplace;
mod platforms;
mod replaceable;
mod services;

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::failure::FailurePolicies;
use crate::id::Id;
use crate::limits::{DEADLINE_CEILING_MS, Limit, Limits};
use crate::outbound::Pattern;

pub use marketplace::MarketplaceAt;
pub use platforms::PlatformPolicy;
pub use replaceable::Replaceable;
#[cfg(feature = "docker")]
pub use services::Address;
#[cfg(feature = "docker")]
pub(crate) use services::tls_address;
pub use services::{EngineAt, Reach, Registry, ServicePolicy};

/// File name within the home.
pub const FILE: &str = "lodger.toml";

/// Largest policy file, in bytes.
const FILE_MAX: usize = 1 << 20;

/// What the operator allows. Every field has the built-in default of the [`Default`] policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Ceilings of what a manifest may ask for.
    pub ceilings: Limits,
    /// Ceiling of every deadline, in milliseconds.
    pub deadline_ms: u64,
    /// Calls in flight in this process; one more waits.
    pub concurrent_calls: u32,
    /// How long a mutating call waits for the addon's lock before it is `busy`.
    pub lock_wait: Duration,
    /// Bounds on compiling a component that comes from outside.
    pub compile: CompileBounds,
    /// Bounds on what is read from a package or directory.
    pub package: PackageBounds,
    /// Environment variable names an addon may fill although they do not start with its own name.
    pub env_names: Vec<String>,
    pub services: ServicePolicy,
    /// What addons may reach that ask for it; nothing by default.
    pub network: Vec<Pattern>,
    /// Addresses that may be dialled although they are not for the public.
    pub network_addresses: Vec<IpNet>,
    /// What is done when a hook fails.
    pub failure: FailurePolicies,
    pub retention: Retention,
    /// Slots that addons may fill; none by default.
    pub slots: Vec<Id>,
    /// Events that addons may hear of and decide about, as kinds or `prefix.*`; none by default.
    pub events: Vec<String>,
    /// Containers that plugins may stand in for; none by default. Each makes its slot one there is.
    pub replaceable: Vec<Replaceable>,
    /// Digests of grants that need no acceptance of their own where nobody can be asked, as over HTTP.
    pub preapproved: Vec<String>,
    /// Where addons are searched for and fetched by name.
    pub marketplace: Option<MarketplaceAt>,
    /// Platforms that order from addons here.
    pub platforms: PlatformPolicy,
    /// Lines of the file that are looser than the built-in default, for `doctor`.
    pub looser: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct CompileBounds {
    pub wall: Duration,
    pub memory_bytes: u64,
}

/// How much of the past is kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Earlier versions of an addon, with what they had, to go back to.
    pub snapshots: usize,
    /// Calls of an addon with their logs: so many of the newest, give or take some hundreds.
    pub calls: u32,
    /// And none that is older.
    pub call_days: u32,
    /// The same of events, whether or not they were told: so many of the newest, and none that is older.
    pub events: u32,
    pub event_days: u32,
    /// And of operations of each who asks, with the keys they were asked under.
    pub operations: u32,
    pub operation_days: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct PackageBounds {
    /// All files of a package together, unpacked.
    pub bytes: u64,
    pub files: u64,
    /// The component.
    pub component_bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            ceilings: Limits::from_fn(Limit::built_in_ceiling),
            deadline_ms: DEADLINE_CEILING_MS,
            concurrent_calls: 64,
            lock_wait: Duration::from_secs(10),
            compile: CompileBounds { wall: Duration::from_secs(60), memory_bytes: 4 << 30 },
            package: PackageBounds { bytes: 128 << 20, files: 2_000, component_bytes: 64 << 20 },
            env_names: Vec::new(),
            services: ServicePolicy::default(),
            network: Vec::new(),
            network_addresses: Vec::new(),
            failure: FailurePolicies::default(),
            retention: Retention {
                snapshots: 1,
                calls: 10_000,
                call_days: 90,
                events: 10_000,
                event_days: 90,
                operations: 1000,
                operation_days: 30,
            },
            slots: Vec::new(),
            events: Vec::new(),
            replaceable: Vec::new(),
            preapproved: Vec::new(),
            marketplace: None,
            platforms: PlatformPolicy::default(),
            looser: Vec::new(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct File {
    limits: BTreeMap<String, u64>,
    grant: Grant,
    engine: Vec<services::Engine>,
    apps: services::Apps,
    registry: Vec<services::RegistryFile>,
    failure: BTreeMap<String, String>,
    retention: RetentionFile,
    replaceable: Vec<replaceable::Line>,
    marketplace: Option<marketplace::Raw>,
    platforms: platforms::Raw,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RetentionFile {
    snapshots: Option<usize>,
    calls: Option<u32>,
    call_days: Option<u32>,
    events: Option<u32>,
    event_days: Option<u32>,
    operations: Option<u32>,
    operation_days: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Grant {
    env_names: Vec<String>,
    images: Option<Vec<String>>,
    unpinned: Vec<String>,
    image_labels: Vec<String>,
    host_ports: Option<String>,
    capabilities: Option<Vec<String>>,
    egress: bool,
    network: Vec<String>,
    network_addresses: Vec<String>,
    slots: Vec<Id>,
    preapproved: Vec<String>,
    events: Vec<String>,
}

impl Policy {
    /// Reads the text of a policy file.
    ///
    /// ```toml
    /// [limits]                      # ceilings of what a manifest may ask for
    /// memory_bytes = 134217728
    /// deadline_ms = 60000
    /// data_bytes = 1073741824
    /// concurrent_calls = 64         # in this process
    /// lock_wait_ms = 10000
    /// compile_ms = 60000
    /// compile_memory_bytes = 4294967296
    /// package_bytes = 134217728
    /// package_files = 2000
    /// component_bytes = 67108864
    ///
    /// service_memory_bytes = 2147483648   # of one container, and service_millicpus,
    ///                               # service_pids, service_disk_bytes
    ///
    /// [grant]
    /// env_names = ["DATABASE_URL"]  # names addons may fill beside <NAME>_…
    /// images = ["docker.io/library/redis", "ghcr.io/acme/*"]   # absent: any that is accepted by name at install
    /// unpinned = ["docker.io/library/redis:7"]                 # images the engine has without a digest
    /// image_labels = ["com.acme.*"]
    /// host_ports = "16000-16999"
    /// capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]
    /// egress = false
    ///
    /// [failure]                     # what is done when a hook fails
    /// default = "fail-closed"       # of hooks that are not named
    /// provision = "retry(3)"
    /// url = "fail-open"
    /// unprovision = "fail-open"
    /// health = "quarantine(3)"      # after so many faults in a row
    ///
    /// [retention]
    /// snapshots = 1                 # earlier versions of an addon kept to go back to; 0: none
    /// calls = 10000                 # of each addon, with their logs, and none older than
    /// call_days = 90
    /// events = 10000                # and of events, whether or not they were told
    /// event_days = 90
    /// operations = 1000             # of each token, with the keys they were asked under
    /// operation_days = 30
    ///
    /// [[engine]]
    /// name = "local"
    /// socket = "/var/run/docker.sock"   # or address, key, certificate, authority: mutual TLS; and apps_address
    /// labels = { region = "eu" }
    /// guarded = true                # its machine's firewall has the rules that `lodger doctor` shows
    ///
    /// [[replaceable]]               # a container that a plugin in this slot may stand in for
    /// slot = "scheduler"
    /// container = "root_scheduler"
    /// engine = "local"              # that has it; may be left out where there is one
    ///
    /// [marketplace]                 # where addons are fetched by name
    /// url = "https://addons.example.com"
    /// token_file = "/etc/lodger/marketplace"
    ///
    /// [platforms]                   # Scalingo, Heroku, or who speaks as they do
    /// url = "https://addons.example.com"     # where they reach this server
    /// callbacks = ["api.heroku.com:443"]     # who may be told later what became of an order; nobody without
    /// scalingo_api = "https://api.osc-fr1.scalingo.com"    # the same for Scalingo
    /// answer_within_ms = 20000      # then an order that can be told of later is answered with 202
    ///
    /// [apps]
    /// reach = "host"                # or "network:NAME"
    /// address = "127.0.0.1"         # where ports are published
    ///
    /// [[registry]]
    /// name = "docker.io"
    /// mirror = "127.0.0.1:5000"
    /// user = "robot"
    /// password_file = "/etc/lodger/docker.io"
    /// network = ["api.example.com:443", "*.example.net:443"]     # what addons may reach that ask for it
    /// network_addresses = ["10.1.0.0/16"]    # to be dialled although they are not for the public
    /// slots = ["scheduler"]         # that addons may fill; none without
    /// preapproved = ["sha256:…"]    # grants that may be installed over HTTP without being named
    /// events = ["app.*"]            # that addons may hear of, and change or refuse beforehand; none without
    /// ```
    pub fn parse(text: &str) -> Result<Policy> {
        let invalid = |message: String| Error::Policy { message };
        if text.len() > FILE_MAX {
            return Err(invalid(format!("larger than {FILE_MAX} bytes")));
        }
        let mut file: File = toml::from_str(text).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
        let mut policy = Policy::default();
        for (name, value) in file.limits {
            policy.set_limit(&name, value).map_err(invalid)?;
        }
        for name in std::mem::take(&mut file.grant.env_names) {
            if !crate::env::is_allowed(&name) {
                return Err(invalid(format!(
                    "grant.env_names: `{}` can never be given",
                    crate::text::shown(&name, 60)
                )));
            }
            policy.looser.push(format!("grant.env_names: `{name}`"));
            policy.env_names.push(name);
        }
        for text in std::mem::take(&mut file.grant.network) {
            let pattern: Pattern = text.parse().map_err(|error| invalid(format!("grant.network: {error}")))?;
            policy.looser.push(format!("grant.network: `{pattern}`"));
            policy.network.push(pattern);
        }
        for text in std::mem::take(&mut file.grant.network_addresses) {
            let net = addresses(&text).map_err(invalid)?;
            policy.looser.push(format!("grant.network_addresses: `{net}`"));
            policy.network_addresses.push(net);
        }
        for slot in std::mem::take(&mut file.grant.slots) {
            policy.looser.push(format!("grant.slots: `{slot}`"));
            policy.slots.push(slot);
        }
        for digest in std::mem::take(&mut file.grant.preapproved) {
            let hex = digest.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                let shown = crate::text::shown(&digest, 80);
                return Err(invalid(format!(
                    "grant.preapproved: `{shown}` is no digest of a grant, as `lodger install --dry-run` shows it"
                )));
            }
            policy.looser.push(format!("grant.preapproved: `{digest}`"));
            policy.preapproved.push(digest);
        }
        for pattern in std::mem::take(&mut file.grant.events) {
            let shown = crate::text::shown(&pattern, 80);
            if !crate::event::is_pattern(&pattern) {
                return Err(invalid(format!(
                    "grant.events: `{shown}` is neither a kind, such as `app.added`, nor `app.*`"
                )));
            }
            policy.looser.push(format!("grant.events: `{shown}`"));
            policy.events.push(pattern);
        }
        policy.failure = FailurePolicies::read(&file.failure, &mut policy.looser).map_err(invalid)?;
        let (kept, asked) = (&mut policy.retention, file.retention);
        kept.snapshots = asked.snapshots.unwrap_or(kept.snapshots);
        kept.calls = asked.calls.unwrap_or(kept.calls);
        kept.call_days = asked.call_days.unwrap_or(kept.call_days);
        kept.events = asked.events.unwrap_or(kept.events);
        kept.event_days = asked.event_days.unwrap_or(kept.event_days);
        kept.operations = asked.operations.unwrap_or(kept.operations);
        kept.operation_days = asked.operation_days.unwrap_or(kept.operation_days);
        policy.marketplace = file.marketplace.map(marketplace::read).transpose().map_err(invalid)?;
        policy.platforms = platforms::read(file.platforms, &mut policy.looser).map_err(invalid)?;
        policy.services.take(file.grant, file.engine, file.apps, file.registry, &mut policy.looser).map_err(invalid)?;
        let replaceable = replaceable::read(file.replaceable, &policy.services.engines, &mut policy.looser);
        policy.replaceable = replaceable.map_err(invalid)?;
        Ok(policy)
    }

    fn set_limit(&mut self, name: &str, value: u64) -> Result<(), String> {
        if value == 0 {
            return Err(format!("limits.{name}: must be above 0"));
        }
        let default = if let Some(limit) = Limit::from_name(name) {
            if limit == Limit::StackBytes && !(65_536..=1_048_576).contains(&value) {
                return Err("limits.stack_bytes: must be 65536 to 1048576".to_owned());
            }
            self.ceilings[limit] = value;
            limit.built_in_ceiling()
        } else {
            let built_in = Policy::default();
            match name {
                "deadline_ms" => replace(&mut self.deadline_ms, value, built_in.deadline_ms),
                "concurrent_calls" => {
                    self.concurrent_calls = u32::try_from(value)
                        .ok()
                        .filter(|&calls| calls <= 1000)
                        .ok_or("limits.concurrent_calls: at most 1000")?;
                    u64::from(built_in.concurrent_calls)
                }
                "lock_wait_ms" => replace_ms(&mut self.lock_wait, value, built_in.lock_wait),
                "compile_ms" => replace_ms(&mut self.compile.wall, value, built_in.compile.wall),
                "compile_memory_bytes" => replace(&mut self.compile.memory_bytes, value, built_in.compile.memory_bytes),
                "service_memory_bytes" => {
                    replace(&mut self.services.memory_bytes, value, built_in.services.memory_bytes)
                }
                "service_millicpus" => replace(&mut self.services.millicpus, value, built_in.services.millicpus),
                "service_pids" => replace(&mut self.services.pids, value, built_in.services.pids),
                "service_disk_bytes" => replace(&mut self.services.disk_bytes, value, built_in.services.disk_bytes),
                "package_bytes" => replace(&mut self.package.bytes, value, built_in.package.bytes),
                "package_files" => replace(&mut self.package.files, value, built_in.package.files),
                "component_bytes" => {
                    replace(&mut self.package.component_bytes, value, built_in.package.component_bytes)
                }
                _ => return Err(format!("limits.{}: unknown key", crate::text::shown(name, 60))),
            }
        };
        if value > default {
            self.looser.push(format!("limits.{name} = {value} (built in: {default})"));
        }
        Ok(())
    }
}

/// Whole networks in their one spelling, so that nobody admits more than they read.
fn addresses(text: &str) -> Result<IpNet, String> {
    let net: Option<IpNet> = text.parse().ok();
    net.filter(|net| net.trunc() == *net).ok_or_else(|| {
        let shown = crate::text::shown(text, 60);
        format!("grant.network_addresses: `{shown}` is no network, such as `10.1.0.0/16` or `10.1.2.3/32`")
    })
}

fn replace(place: &mut u64, value: u64, default: u64) -> u64 {
    *place = value;
    default
}

fn replace_ms(place: &mut Duration, ms: u64, default: Duration) -> u64 {
    *place = Duration::from_millis(ms);
    u64::try_from(default.as_millis()).unwrap_or(u64::MAX)
}
