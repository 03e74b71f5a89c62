//! What containers and volumes take of the disk. Bollard reads the answer of the newest engines only: here both its shapes
//! are, that of versions up to 1.51 of the API and of Podman, and that of those after.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep};

use super::connection::Asking;
use crate::engine::{DiskUsage, Result};

/// An engine walks through all files of all volumes, on a slow disk perhaps.
const MEASURING: Duration = Duration::from_secs(600);
/// Before version 23 Docker measures for one at a time, and refuses all others.
const REFUSED: &str = "disk usage operation is already running";
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Largest answer that is read: a few KiB for each container.
const ANSWER_MAX: usize = 64 << 20;
/// Asks for what is needed, of engines that can tell less than everything; the others do not mind.
const PATH: &str = "/system/df?type=container&type=volume&verbose=true";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    #[serde(default)]
    containers: Option<Vec<Container>>,
    #[serde(default)]
    volumes: Option<Vec<Volume>>,
    #[serde(default)]
    container_usage: Items<Container>,
    #[serde(default)]
    volume_usage: Items<Volume>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", bound = "T: DeserializeOwned")]
struct Items<T> {
    #[serde(default)]
    items: Option<Vec<T>>,
}

impl<T> Default for Items<T> {
    fn default() -> Items<T> {
        Items { items: None }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(default)]
    names: Option<Vec<String>>,
    /// Left out where it is nothing.
    #[serde(default)]
    size_rw: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Volume {
    name: String,
    #[serde(default)]
    usage_data: Option<UsageData>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UsageData {
    /// Below nothing where it is not known.
    size: i64,
}

pub async fn usage(asking: &Asking) -> Result<DiskUsage> {
    let until = Instant::now() + MEASURING;
    let body = loop {
        match asking.within(MEASURING, body(asking)).await {
            Err(failure) if failure.message.contains(REFUSED) && Instant::now() < until => sleep(ASK_AGAIN).await,
            answer => break answer?,
        }
    };
    if body.len() > ANSWER_MAX {
        return Err(asking.refused(format!("its answer has more than {ANSWER_MAX} bytes")));
    }
    let answer: Answer = serde_json::from_slice(&body).map_err(|error| asking.refused(error.to_string()))?;
    let size = |bytes: i64| u64::try_from(bytes).unwrap_or_default();
    let (mut containers, mut volumes) = (BTreeMap::new(), BTreeMap::new());
    for container in [answer.containers, answer.container_usage.items].into_iter().flatten().flatten() {
        for name in container.names.into_iter().flatten() {
            containers.insert(name.trim_start_matches('/').to_owned(), size(container.size_rw));
        }
    }
    for volume in [answer.volumes, answer.volume_usage.items].into_iter().flatten().flatten() {
        volumes.insert(volume.name, size(volume.usage_data.map_or(0, |usage| usage.size)));
    }
    Ok(DiskUsage { containers, volumes })
}

/// Whole, or more than is wanted.
async fn body(asking: &Asking) -> std::result::Result<Vec<u8>, bollard::errors::Error> {
    let mut parts = pin!(asking.raw(PATH));
    let mut body = Vec::new();
    while let Some(part) = parts.next().await {
        body.extend(part?);
        if body.len() > ANSWER_MAX {
            break;
        }
    }
    Ok(body)
}
