//! `lodger apps`.

use std::collections::BTreeMap;

use lodger::{Id, Resource};

use crate::context::Context;
use crate::output;
use crate::place::Place;

/// List the apps and what each has
#[derive(clap::Args)]
pub struct Apps {}

impl Apps {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let apps: BTreeMap<Id, Vec<Resource>> = match context.place().await? {
            Place::Here(host) => host.apps()?,
            Place::There(server) => server.get("/v1/apps").await?,
        };
        if context.json {
            output::json(&apps)?;
            return Ok(0);
        }
        let resources = apps.into_values().flatten();
        let row = |resource: Resource| vec![resource.app.to_string(), resource.addon.to_string(), describe(&resource)];
        output::table(&resources.map(row).collect::<Vec<_>>());
        Ok(0)
    }
}

/// Alias, id, plan and state, as far as there are any.
pub fn describe(resource: &Resource) -> String {
    let alias = resource.alias.as_ref().map(|alias| format!("as {alias}"));
    let plan = resource.plan.as_ref().map(|plan| format!("plan {plan}"));
    let id = resource.id.as_deref().map(|id| format!("id {}", lodger::text::shown(id, 80)));
    [alias, plan, id, Some(resource.state.to_string())].into_iter().flatten().collect::<Vec<_>>().join(", ")
}
