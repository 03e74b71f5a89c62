//! `lodger info`.

use lodger::{AddonDetails, FailurePolicy, Need};

use crate::context::Context;
use crate::output;
use crate::place::{Place, of_addon};

/// Show an addon: state, settings, what it needs and who needs it, who uses it, what its data takes, what failures lead to
#[derive(clap::Args)]
pub struct Info {
    addon: String,
}

impl Info {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let place = context.place().await?;
        let id = place.resolve(&self.addon).await?;
        let details: AddonDetails = match &place {
            Place::Here(host) => host.details(&id).await?,
            Place::There(server) => server.get(&of_addon(&id, "")).await?,
        };
        if context.json {
            output::json(&details)?;
            return Ok(0);
        }
        let AddonDetails { info, replaces, earlier, depends, needed_by, failure, settings, resources } = details;
        let mut rows = vec![
            vec!["addon".to_owned(), id.to_string()],
            vec!["version".to_owned(), info.version],
            vec!["state".to_owned(), info.state.to_string()],
            vec!["digest".to_owned(), info.digest],
            vec!["data".to_owned(), format!("{} in {} files", lodger::human_bytes(info.data_bytes), info.data_files)],
        ];
        rows.extend(replaces.map(|slot| vec!["replaces".to_owned(), slot.to_string()]));
        rows.extend(earlier.iter().map(|earlier| vec!["earlier".to_owned(), earlier.version.to_string()]));
        rows.extend(depends.iter().map(|need| vec![format!("needs {}", need.addon), describe(need)]));
        rows.extend(needed_by.iter().map(|addon| vec!["needed by".to_owned(), addon.to_string()]));
        for (hook, policy) in failure.into_iter().filter(|(_, policy)| *policy != FailurePolicy::FailClosed) {
            rows.push(vec![format!("when {hook} fails"), policy.to_string()]);
        }
        for setting in settings {
            let value = match (&setting.value, setting.secret, setting.set) {
                (Some(value), _, _) => lodger::text::shown(value, 200),
                (None, true, true) => "(a secret, set)".to_owned(),
                (None, true, false) => "(a secret, not set)".to_owned(),
                (None, false, _) => "(not set)".to_owned(),
            };
            rows.push(vec![format!("setting {}", setting.name), value]);
        }
        for resource in resources {
            rows.push(vec![format!("app {}", resource.app), super::apps::describe(&resource)]);
        }
        output::table(&rows);
        Ok(0)
    }
}

fn describe(need: &Need) -> String {
    let there = match (&need.installed, &need.state) {
        (Some(version), Some(state)) => format!("{version}, {state}"),
        _ => "not installed".to_owned(),
    };
    let wanted = need.version.as_ref().map(|version| format!(" (in version {version})"));
    format!("{there}{}", wanted.unwrap_or_default())
}
