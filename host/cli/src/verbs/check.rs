//! `lodger check`: everything that is wrong with a package, or what it would be allowed.

use std::path::PathBuf;

use lodger::{Grant, HookName, Incoming, human_bytes};
use serde_json::json;

use super::test::expectations::Expectations;
use crate::context::Context;
use crate::output;

/// Check an addon: its manifest, component and tests; show what it would be allowed
///
/// The policy is that of the home named with --home or LODGER_HOME, where there is one; else the built-in default.
#[derive(clap::Args)]
pub struct Check {
    /// A directory with an addon.json, or an archive
    #[arg(default_value = ".")]
    path: PathBuf,
}

impl Check {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let home = context.throw_away().await?;
        let what = format!("reading and compiling {}", self.path.display());
        let inspected = context.watch(&what, home.host.inspect(&self.path)).await;
        let expectations = Expectations::beside(&self.path);
        if let (Err(_), Err(error)) = (&inspected, &expectations) {
            output::say(context, format!("error: {error:#}"));
        }
        let Incoming { package, grant } = inspected?;
        expectations?;
        let version = package.manifest.version.as_ref().map(ToString::to_string);
        let remarks = remarks(&grant, package.manifest.plans.len());
        if context.json {
            output::json(&json!({
                "addon": grant.id,
                "version": version,
                "digest": package.digest,
                "hooks": grant.hooks,
                "denied_imports": grant.denied_imports,
                "remarks": remarks,
                "grant": grant,
            }))?;
            return Ok(0);
        }
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        let bytes = package.component.as_ref().map_or(0, Vec::len) as u64;
        output::table(&[
            vec!["addon".to_owned(), grant.id.to_string()],
            vec!["version".to_owned(), version.unwrap_or_else(|| "none, counted at install".to_owned())],
            match (&package.manifest.remote, package.manifest.component) {
                (Some(provider), _) => {
                    vec!["remote".to_owned(), format!("{}, {}", provider.base_url, provider.dialect)]
                }
                (None, Some(name)) => vec!["component".to_owned(), format!("{name}, {}", human_bytes(bytes))],
                (None, None) => vec!["component".to_owned(), "none".to_owned()],
            },
            vec!["files".to_owned(), package.files.len().to_string()],
            vec!["digest".to_owned(), package.digest],
            vec!["hooks".to_owned(), list(grant.hooks.iter().map(|hook| hook.name()).collect())],
            vec!["denied imports".to_owned(), list(grant.denied_imports.iter().map(String::as_str).collect())],
        ]);
        output::line("");
        super::explain::show(&grant);
        for remark in remarks {
            output::say(context, format!("note: {remark}"));
        }
        output::say(context, "no problems");
        Ok(0)
    }
}

/// What is allowed, and yet hardly meant.
fn remarks(grant: &Grant, plans: usize) -> Vec<String> {
    let exports = |hook| grant.hooks.contains(&hook);
    let mut remarks = Vec::new();
    if !exports(HookName::Provision) {
        remarks.push("it cannot be added to apps: the component does not export `provider`".to_owned());
        return remarks;
    }
    let (by_url, by_config) = match grant.config_vars.split_first() {
        Some((first, others)) if exports(HookName::Url) => (Some(first), others),
        _ => (None, grant.config_vars.as_slice()),
    };
    if by_url.is_none() && exports(HookName::Url) {
        remarks.push("what `url` answers goes nowhere: `config_vars` in addon.json is empty".to_owned());
    }
    if !by_config.is_empty() && !exports(HookName::ConfigVars) {
        let names = by_config.join(", ");
        let hook = if exports(HookName::Url) { "`config`" } else { "`url` or `config`" };
        remarks.push(format!("no hook fills {names}: the component does not export {hook}"));
    }
    if plans > 1 && !exports(HookName::ChangePlan) {
        remarks.push("an app stays on the plan it was given: the component does not export `plans`".to_owned());
    }
    remarks
}
