//! Docker, and Podman through the socket that speaks Docker's API: over a local socket or mutual TLS, never plain TCP.
//!
//! `spec` has what is asked, `answer` what comes back, `stream` the requests that take a while. Here: the connection, the
//! version of the API, and how long a request may take.

mod answer;
mod spec;
mod stream;

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::NetworkConnectRequest;
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, ListNetworksOptions, ListVolumesOptions, RemoveContainerOptions,
    RemoveVolumeOptions, StopContainerOptions, TagImageOptions,
};
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion};
use hyper::Uri;
use hyper::header::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

use crate::engine::{
    About, Container, ContainerSpec, Credentials, Engine, Events, Exec, Executed, Failure, Fault, Image, Network,
    NetworkSpec, PullProgress, Reach, Result, Volume,
};
use crate::text::shown;

/// For an answer to a question.
const QUERY: Duration = Duration::from_secs(30);
/// For what makes the engine do something.
const ACTION: Duration = Duration::from_secs(120);
/// For stopping, beyond the container's grace.
const SLACK: Duration = Duration::from_secs(30);
/// What is written or read for as long as it takes must get on within this time.
const STALLED: Duration = Duration::from_secs(60);
/// Bollard's own bound, on the first word of an answer: past all of the above.
const BOLLARD_SECONDS: u64 = 24 * 60 * 60;
/// How often a thing is looked at until it has come about.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longest subject of a failure, in bytes.
const SUBJECT_MAX: usize = 200;

/// Where an engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Socket(PathBuf),
    /// `address` is a host and port; the files are PEM. The engine's certificate is checked against the authority and those
    /// of the machine.
    Tls {
        address: String,
        key: PathBuf,
        certificate: PathBuf,
        authority: PathBuf,
    },
}

/// A Docker engine.
pub struct Docker {
    name: String,
    at: Address,
    /// Set once a version was agreed on, and forgotten when the engine goes away: it may come back as another.
    agreed: Arc<Mutex<Option<bollard::Docker>>>,
}

impl Docker {
    /// `name` is what the policy calls the engine. It is not asked anything yet; the files for TLS are read.
    pub fn connect(name: &str, at: &Address) -> Result<Docker> {
        let docker = Docker { name: name.to_owned(), at: at.clone(), agreed: Arc::default() };
        if let Address::Tls { address, key, certificate, .. } = at {
            let failed = |message: String| Failure {
                engine: name.to_owned(),
                action: "connect to",
                subject: shown(address, SUBJECT_MAX),
                fault: Fault::Refused,
                message,
            };
            // Bollard reads these two when it connects, and goes on without them.
            for file in [key, certificate] {
                std::fs::File::open(file).map_err(|e| failed(format!("{}: {e}", file.display())))?;
            }
            docker.open().map_err(|e| failed(answer::fault(&e, address).1))?;
        }
        Ok(docker)
    }

    fn address(&self) -> String {
        match &self.at {
            Address::Socket(path) => path.display().to_string(),
            Address::Tls { address, .. } => address.clone(),
        }
    }

    fn open(&self) -> std::result::Result<bollard::Docker, bollard::errors::Error> {
        let opened = match &self.at {
            Address::Socket(path) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), BOLLARD_SECONDS, API_DEFAULT_VERSION)
            }
            Address::Tls { address, key, certificate, authority } => bollard::Docker::connect_with_ssl(
                address,
                key,
                certificate,
                authority,
                BOLLARD_SECONDS,
                API_DEFAULT_VERSION,
            ),
        };
        opened.map(|docker| docker.with_request_modifier(with_readable_credentials))
    }

    /// A request about something with a name.
    async fn named(&self, action: &'static str, subject: &str) -> Result<Asking> {
        if !spec::is_name(subject) {
            return Err(self.failure(action, subject, Fault::Refused, "that is not a name or id".to_owned()));
        }
        self.asking(action, subject).await
    }

    /// A request about an image.
    async fn about_image(&self, action: &'static str, image: &str) -> Result<Asking> {
        if !spec::is_image(image) {
            return Err(self.failure(action, image, Fault::Refused, "that is not an image".to_owned()));
        }
        self.asking(action, image).await
    }

    fn failure(&self, action: &'static str, subject: &str, fault: Fault, message: String) -> Failure {
        Failure { engine: self.name.clone(), action, subject: shown(subject, SUBJECT_MAX), fault, message }
    }

    /// Agrees on a version with the engine, unless that was done: bollard's newest, or the engine's if that is older.
    ///
    /// Bollard makes every request without a version, whatever it negotiates. `/version` is answered that way by every
    /// engine; all other requests are put into the version agreed on, so that an engine that was updated goes on to
    /// understand them as they were meant.
    async fn asking(&self, action: &'static str, subject: &str) -> Result<Asking> {
        let known = self.agreed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let fail = |error: bollard::errors::Error| {
            let (fault, message) = answer::fault(&error, &self.address());
            self.failure(action, subject, fault, message)
        };
        let client = match known {
            Some(client) => client,
            None => {
                let client = self.open().map_err(fail)?;
                let agreed = match timeout(QUERY, client.negotiate_version()).await {
                    Ok(client) => client.map_err(fail)?,
                    Err(_) => {
                        let message = format!("{} did not answer in {} s", self.address(), QUERY.as_secs());
                        return Err(self.failure(action, subject, Fault::Unreachable, message));
                    }
                };
                let version = agreed.client_version();
                let client = agreed
                    .with_request_modifier(move |request| with_version(with_readable_credentials(request), &version));
                *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
                client
            }
        };
        Ok(Asking {
            client,
            agreed: Arc::clone(&self.agreed),
            engine: self.name.clone(),
            at: self.address(),
            action,
            subject: shown(subject, SUBJECT_MAX),
        })
    }

    /// The networks that have this name and no other: Docker takes a part of a name for one, and may have two of
    /// one name.
    async fn networks_named(&self, asking: &Asking, name: &str) -> Result<Vec<bollard::models::Network>> {
        let options = ListNetworksOptions { filters: Some(filter("name", name.to_owned())) };
        let mut networks = asking.within(QUERY, asking.client.list_networks(Some(options))).await?;
        networks.retain(|network| network.name.as_deref() == Some(name) && network.id.is_some());
        networks.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(networks)
    }
}

