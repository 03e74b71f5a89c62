//! The container side: what the host asks of an engine, in words that Docker, Podman and those to come share.
//!
//! An engine is asked, never remembered (law 7): everything here reads or changes what is there now. What may be asked for
//! is decided before, in [`render`](crate::render); an implementation carries out and adds nothing. What an engine answers
//! is hostile: names, labels and messages are shown escaped, output is cut at the bounds given here.
//!
//! Every implementation passes the contract suite, `tests/engine.rs`.

#[cfg(feature = "docker")]
pub mod docker;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::Stream;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};

/// The one trait with several implementations. Dropping a future gives up waiting, not the work: what was asked may still
/// happen, and reconciling finds it.
#[async_trait]
pub trait Engine: Send + Sync {
    async fn about(&self) -> Result<About>;

    /// The image, if the engine has it. `name` is a reference or an image id.
    async fn image(&self, name: &str) -> Result<Option<Image>>;

    /// Fetches an image from its registry, and tells how far it has come. Credentials go to the registry named by the
    /// reference and nowhere else.
    async fn pull(&self, name: &str, credentials: Option<&Credentials>, progress: &PullProgress<'_>) -> Result<()>;

    /// The digest that the registry has an image under, of which nothing is fetched. [`Fault::NotFound`] where it has none.
    async fn published(&self, name: &str, credentials: Option<&Credentials>) -> Result<String>;

    /// Gives an image the engine has another name.
    async fn tag(&self, image: &str, name: &str) -> Result<()>;

    /// Makes a container, not started, and returns its id. [`Fault::Conflict`] when the name is taken,
    /// [`Fault::NotFound`] when its image, a volume or a network is not there.
    async fn create(&self, spec: &ContainerSpec) -> Result<String>;

    /// Starting what runs is fine.
    async fn start(&self, container: &str) -> Result<()>;

    /// Asks the container to end, and kills it after `grace`. Stopping what does not run, or is not there, is fine.
    async fn stop(&self, container: &str, grace: Duration) -> Result<()>;

    /// Removes a container, killed if need be, with its anonymous volumes. Removing what is not there is fine.
    async fn remove(&self, container: &str) -> Result<()>;

    /// A container by name or id, with the addresses it has now.
    async fn container(&self, container: &str) -> Result<Option<Container>>;

    /// All containers with a label of this value, running or not, in one question.
    async fn containers(&self, label: &str, value: &str) -> Result<Vec<Container>>;

    /// The end of what a container has written, at most `most` bytes.
    async fn logs(&self, container: &str, most: usize) -> Result<Vec<u8>>;

    /// Runs a command in a running container, as its user, without a terminal. A command that does not end is not ended by
    /// dropping the future: see [`Executed::left_running`].
    async fn exec(&self, container: &str, exec: &Exec) -> Result<Executed>;

    /// The same with streams in place of what is held in memory, as fast as the slowest side: nothing but a few buffers is
    /// between them. A command that does not end in time, or whose stream fails, is killed where the engine can.
    async fn pipe(&self, container: &str, exec: &Exec, streams: Streams<'_>) -> Result<Executed>;

    /// Making a network or volume that is there is fine.
    async fn create_network(&self, spec: &NetworkSpec) -> Result<()>;
    async fn networks(&self, label: &str, value: &str) -> Result<Vec<Network>>;
    /// Removing a network or volume that is not there is fine; one in use is a [`Fault::Conflict`].
    async fn remove_network(&self, name: &str) -> Result<()>;

    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()>;
    async fn volume(&self, name: &str) -> Result<Option<Volume>>;
    async fn volumes(&self, label: &str, value: &str) -> Result<Vec<Volume>>;
    async fn remove_volume(&self, name: &str) -> Result<()>;

    /// What all containers and volumes take of the disk, in one question. An engine walks through every file of them to
    /// answer it: ask seldom.
    async fn disk_usage(&self) -> Result<DiskUsage>;

    /// Writes the content of a volume as a tar archive, and returns its bytes. A host that dies meanwhile, or drops the
    /// future, leaves the helper.
    async fn export_volume(
        &self,
        volume: &str,
        helper: &Helper,
        to: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64>;

    /// Unpacks a tar archive into a volume, in the same way. Whatever the volume held stays where the archive does not
    /// name it.
    async fn import_volume(&self, volume: &str, helper: &Helper, from: Box<dyn AsyncRead + Send + Unpin>)
    -> Result<()>;

    /// What happens to containers with a label of this value, from now on, until the engine goes away.
    async fn events(&self, label: &str, value: &str) -> Result<Events>;
}

pub type Result<T> = std::result::Result<T, Failure>;
pub type Events = Pin<Box<dyn Stream<Item = Result<Event>> + Send>>;
pub type PullProgress<'a> = dyn Fn(Pulled) + Send + Sync + 'a;

/// What an engine did not do.
#[derive(Debug, thiserror::Error)]
#[error("engine `{engine}` could not {action} `{subject}`: {message}")]
pub struct Failure {
    /// As the policy names it.
    pub engine: String,
    /// Completes "could not …".
    pub action: &'static str,
    pub subject: String,
    pub fault: Fault,
    /// The engine's words, escaped.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not answer. Nothing is known: wait, never delete.
    Unreachable,
    /// It does not prove who it is, or does not believe who we are. Nothing is known either.
    Untrusted,
    NotFound,
    /// The name is taken, or the thing is in use.
    Conflict,
    TimedOut,
    /// It has no addresses left for one more network.
    NoAddresses,
    /// It said no.
    Refused,
}

impl Fault {
    /// Nothing is known of what the engine has.
    pub fn is_silence(self) -> bool {
        matches!(self, Fault::Unreachable | Fault::Untrusted)
    }
}

/// What an engine says about itself.
#[derive(Clone, Debug, Default, Serialize)]
pub struct About {
    pub version: String,
    /// The version that requests are made in, agreed on with the engine.
    pub api_version: String,
    pub cpus: f64,
    pub memory_bytes: u64,
    /// As images call it: `amd64`, `arm64`.
    pub architecture: String,
    /// Whether root in a container is somebody else on the machine.
    pub rootless: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// `sha256:…` of its configuration.
    pub id: String,
    /// `name@sha256:…` as registries know it.
    pub digests: Vec<String>,
    pub architecture: String,
    pub labels: BTreeMap<String, String>,
    /// Paths the image declares as volumes.
    pub volumes: Vec<String>,
}

/// For one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The registry's host and port.
    pub registry: String,
    pub user: String,
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("registry", &self.registry).finish_non_exhaustive()
    }
}

/// How far a pull has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// What is done now, escaped.
    pub step: String,
    /// Bytes of all layers known so far, and those that are here.
    pub bytes: u64,
    pub of: u64,
}

