//! Requests that take a while: output, pulls, archives, events. Each is read as it comes and kept within bounds.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::auth::DockerCredentials;
use bollard::models::CreateImageInfo;
use bollard::query_parameters::{
    CreateContainerOptions, CreateImageOptions, DownloadFromContainerOptions, EventsOptions, LogsOptions,
    UploadToContainerOptions,
};
use bytes::Bytes;
use futures_util::stream::try_unfold;
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::connection::Asking;
use super::{ACTION, STALLED, answer, inspect, spec, volume_named};
use crate::engine::{Credentials, Events, Failure, Fault, Helper, PullProgress, Pulled, Result};
use crate::text::shown;

/// Most lines of output that are asked for: a line is at most 16 KiB to Docker, and longer ones are several.
const LINES_MAX: usize = 10_000;
/// Most layers of an image whose progress is followed.
const LAYERS_MAX: usize = 1000;
/// How much of an archive is read at once.
const CHUNK: usize = 64 << 10;

pub async fn logs(asking: &Asking, container: &str, most: usize) -> Result<Vec<u8>> {
    // What a terminal prints comes without lengths, and bollard waits for the end of a line however long it is. None of our
    // containers has one.
    let inspected = inspect(asking, container).await?;
    if inspected.config.and_then(|config| config.tty).unwrap_or_default() {
        return Err(asking.refused("it has a terminal".to_owned()));
    }
    let options =
        LogsOptions { stdout: true, stderr: true, tail: most.min(LINES_MAX).to_string(), ..LogsOptions::default() };
    let mut output = pin!(asking.client.logs(container, Some(options)));
    let mut kept = VecDeque::new();
    let read = async {
        while let Some(part) = output.next().await {
            kept.extend(part?.into_bytes());
            kept.drain(..kept.len().saturating_sub(most));
        }
        Ok(())
    };
    asking.ask(read).await?;
    Ok(kept.into())
}

/// For the registry of this image, and no other.
pub fn credentials(asking: &Asking, name: &str, given: Option<&Credentials>) -> Result<Option<DockerCredentials>> {
    if given.is_some_and(|given| given.registry != spec::registry(name)) {
        return Err(asking.refused("the credentials are for another registry".to_owned()));
    }
    Ok(given.map(|given| DockerCredentials {
        username: Some(given.user.clone()),
        password: Some(given.password.clone()),
        serveraddress: Some(given.registry.clone()),
        ..DockerCredentials::default()
    }))
}

pub async fn pull(
    asking: &Asking,
    name: &str,
    credentials: Option<&Credentials>,
    progress: &PullProgress<'_>,
) -> Result<()> {
    let credentials = self::credentials(asking, name, credentials)?;
    let options = CreateImageOptions { from_image: Some(spec::with_tag(name)), ..CreateImageOptions::default() };
    let mut steps = pin!(asking.client.create_image(Some(options), None, credentials));
    let mut layers = BTreeMap::new();
    loop {
        match timeout(STALLED, steps.next()).await {
            Ok(None) => return Ok(()),
            Ok(Some(step)) => progress(so_far(&mut layers, step.map_err(|error| asking.failed(&error))?)),
            Err(_) => {
                return Err(asking.failure(Fault::TimedOut, format!("nothing came for {} s", STALLED.as_secs())));
            }
        }
    }
}

/// Bytes of each layer that are here, and that it has.
fn so_far(layers: &mut BTreeMap<String, (u64, u64)>, step: CreateImageInfo) -> Pulled {
    let id = step.id.unwrap_or_default();
    let status = step.status.unwrap_or_default();
    let detail = step.progress_detail.unwrap_or_default();
    let bytes = |count: Option<i64>| count.and_then(|count| u64::try_from(count).ok());
    match (status.as_str(), bytes(detail.current), bytes(detail.total)) {
        ("Downloading", Some(current), Some(total)) if layers.len() < LAYERS_MAX => {
            layers.insert(id.clone(), (current.min(total), total));
        }
        ("Download complete" | "Pull complete", ..) => {
            if let Some((current, total)) = layers.get_mut(&id) {
                *current = *total;
            }
        }
        _ => {}
    }
    let sum = |part: fn(&(u64, u64)) -> u64| layers.values().map(part).fold(0, u64::saturating_add);
    Pulled {
        step: shown(format!("{status} {id}").trim(), 200),
        bytes: sum(|(current, _)| *current),
        of: sum(|(_, total)| *total),
    }
}

/// Makes a container to reach a volume through.
pub async fn helper(asking: &Asking, volume: &str, helper: &Helper) -> Result<String> {
    volume_named(asking, volume).await?;
    let options = CreateContainerOptions { name: Some(helper.name.clone()), platform: String::new() };
    let made = asking.client.create_container(Some(options), spec::helper(volume, helper));
    Ok(asking.within(ACTION, made).await?.id)
}