/// Docker reads the header in the alphabet for URLs, and bollard writes it in the other.
fn with_readable_credentials(mut request: BollardRequest) -> BollardRequest {
    if let Some(value) = request.headers_mut().get_mut("x-registry-auth") {
        let readable = value.to_str().ok().map(|text| text.replace('+', "-").replace('/', "_"));
        if let Some(readable) = readable.and_then(|text| HeaderValue::from_str(&text).ok()) {
            *value = readable;
            value.set_sensitive(true);
        }
    }
    request
}

fn with_version(mut request: BollardRequest, version: &ClientVersion) -> BollardRequest {
    let mut parts = request.uri().clone().into_parts();
    let path = parts.path_and_query.as_ref().map_or("/", |path| path.as_str());
    if let Ok(versioned) = format!("/v{version}{path}").parse() {
        parts.path_and_query = Some(versioned);
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
    }
    request
}

fn filter(key: &str, value: String) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value])])
}

/// What is done, about what, and the engine to ask.
#[derive(Clone)]
struct Asking {
    client: bollard::Docker,
    agreed: Arc<Mutex<Option<bollard::Docker>>>,
    engine: String,
    at: String,
    action: &'static str,
    subject: String,
}

impl Asking {
    async fn within<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = std::result::Result<T, bollard::errors::Error>>,
    ) -> Result<T> {
        match timeout(limit, request).await {
            Ok(answer) => answer.map_err(|error| self.failed(&error)),
            Err(_) if limit == QUERY => {
                let message = format!("{} did not answer in {} s", self.at, limit.as_secs());
                self.forget();
                Err(self.failure(Fault::Unreachable, message))
            }
            Err(_) => Err(self.failure(Fault::TimedOut, format!("it took longer than {} s", limit.as_secs()))),
        }
    }

    fn failed(&self, error: &bollard::errors::Error) -> Failure {
        let (fault, message) = answer::fault(error, &self.at);
        if fault == Fault::Unreachable {
            self.forget();
        }
        self.failure(fault, message)
    }

    fn failure(&self, fault: Fault, message: String) -> Failure {
        Failure { engine: self.engine.clone(), action: self.action, subject: self.subject.clone(), fault, message }
    }

    fn refused(&self, message: String) -> Failure {
        self.failure(Fault::Refused, message)
    }

    /// What comes back may speak another version.
    fn forget(&self) {
        *self.agreed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.fault == Fault::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[async_trait]
impl Engine for Docker {
    async fn about(&self) -> Result<About> {
        let asking = self.asking("describe", &self.address()).await?;
        let version = asking.within(QUERY, asking.client.version()).await?;
        let info = asking.within(QUERY, asking.client.info()).await?;
        let cpus = u32::try_from(info.ncpu.unwrap_or_default()).unwrap_or_default();
        Ok(About {
            version: shown(&version.version.unwrap_or_default(), SUBJECT_MAX),
            api_version: asking.client.client_version().to_string(),
            cpus: f64::from(cpus),
            memory_bytes: u64::try_from(info.mem_total.unwrap_or_default()).unwrap_or_default(),
            rootless: answer::is_rootless(&info),
            architecture: answer::architecture(info.architecture.or(version.arch)),
        })
    }

    async fn image(&self, name: &str) -> Result<Option<Image>> {
        let asking = self.about_image("look at the image", name).await?;
        let image = found(asking.within(QUERY, asking.client.inspect_image(name)).await)?;
        Ok(image.and_then(answer::image))
    }

    async fn pull(&self, name: &str, credentials: Option<&Credentials>, progress: &PullProgress) -> Result<()> {
        let asking = self.about_image("fetch", name).await?;
        stream::pull(&asking, name, credentials, progress).await?;
        // Podman may tell a failure where bollard does not look.
        match found(asking.within(QUERY, asking.client.inspect_image(name)).await)? {
            Some(_) => Ok(()),
            None => Err(asking.failure(Fault::NotFound, "the engine does not have it after fetching it".to_owned())),
        }
    }

    async fn tag(&self, image: &str, name: &str) -> Result<()> {
        let asking = self.about_image("tag", image).await?;
        let full = spec::with_tag(name);
        let Some((repo, tag)) = full.rsplit_once(':').filter(|_| spec::is_image(name) && !name.contains('@')) else {
            return Err(asking.refused(format!("`{}` is not a name for an image", shown(name, SUBJECT_MAX))));
        };
        let options = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(tag.to_owned()) };
        asking.within(QUERY, asking.client.tag_image(image, Some(options))).await
    }

    /// Networks beyond the first are joined one by one: dropped in between, a container is left in fewer than it was to
    /// have, which shows in what lists it.
    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let asking = self.named("create the container", &spec.name).await?;
        let body = spec::container(spec).map_err(|reason| asking.refused(reason))?;
        // Docker would make a missing volume itself, and nobody would own it; a missing network it tells at the start.
        for volume in spec.volumes.keys() {
            asking.within(QUERY, asking.client.inspect_volume(volume)).await?;
        }
        for network in spec.networks.keys() {
            if self.networks_named(&asking, network).await?.is_empty() {
                return Err(asking.failure(Fault::NotFound, format!("there is no network {network}")));
            }
        }
        let options = CreateContainerOptions { name: Some(spec.name.clone()), platform: String::new() };
        let id = asking.within(ACTION, asking.client.create_container(Some(options), body)).await?.id;
        for (network, aliases) in spec.networks.iter().skip(1) {
            let request =
                NetworkConnectRequest { container: id.clone(), endpoint_config: Some(spec::endpoint(aliases)) };
            if let Err(failure) = asking.within(ACTION, asking.client.connect_network(network, request)).await {
                let _ = self.remove(&id).await;
                return Err(failure);
            }
        }
        Ok(id)
    }

    async fn start(&self, container: &str) -> Result<()> {
        let asking = self.named("start the container", container).await?;
        asking.within(ACTION, asking.client.start_container(container, None)).await
    }

    async fn stop(&self, container: &str, grace: Duration) -> Result<()> {
        let asking = self.named("stop the container", container).await?;
        let seconds = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
        let options = StopContainerOptions { signal: None, t: Some(i32::try_from(seconds).unwrap_or(i32::MAX)) };
        let stopped = asking.client.stop_container(container, Some(options));
        found(asking.within(grace.saturating_add(SLACK), stopped).await).map(|_| ())
    }

    async fn remove(&self, container: &str) -> Result<()> {
        let asking = self.named("remove the container", container).await?;
        let until = Instant::now() + ACTION;
        loop {
            let options = RemoveContainerOptions { v: true, force: true, link: false };
            let removed = asking.within(ACTION, asking.client.remove_container(container, Some(options))).await;
            match found(removed) {
                // Somebody else is at it: it is gone when they are done.
                Err(failure) if failure.fault == Fault::Conflict && Instant::now() < until => sleep(LOOK_AGAIN).await,
                other => return other.map(|_| ()),
            }
        }
    }

    async fn container(&self, container: &str) -> Result<Option<Container>> {
        let asking = self.named("look at the container", container).await?;
        let inspected = found(asking.within(QUERY, asking.client.inspect_container(container, None)).await)?;
        let is_it = |found: &Container| found.name == container || found.id == container;
        Ok(inspected.and_then(answer::container).filter(is_it))
    }

    async fn containers(&self, label: &str, value: &str) -> Result<Vec<Container>> {
        let asking = self.asking("list the containers of", value).await?;
        let filters = Some(filter("label", format!("{label}={value}")));
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let listed = asking.within(QUERY, asking.client.list_containers(Some(options))).await?;
        let ours = |container: &Container| container.labels.get(label).is_some_and(|it| it == value);
        Ok(listed.into_iter().filter_map(answer::listed).filter(ours).collect())
    }

    async fn logs(&self, container: &str, most: usize) -> Result<Vec<u8>> {
        let asking = self.named("read the output of", container).await?;
        stream::logs(&asking, container, most).await
    }

    async fn exec(&self, container: &str, exec: &Exec) -> Result<Executed> {
        let asking = self.named("run a command in", container).await?;
        stream::exec(&asking, container, exec).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<()> {
        let asking = self.named("create the network", &spec.name).await?;
        let mut there = self.networks_named(&asking, &spec.name).await?;
        if there.is_empty() {
            match asking.within(ACTION, asking.client.create_network(spec::network(spec))).await {
                // Somebody else was faster, and the engine noticed.
                Err(failure) if failure.fault == Fault::Conflict => {}
                made => drop(made?),
            }
            there = self.networks_named(&asking, &spec.name).await?;
        }
        let wanted = spec::network_options(spec.reach);
        let alike = |network: &bollard::models::Network| {
            let options = network.options.clone().unwrap_or_default();
            network.driver.as_deref() == Some("bridge")
                && network.internal.unwrap_or_default() == (spec.reach == Reach::Internal)
                && wanted.iter().all(|(option, value)| options.get(option) == Some(value))
        };
        if there.is_empty() || !there.iter().all(alike) {
            return Err(asking.failure(Fault::Conflict, "there is another network of this name".to_owned()));
        }
        // Where it did not notice there are two. One stays, the same to all who look, or one that is in use by now.
        let mut left = there.len();
        for extra in there.iter().rev().filter_map(|network| network.id.as_ref()) {
            if left == 1 {
                break;
            }
            match found(asking.within(ACTION, asking.client.remove_network(extra)).await) {
                Err(failure) if failure.fault == Fault::Conflict => {}
                removed => {
                    removed?;
                    left -= 1;
                }
            }
        }
        Ok(())
    }

    async fn networks(&self, label: &str, value: &str) -> Result<Vec<Network>> {
        let asking = self.asking("list the networks of", value).await?;
        let options = ListNetworksOptions { filters: Some(filter("label", format!("{label}={value}"))) };
        let listed = asking.within(QUERY, asking.client.list_networks(Some(options))).await?;
        let read = |found: bollard::models::Network| {
            Some(Network { id: found.id?, name: found.name?, labels: answer::sorted(found.labels) })
        };
        let ours = |network: &Network| network.labels.get(label).is_some_and(|it| it == value);
        Ok(listed.into_iter().filter_map(read).filter(ours).collect())
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        let asking = self.named("remove the network", name).await?;
        for id in self.networks_named(&asking, name).await?.into_iter().filter_map(|network| network.id) {
            found(asking.within(ACTION, asking.client.remove_network(&id)).await)?;
        }
        Ok(())
    }

    async fn create_volume(&self, name: &str, labels: &BTreeMap<String, String>) -> Result<()> {
        let asking = self.named("create the volume", name).await?;
        let volume = asking.within(ACTION, asking.client.create_volume(spec::volume(name, labels))).await?;
        // One that was there may be a path of the host in disguise.
        if volume.driver != "local" || !volume.options.is_empty() {
            return Err(asking.failure(Fault::Conflict, "there is another volume of this name".to_owned()));
        }
        Ok(())
    }

    async fn volumes(&self, label: &str, value: &str) -> Result<Vec<Volume>> {
        let asking = self.asking("list the volumes of", value).await?;
        let options = ListVolumesOptions { filters: Some(filter("label", format!("{label}={value}"))) };
        let listed = asking.within(QUERY, asking.client.list_volumes(Some(options))).await?;
        let read =
            |found: bollard::models::Volume| Volume { name: found.name, labels: found.labels.into_iter().collect() };
        let ours = |volume: &Volume| volume.labels.get(label).is_some_and(|it| it == value);
        Ok(listed.volumes.unwrap_or_default().into_iter().map(read).filter(ours).collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let asking = self.named("remove the volume", name).await?;
        let options = RemoveVolumeOptions { force: false };
        found(asking.within(ACTION, asking.client.remove_volume(name, Some(options))).await).map(|_| ())
    }

    async fn export_volume(&self, volume: &str, image: &str, to: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<u64> {
        let asking = self.named("export the volume", volume).await?;
        let helper = stream::helper(&asking, volume, image).await?;
        let copied = stream::export(&asking, &helper, to).await;
        self.remove(&helper).await?;
        copied
    }

    async fn import_volume(&self, volume: &str, image: &str, from: Box<dyn AsyncRead + Send + Unpin>) -> Result<()> {
        let asking = self.named("import into the volume", volume).await?;
        let helper = stream::helper(&asking, volume, image).await?;
        let copied = stream::import(&asking, &helper, from).await;
        self.remove(&helper).await?;
        copied
    }

    async fn events(&self, label: &str, value: &str) -> Result<Events> {
        let asking = self.asking("watch the containers of", value).await?;
        stream::events(asking, label, value).await
    }
}