/// A container, whole: what an implementation sets and nothing else.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ContainerSpec {
    pub name: String,
    /// An image the engine has, by id.
    pub image: String,
    /// Replaces the image's command, not its entry point.
    pub command: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Named volumes and where they are mounted.
    pub volumes: BTreeMap<String, String>,
    /// The same for those that the container only reads, and that nothing of its image is copied into.
    pub read_only_volumes: BTreeMap<String, String>,
    /// Mounted empty and writable, in memory.
    pub scratch: Vec<String>,
    /// Networks to join, with the names the container has there.
    pub networks: BTreeMap<String, Vec<String>>,
    pub ports: Vec<Published>,
    /// Of [`CAPABILITIES`]; all others are dropped.
    pub capabilities: Vec<String>,
    pub read_only: bool,
    pub memory_bytes: u64,
    /// Billionths of a processor.
    pub nano_cpus: u64,
    pub pids: u64,
}

/// Networks engines mean something else by than a network that was made: they reach the host or everything, and nobody is
/// known by name in them.
pub const OWN_NETWORKS: [&str; 7] = ["bridge", "default", "host", "none", "pasta", "private", "slirp4netns"];
/// Capabilities a policy may give back to services.
pub const CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"];
/// What an engine keeps of a container's output: files of this size, this many.
pub const LOG_FILE_BYTES: u64 = 4 << 20;
pub const LOG_FILES: u64 = 2;
/// Size of `/dev/shm`, and of each scratch mount.
pub const SCRATCH_BYTES: u64 = 64 << 20;
/// Open files of a container. Not more: an engine that may not raise limits, a rootless one for instance, can only give of
/// its own.
pub const FILES_MAX: u64 = 16_384;

