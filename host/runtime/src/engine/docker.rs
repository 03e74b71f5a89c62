//! Docker, and Podman through the socket that speaks Docker's API: over a local socket or mutual TLS, never plain TCP.
//!
//! Podman 4.3 does less: it cannot keep containers of one network apart, so that the networks of services that publish
//! ports or reach out are refused; it shows nothing of a line of output before its end; and its archives of volumes make
//! everything root's.
//!
//! `connection` knows the engine, `tls` reaches one on another machine, `spec` has what is asked, `answer` what comes back,
//! `stream` the requests that take a while, `exec` commands in a container, `networks` the requests that take several, `disk`
//! one whose answer bollard cannot read. Here: each thing the trait can ask for.

mod answer;
mod connection;
mod disk;
mod exec;
mod networks;
mod spec;
mod stream;
mod tls;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerInspectResponse, NetworkConnectRequest};
use bollard::query_parameters::{
    CreateContainerOptions, ListContainersOptions, ListNetworksOptions, ListVolumesOptions, RemoveContainerOptions,
    RemoveVolumeOptions, StopContainerOptions, TagImageOptions,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use self::connection::Asking;
pub use self::connection::{Address, Docker};
use crate::engine::{
    About, Container, ContainerSpec, Credentials, DiskUsage, Engine, Events, Exec, Executed, Fault, Helper, Image,
    Network, NetworkSpec, PullProgress, Result, Streams, Volume,
};
use crate::text::shown;

/// For what makes the engine do something.
const ACTION: Duration = Duration::from_secs(120);
/// For stopping, beyond the container's grace.
const SLACK: Duration = Duration::from_secs(30);
/// What is written or read for as long as it takes must get on within this time.
const STALLED: Duration = Duration::from_secs(60);
/// How long a container may take to be cleaned up after it has ended.
const SETTLED: Duration = Duration::from_secs(5);
/// How often a thing is looked at until it has come about.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longest subject of a failure, in bytes.
const SUBJECT_MAX: usize = 200;

fn found<T>(answer: Result<T>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.fault == Fault::NotFound => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn filter(key: &str, value: String) -> HashMap<String, Vec<String>> {
    HashMap::from([(key.to_owned(), vec![value])])
}

/// The volume of this name and no other: Podman takes the beginning of a name for one.
async fn volume_named(asking: &Asking, name: &str) -> Result<()> {
    let volume = asking.ask(asking.client.inspect_volume(name)).await?;
    if volume.name == name {
        return Ok(());
    }
    Err(asking.failure(Fault::NotFound, format!("there is no volume {name}")))
}

/// Podman has a state between running and exited that bollard has no word for. It is over soon.
async fn inspect(asking: &Asking, container: &str) -> Result<ContainerInspectResponse> {
    let until = Instant::now() + SETTLED;
    loop {
        match asking.ask(asking.client.inspect_container(container, None)).await {
            Err(failure) if failure.message.contains("unknown variant `stopped`") && Instant::now() < until => {
                sleep(LOOK_AGAIN).await;
            }
            inspected => return inspected,
        }
    }
}

#[async_trait]
impl Engine for Docker {
    async fn about(&self) -> Result<About> {
        let asking = self.asking("describe", &self.address()).await?;
        let version = asking.ask(asking.client.version()).await?;
        let info = asking.ask(asking.client.info()).await?;
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
        let image = found(asking.ask(asking.client.inspect_image(name)).await)?;
        Ok(image.and_then(answer::image))
    }

    async fn pull(&self, name: &str, credentials: Option<&Credentials>, progress: &PullProgress<'_>) -> Result<()> {
        let asking = self.about_image("fetch", name).await?;
        stream::pull(&asking, name, credentials, progress).await?;
        // Podman may tell a failure where bollard does not look.
        match found(asking.ask(asking.client.inspect_image(name)).await)? {
            Some(_) => Ok(()),
            None => Err(asking.failure(Fault::NotFound, "the engine does not have it after fetching it".to_owned())),
        }
    }

    async fn published(&self, name: &str, credentials: Option<&Credentials>) -> Result<String> {
        let asking = self.about_image("ask the registry for", name).await?;
        let credentials = stream::credentials(&asking, name, credentials)?;
        let found =
            asking.within(ACTION, asking.client.inspect_registry_image(&spec::with_tag(name), credentials)).await?;
        let digest = found.descriptor.digest.map(|digest| shown(&digest, SUBJECT_MAX));
        digest.ok_or_else(|| asking.refused("the registry told no digest of it".to_owned()))
    }

    async fn tag(&self, image: &str, name: &str) -> Result<()> {
        let asking = self.about_image("tag", image).await?;
        let full = spec::with_tag(name);
        let Some((repo, tag)) = full.rsplit_once(':').filter(|_| spec::is_image(name) && !name.contains('@')) else {
            return Err(asking.refused(format!("`{}` is not a name for an image", shown(name, SUBJECT_MAX))));
        };
        let options = TagImageOptions { repo: Some(repo.to_owned()), tag: Some(tag.to_owned()) };
        asking.ask(asking.client.tag_image(image, Some(options))).await
    }

    /// Networks beyond the first are joined one by one: dropped in between, a container is left in fewer than it was to
    /// have, which shows in what lists it.
    async fn create(&self, spec: &ContainerSpec) -> Result<String> {
        let asking = self.named("create the container", &spec.name).await?;
        let body = spec::container(spec).map_err(|reason| asking.refused(reason))?;
        // Docker would make a missing volume itself, and nobody would own it; a missing network it tells at the start.
        for volume in spec.volumes.keys().chain(spec.read_only_volumes.keys()) {
            volume_named(&asking, volume).await?;
        }
        for network in spec.networks.keys() {
            if networks::named(&asking, network).await?.is_empty() {
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
        let inspected = found(inspect(&asking, container).await)?;
        let is_it = |found: &Container| found.name == container || found.id == container;
        Ok(inspected.and_then(answer::container).filter(is_it))
    }

    async fn containers(&self, label: &str, value: &str) -> Result<Vec<Container>> {
        let asking = self.asking("list the containers of", value).await?;
        let filters = Some(filter("label", format!("{label}={value}")));
        let options = ListContainersOptions { all: true, filters, ..ListContainersOptions::default() };
        let listed = asking.ask(asking.client.list_containers(Some(options))).await?;
        let ours = |container: &Container| container.labels.get(label).is_some_and(|it| it == value);
        Ok(listed.into_iter().filter_map(answer::listed).filter(ours).collect())
    }

    async fn logs(&self, container: &str, most: usize) -> Result<Vec<u8>> {
        let asking = self.named("read the output of", container).await?;
        stream::logs(&asking, container, most).await
    }

    async fn exec(&self, container: &str, exec: &Exec) -> Result<Executed> {
        let asking = self.named("run a command in", container).await?;
        exec::exec(&asking, container, exec).await
    }

    async fn pipe(&self, container: &str, exec: &Exec, streams: Streams<'_>) -> Result<Executed> {
        let asking = self.named("run a command in", container).await?;
        exec::pipe(&asking, container, exec, streams).await
    }

    async fn create_network(&self, spec: &NetworkSpec) -> Result<()> {
        let asking = self.named("create the network", &spec.name).await?;
        networks::create(&asking, spec).await
    }

    async fn networks(&self, label: &str, value: &str) -> Result<Vec<Network>> {
        let asking = self.asking("list the networks of", value).await?;
        let options = ListNetworksOptions { filters: Some(filter("label", format!("{label}={value}"))) };
        let listed = asking.ask(asking.client.list_networks(Some(options))).await?;
        let read = |found: bollard::models::Network| {
            Some(Network { id: found.id?, name: found.name?, labels: answer::sorted(found.labels) })
        };
        let ours = |network: &Network| network.labels.get(label).is_some_and(|it| it == value);
        Ok(listed.into_iter().filter_map(read).filter(ours).collect())
    }

    async fn remove_network(&self, name: &str) -> Result<()> {
        let asking = self.named("remove the network", name).await?;
        networks::remove(&asking, name).await
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

    async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        let asking = self.named("look at the volume", name).await?;
        let found = found(asking.ask(asking.client.inspect_volume(name)).await)?;
        Ok(found.map(answer::volume).filter(|volume| volume.name == name))
    }

    async fn volumes(&self, label: &str, value: &str) -> Result<Vec<Volume>> {
        let asking = self.asking("list the volumes of", value).await?;
        let options = ListVolumesOptions { filters: Some(filter("label", format!("{label}={value}"))) };
        let listed = asking.ask(asking.client.list_volumes(Some(options))).await?;
        let ours = |volume: &Volume| volume.labels.get(label).is_some_and(|it| it == value);
        Ok(listed.volumes.unwrap_or_default().into_iter().map(answer::volume).filter(ours).collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<()> {
        let asking = self.named("remove the volume", name).await?;
        if found(volume_named(&asking, name).await)?.is_none() {
            return Ok(());
        }
        let options = RemoveVolumeOptions { force: false };
        found(asking.within(ACTION, asking.client.remove_volume(name, Some(options))).await).map(|_| ())
    }

    async fn disk_usage(&self) -> Result<DiskUsage> {
        disk::usage(&self.asking("measure what is kept by", &self.address()).await?).await
    }

    async fn export_volume(
        &self,
        volume: &str,
        helper: &Helper,
        to: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<u64> {
        let asking = self.named("export the volume", volume).await?;
        let helper = stream::helper(&asking, volume, helper).await?;
        let copied = stream::export(&asking, &helper, to).await;
        let removed = self.remove(&helper).await;
        let done = copied?;
        removed.map(|()| done)
    }

    async fn import_volume(
        &self,
        volume: &str,
        helper: &Helper,
        from: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<()> {
        let asking = self.named("import into the volume", volume).await?;
        let helper = stream::helper(&asking, volume, helper).await?;
        let copied = stream::import(&asking, &helper, from).await;
        let removed = self.remove(&helper).await;
        let done = copied?;
        removed.map(|()| done)
    }

    async fn events(&self, label: &str, value: &str) -> Result<Events> {
        let asking = self.asking("watch the containers of", value).await?;
        stream::events(asking, label, value).await
    }
}
