//! `lodger reconcile`: finishes what was cut off, and makes services be as they should, once or for ever.

use lodger::{AddonId, Remote, Repair};
use serde_json::json;

use crate::context::Context;
use crate::output;
use crate::place::{Place, of_addon, only_here};

/// Finish what was cut off; start, mend and remove services until they are as they should be; tell events that wait
#[derive(clap::Args)]
pub struct Reconcile {
    /// Only this addon's
    addon: Option<String>,
    /// Go on: on what the engines tell, and every 30 seconds; what services take of the disk is measured every five minutes
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Start again what is left alone: services that have crashed too often, and for 15 minutes, to be cleared up, those
    /// that take too much of the disk
    #[arg(long, requires = "addon", conflicts_with = "watch")]
    retry: bool,
}

impl Reconcile {
    /// Exits with 1 when something is not as it should be.
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let only = match &self.addon {
            Some(addon) => Some(place.resolve(addon).await?),
            None => None,
        };
        let host = match &place {
            Place::Here(host) => host,
            Place::There(server) => {
                only_here(self.watch, "--watch", "it watches by itself")?;
                let repairs = context.watch("reconciling", self.there(server, only.as_ref())).await?;
                return answer(context, &repairs, Ok(()));
            }
        };
        if self.watch {
            host.watch_services(only.as_ref(), |round| match round {
                Ok(repairs) => repairs.iter().for_each(show),
                Err(error) => output::warn(format!("waiting: {error}")),
            })
            .await;
            return Ok(0);
        }
        if let Some(addon) = only.as_ref().filter(|_| self.retry) {
            host.retry_services(addon).await?;
        }
        let measured = context.watch("measuring", host.measure_disks(only.as_ref())).await;
        let repairs = context.watch("reconciling", host.reconcile(only.as_ref())).await?;
        answer(context, &repairs, measured.map(drop))
    }

    async fn there(&self, server: &Remote, only: Option<&AddonId>) -> Result<Vec<Repair>, lodger::RemoteError> {
        match only {
            Some(addon) => server.post(&of_addon(addon, "/reconcile"), &json!({ "retry": self.retry })).await,
            None => server.post("/v1/reconcile", &json!({})).await,
        }
    }
}

fn answer(context: &Context, repairs: &[Repair], measured: lodger::Result<()>) -> anyhow::Result<u8> {
    if context.json {
        measured?;
        output::json(&repairs)?;
    } else {
        repairs.iter().for_each(show);
        measured?;
        if repairs.is_empty() {
            output::say(context, "everything is as it should be");
        }
    }
    Ok(u8::from(repairs.iter().any(Repair::is_problem)))
}

fn show(repair: &Repair) {
    let of = repair.resource.as_deref().map(|key| format!(" of resource {key}")).unwrap_or_default();
    let why = repair.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
    let subject = repair.service.as_ref().map(ToString::to_string).or(repair.hook.map(|hook| hook.to_string()));
    let subject = subject.map(|subject| format!(" {subject}")).unwrap_or_default();
    output::line(format!("{}{subject}{of}: {}{why}", repair.addon, repair.what));
}
