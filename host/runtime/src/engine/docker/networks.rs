//! Networks: found by their names, made once whoever else makes them, and only as they were asked for.

use std::time::Duration;

use bollard::query_parameters::ListNetworksOptions;
use tokio::time::{Instant, sleep};

use super::connection::Asking;
use super::{ACTION, LOOK_AGAIN, filter, found, spec};
use crate::engine::{Failure, Fault, NetworkSpec, Reach, Result};

/// How long it may take until what somebody else makes is there for all to see.
const LISTED: Duration = Duration::from_secs(10);

/// The networks that have this name and no other: Docker takes a part of a name for one, and may have two of one name.
pub async fn named(asking: &Asking, name: &str) -> Result<Vec<bollard::models::Network>> {
    let options = ListNetworksOptions { filters: Some(filter("name", name.to_owned())) };
    let mut networks = asking.ask(asking.client.list_networks(Some(options))).await?;
    networks.retain(|network| network.name.as_deref() == Some(name) && network.id.is_some());
    Ok(networks)
}

/// The network whose making by somebody else kept ours from being made. It is listed a moment later, or never where that
/// failed.
async fn somebody_elses(
    asking: &Asking,
    spec: &NetworkSpec,
    failure: Failure,
) -> Result<Vec<bollard::models::Network>> {
    let until = Instant::now() + LISTED;
    loop {
        let there = named(asking, &spec.name).await?;
        if !there.is_empty() {
            return Ok(there);
        }
        if Instant::now() > until {
            return Err(failure);
        }
        sleep(LOOK_AGAIN).await;
    }
}

pub async fn create(asking: &Asking, spec: &NetworkSpec) -> Result<()> {
    let mut there = named(asking, &spec.name).await?;
    let mut made = None;
    if there.is_empty() {
        match asking.within(ACTION, asking.client.create_network(spec::network(spec))).await {
            Err(failure) if failure.fault == Fault::Conflict => {
                there = somebody_elses(asking, spec, failure).await?;
            }
            answer => {
                made = Some(answer?.id);
                there = named(asking, &spec.name).await?;
            }
        }
    }
    let wanted = spec::network_options(spec);
    let alike = |network: &bollard::models::Network| {
        let options = network.options.clone().unwrap_or_default();
        let same = |(option, value)| match options.get(option) {
            Some(found) => found == value,
            None => option == spec::BRIDGE_NAME,
        };
        network.driver.as_deref() == Some("bridge")
            && network.internal.unwrap_or_default() == (spec.reach == Reach::Internal)
            && wanted.iter().all(same)
    };
    // Podman makes it all the same when it does not know an option.
    if let Some(made) = made
        && there.iter().any(|network| network.id.as_ref() == Some(&made) && !alike(network))
    {
        found(asking.within(ACTION, asking.client.remove_network(&made)).await)?;
        return Err(asking.refused(format!(
            "it does not keep containers that publish ports or reach out apart, as Docker does by {}",
            spec::ICC
        )));
    }
    if there.is_empty() || !there.iter().all(alike) {
        return Err(asking.failure(Fault::Conflict, "there is another network of this name".to_owned()));
    }
    Ok(())
}

pub async fn remove(asking: &Asking, name: &str) -> Result<()> {
    let there = named(asking, name).await?;
    // By its id, Podman removes one that is in use. By its name, Docker does not say which of several.
    let by_name = [name.to_owned()];
    let ids: Vec<String> = there.into_iter().filter_map(|network| network.id).collect();
    for one in if ids.len() > 1 { &ids[..] } else { &by_name } {
        found(asking.within(ACTION, asking.client.remove_network(one)).await)?;
    }
    Ok(())
}