/// A port of a container that is reached on the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    pub container_port: u16,
    pub host: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub image: String,
    /// Those of its image are among them.
    pub labels: BTreeMap<String, String>,
    pub status: Status,
    /// The networks it is in, with its address there. A list knows the address of a container that runs.
    pub networks: BTreeMap<String, Option<IpAddr>>,
    /// What it is called in them, its own name perhaps not among it. A list does not tell.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// It is gone as soon as it has ended. A list does not tell.
    pub goes_at_end: bool,
    pub ports: Vec<Published>,
}

impl Container {
    /// Where this machine reaches a port of it: as it is published, else in one of its networks.
    pub(crate) fn reached_at(&self, port: u16) -> Option<SocketAddr> {
        let published = self.ports.iter().find(|published| published.container_port == port);
        let inside = || self.networks.values().flatten().next().map(|&address| SocketAddr::new(address, port));
        published.map(|published| published.host).or_else(inside)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    /// With its exit code, where that is known: a list does not tell it.
    Exited(Option<i64>),
    /// Restarting, paused, being removed, dead.
    Other,
}

/// A command to run in a container.
#[derive(Clone, Debug, Default)]
pub struct Exec {
    pub command: Vec<String>,
    pub stdin: Vec<u8>,
    /// What is kept of stdout and stderr, each. More is read and dropped.
    pub output_max: usize,
    /// How long to wait for its end.
    pub timeout: Duration,
}

/// Where a command reads and writes, in place of [`Exec::stdin`] and [`Executed::stdout`].
#[derive(Default)]
pub struct Streams<'a> {
    pub stdin: Option<&'a mut (dyn AsyncRead + Send + Unpin)>,
    /// Flushed when the command has ended, and not shut down.
    pub stdout: Option<&'a mut (dyn AsyncWrite + Send + Unpin)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// `None` when it had not ended in time, or not by itself.
    pub exit_code: Option<i64>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Some output was dropped.
    pub truncated: bool,
    /// Why one of its [`Streams`] failed, before it had ended.
    pub broken: Option<String>,
    /// It was killed, with all it had started that did not go its own way.
    pub killed: bool,
}

impl Executed {
    /// The command may go on. Only restarting the container ends it.
    pub fn left_running(&self) -> bool {
        self.exit_code.is_none() && !self.killed
    }
}

/// What the Linux interfaces of all networks begin with, so that a rule of the machine's firewall knows them.
pub const BRIDGES: &str = "lodger-";

/// A bridge network.
#[derive(Clone, Debug, Default, Serialize)]
pub struct NetworkSpec {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub reach: Reach,
}

/// How far containers of a network get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Reach {
    /// Each other; ports cannot be published.
    #[default]
    Internal,
    /// Not each other and not the outside, but their ports can be published.
    Edge,
    /// The outside, not each other; their ports can be published.
    Outside,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub id: String,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

/// What is taken of an engine's disk, in bytes by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// What containers have written outside of volumes. Their kept output is not in it: engines do not tell, and it is
    /// bounded ([`LOG_FILE_BYTES`]).
    pub containers: BTreeMap<String, u64>,
    pub volumes: BTreeMap<String, u64>,
}

/// A container that is never started: a way to a volume's content that every engine has. Whoever asks for it names and
/// labels it, so that one that was left is known for what it is.
#[derive(Clone, Debug, Default)]
pub struct Helper {
    pub name: String,
    /// An image the engine has, by id. Nothing of it is run or seen.
    pub image: String,
    pub labels: BTreeMap<String, String>,
}

/// Something happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub container: String,
    /// The engine's word: `start`, `die`, `destroy`, …
    pub action: String,
}
