//! The shape of `addon.json` as written: keys and types, nothing about meaning.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};

use super::{BYTES_MAX, Problem};
use crate::provider::Dialect;
use crate::text::shown;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    pub name: String,
    pub namespace: Option<String>,
    pub version: Option<String>,
    pub display_name: Option<String>,
    #[serde(default)]
    pub description: String,
    pub component: Option<String>,
    pub remote: Option<Remote>,
    pub replaces: Option<String>,
    pub config_vars: Option<Vec<String>>,
    #[serde(default)]
    pub plans: Vec<Plan>,
    #[serde(default)]
    pub settings: Map<Setting>,
    #[serde(default)]
    pub capabilities: Capabilities,
    #[serde(default)]
    pub limits: Limits,
    #[serde(default)]
    pub services: Vec<Service>,
    #[serde(default)]
    pub volumes: Vec<Volume>,
    #[serde(default)]
    pub networks: Vec<Network>,
    #[serde(default)]
    pub provider: Provider,
    #[serde(default)]
    pub depends: Vec<Depends>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remote {
    pub dialect: Dialect,
    pub base_url: String,
    pub username: String,
    pub sso_url: Option<String>,
    /// How a browser goes there: by a form where true, by a link where not.
    #[serde(default)]
    pub sso_post: bool,
    /// The third version of Heroku's API names resources by the platform's `uuid`, not by the provider's `id`.
    #[serde(default)]
    pub by_uuid: bool,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    pub name: String,
    pub display_name: Option<String>,
    #[serde(default)]
    pub price: f64,
    #[serde(default)]
    pub description: String,
    #[serde(default)]
    pub options: Map<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Setting {
    pub default: Option<String>,
    #[serde(default)]
    pub secret: bool,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Capabilities {
    pub data: Data,
    pub network: Vec<String>,
    pub services: bool,
    pub events: Vec<String>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Data {
    pub max_bytes: Option<u64>,
    pub max_files: Option<u64>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub memory_bytes: Option<u64>,
    pub table_elements: Option<u64>,
    pub instances: Option<u64>,
    pub copy_bytes: Option<u64>,
    pub host_memory_bytes: Option<u64>,
    pub handles: Option<u64>,
    pub resources: Option<u64>,
    pub random_bytes: Option<u64>,
    pub log_bytes: Option<u64>,
    pub network_bytes: Option<u64>,
    pub connections: Option<u64>,
    pub deadlines_ms: Map<u64>,
}

#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Provider {
    pub regions: Vec<String>,
    pub log_drain: bool,
    pub logo_url: Option<String>,
    pub short_description: Option<String>,
    pub dashboard: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Depends {
    pub namespace: Option<String>,
    pub name: String,
    /// Such as `>=1.2, <2`.
    pub version: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub service_name: String,
    pub image: String,
    pub command: Option<Command>,
    #[serde(default)]
    pub environment: Map<String>,
    #[serde(default)]
    pub secret_files: Vec<String>,
    #[serde(default)]
    pub labels: Map<String>,
    /// Container port to host port.
    #[serde(default)]
    pub ports: Map<Port>,
    /// `volume:/path`.
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub networks: Vec<String>,
    #[serde(default)]
    pub start: StartMode,
    pub ready: Option<Ready>,
    #[serde(default)]
    pub egress: bool,
    #[serde(default)]
    pub writable_root: bool,
    pub capabilities: Option<Vec<String>>,
    #[serde(default)]
    pub limits: ServiceLimits,
}

/// One line, split as a shell would, or its words.
#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Command {
    Line(String),
    Words(Vec<String>),
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Port {
    Number(u64),
    Text(String),
}

impl Port {
    pub fn number(&self) -> Option<u64> {
        match self {
            Port::Number(number) => Some(*number),
            Port::Text(text) => text.parse().ok(),
        }
    }
}

/// When a service is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum StartMode {
    /// With the addon, one for all apps.
    #[default]
    Enable,
    /// One per resource, by the guest.
    Provision,
    Manual,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ready {
    pub exec: Option<Vec<String>>,
    pub port: Option<u16>,
    pub timeout_ms: Option<u64>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServiceLimits {
    pub memory_bytes: Option<u64>,
    pub cpus: Option<f64>,
    pub pids: Option<u64>,
    pub disk_bytes: Option<u64>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Volume {
    pub name: String,
    pub driver: Option<String>,
    #[serde(default)]
    pub driver_opts: Map<String>,
    #[serde(default)]
    pub labels: Map<String>,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
pub(super) enum Network {
    Name(String),
    Full(FullNetwork),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FullNetwork {
    pub name: String,
    pub driver: Option<String>,
    #[serde(default)]
    pub enable_ipv6: bool,
    #[serde(default)]
    pub driver_opts: Map<String>,
}

impl Network {
    pub fn name(&self) -> &str {
        match self {
            Network::Name(name) => name,
            Network::Full(network) => &network.name,
        }
    }
}

/// A JSON object whose keys stand only once; serde's own maps keep the last of several in silence.
#[derive(Clone, Debug)]
pub struct Map<V>(pub BTreeMap<String, V>);

impl<V> Default for Map<V> {
    fn default() -> Self {
        Map(BTreeMap::new())
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Map<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Unique<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
            type Value = Map<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Map<V>, A::Error> {
                let mut map = BTreeMap::new();
                while let Some((key, value)) = access.next_entry::<String, V>()? {
                    if map.contains_key(&key) {
                        return Err(de::Error::custom(format!("`{}` stands twice", shown(&key, 60))));
                    }
                    map.insert(key, value);
                }
                Ok(Map(map))
            }
        }

        deserializer.deserialize_map(Unique(PhantomData))
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Raw, Problem> {
    document(bytes)
}

/// One JSON value of a manifest's size and nothing after it.
pub(crate) fn document<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let whole = |message: String| Problem { path: ".".to_owned(), message, hint: None };
    if bytes.len() > BYTES_MAX {
        return Err(whole(format!("{} bytes; at most {BYTES_MAX} are read", bytes.len())));
    }
    let text =
        std::str::from_utf8(bytes).map_err(|error| whole(format!("not UTF-8 after byte {}", error.valid_up_to())))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let raw = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        // Where the text ends within a name there is no path to it: its object is what there is to name.
        let path = error.path().to_string();
        let path = path.strip_suffix(".?").or(path.strip_suffix('?').map(|_| ".")).unwrap_or(&path);
        Problem { path: shown(path, 200), message: shown(&error.inner().to_string(), 500), hint: None }
    })?;
    json.end().map_err(|error| whole(format!("after the manifest: {error}")))?;
    Ok(raw)
}