pub async fn export(asking: &Asking, helper: &str, to: &mut (dyn AsyncWrite + Send + Unpin)) -> Result<u64> {
    let options = DownloadFromContainerOptions { path: format!("{}/.", spec::HELPER_MOUNT) };
    let mut archive = pin!(asking.client.download_from_container(helper, Some(options)));
    let mut bytes = 0_u64;
    while let Some(part) = asking.within(STALLED, archive.try_next()).await? {
        to.write_all(&part).await.map_err(|e| unwritten(asking, &e))?;
        bytes = bytes.saturating_add(part.len() as u64);
    }
    to.flush().await.map_err(|e| unwritten(asking, &e))?;
    Ok(bytes)
}

fn unwritten(asking: &Asking, error: &std::io::Error) -> Failure {
    asking.refused(format!("the archive cannot be written: {error}"))
}

pub async fn import(asking: &Asking, helper: &str, from: Box<dyn AsyncRead + Send + Unpin>) -> Result<()> {
    let sent = Arc::new(AtomicU64::new(0));
    let unread = Arc::new(Mutex::new(None));
    let (count, note) = (Arc::clone(&sent), Arc::clone(&unread));
    let parts = try_unfold((from, count, note), |(mut from, count, note)| async move {
        let mut part = vec![0; CHUNK];
        let read = match from.read(&mut part).await {
            Ok(0) => return Ok(None),
            Ok(read) => read,
            Err(e) => {
                *note.lock().unwrap_or_else(PoisonError::into_inner) = Some(e.to_string());
                return Err(e);
            }
        };
        part.truncate(read);
        count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(Some((Bytes::from(part), (from, count, note))))
    });
    let options =
        UploadToContainerOptions { path: spec::HELPER_MOUNT.to_owned(), ..UploadToContainerOptions::default() };
    let upload = asking.client.upload_to_container(helper, Some(options), bollard::body_try_stream(parts));
    let mut upload = pin!(upload);
    loop {
        let before = sent.load(Ordering::Relaxed);
        match timeout(STALLED, &mut upload).await {
            Ok(done) => {
                let unread = unread.lock().unwrap_or_else(PoisonError::into_inner).take();
                return match unread {
                    Some(error) => Err(asking.refused(format!("the archive cannot be read: {error}"))),
                    None => done.map_err(|error| asking.failed(&error)),
                };
            }
            Err(_) if sent.load(Ordering::Relaxed) == before => {
                return Err(asking.failure(Fault::TimedOut, format!("nothing went for {} s", STALLED.as_secs())));
            }
            Err(_) => {}
        }
    }
}

pub async fn events(asking: Asking, label: &str, value: &str) -> Result<Events> {
    asking.ask(asking.client.ping()).await?;
    // The stream is opened when it is first asked; the engine tells what has happened since now. Where its clock is ahead it
    // tells some more, where it is behind it tells what happens from then on.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let options = EventsOptions {
        since: Some(format!("{}.{:09}", now.as_secs(), now.subsec_nanos())),
        until: None,
        filters: Some(HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![format!("{label}={value}")]),
        ])),
    };
    let stream = asking.client.events(Some(options)).filter_map(move |message| {
        let event = match message {
            Ok(message) => answer::event(message).map(Ok),
            Err(error) => Some(Err(asking.failed(&error))),
        };
        std::future::ready(event)
    });
    Ok(Box::pin(stream))
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn progress_is_that_of_all_layers() {
        let mut layers = BTreeMap::new();
        let mut tell = |id: &str, status: &str, current: i64, total: i64| {
            let progress_detail = Some(ProgressDetail { current: Some(current), total: Some(total) });
            let (id, status) = (Some(id.to_owned()), Some(status.to_owned()));
            let pulled =
                so_far(&mut layers, CreateImageInfo { id, status, progress_detail, ..CreateImageInfo::default() });
            (pulled.bytes, pulled.of)
        };
        assert_eq!(tell("a", "Downloading", 10, 100), (10, 100));
        assert_eq!(tell("b", "Downloading", 5, 50), (15, 150));
        assert_eq!(tell("a", "Download complete", 0, 0), (105, 150));
        // Unpacking counts from the start again, and a registry may claim anything.
        assert_eq!(tell("a", "Extracting", 1, 100), (105, 150));
        assert_eq!(tell("b", "Downloading", 500, 50), (150, 150));
        assert_eq!(tell("c", "Downloading", -1, i64::MAX), (150, 150));
    }
}
