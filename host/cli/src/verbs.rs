//! The verbs, in the order `--help` shows them: for operators, for apps, for authors.

mod add;
mod adopt;
mod apps;
mod backup;
mod build;
mod calls;
mod check;
mod completions;
mod consent;
mod dev;
mod disable;
mod doctor;
mod dump;
mod enable;
mod env;
mod events;
mod explain;
mod import;
mod info;
mod install;
mod list;
mod logs;
mod new;
mod open;
mod pack;
mod plan;
mod provider;
mod publish;
mod reconcile;
mod remove;
mod restore;
mod restore_home;
mod resume;
mod rollback;
mod run;
mod search;
mod serve;
mod set;
mod suspend;
mod test;
mod token;
mod uninstall;
mod upgrade;
mod url;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use lodger::{AddonId, Error, Id, Moved, ResourceNow};
use serde_json::json;

use crate::context::Context;
use crate::output::{self, Usage};

#[derive(clap::Subcommand)]
pub enum Verb {
    Install(install::Install),
    Import(import::Import),
    Uninstall(uninstall::Uninstall),
    Upgrade(upgrade::Upgrade),
    Rollback(rollback::Rollback),
    Enable(enable::Enable),
    Disable(disable::Disable),
    List(list::List),
    Info(info::Info),
    Explain(explain::Explain),
    Set(set::Set),
    Calls(calls::Calls),
    Events(events::Events),
    Logs(logs::Logs),
    Reconcile(reconcile::Reconcile),
    Serve(serve::Serve),
    Token(token::Token),
    Provider(provider::Provider),
    Doctor(doctor::Doctor),
    Adopt(adopt::Adopt),
    Search(search::Search),
    Publish(publish::Publish),
    Backup(backup::Backup),
    RestoreHome(restore_home::RestoreHome),
    Add(add::Add),
    Remove(remove::Remove),
    Plan(plan::Plan),
    Suspend(suspend::Suspend),
    Resume(resume::Resume),
    Url(url::Url),
    Open(open::Open),
    Env(env::Env),
    Run(run::Run),
    Dump(dump::Dump),
    Restore(restore::Restore),
    Apps(apps::Apps),
    New(new::New),
    Build(build::Build),
    Check(check::Check),
    Test(test::Test),
    Dev(dev::Dev),
    Pack(pack::Pack),
    Completions(completions::Completions),
}

/// What a verb works on.
pub enum Reach {
    /// A home, or a server in its place.
    Server,
    /// A home here, and nothing else.
    Home,
    /// Neither: a marketplace, or an author's files.
    Neither,
}

/// Of a verb that would otherwise work on what is here, and not there.
pub fn not_there() -> Usage {
    Usage::new(
        "no server can be asked for this",
        "leave --server and LODGER_SERVER out; what is about a server's home is run on its machine",
    )
}

impl Verb {
    /// Whether what it writes is the author's, in the author's directories, to be shared as other sources are.
    pub const fn is_for_authors(&self) -> bool {
        matches!(self, Verb::New(_) | Verb::Build(_) | Verb::Check(_) | Verb::Test(_) | Verb::Dev(_) | Verb::Pack(_))
    }

    /// What the verb works on.
    pub const fn reach(&self) -> Reach {
        match self {
            Verb::Install(_)
            | Verb::Uninstall(_)
            | Verb::Upgrade(_)
            | Verb::Rollback(_)
            | Verb::Enable(_)
            | Verb::Disable(_)
            | Verb::List(_)
            | Verb::Info(_)
            | Verb::Explain(_)
            | Verb::Set(_)
            | Verb::Calls(_)
            | Verb::Logs(_)
            | Verb::Reconcile(_)
            | Verb::Doctor(_)
            | Verb::Add(_)
            | Verb::Remove(_)
            | Verb::Plan(_)
            | Verb::Suspend(_)
            | Verb::Resume(_)
            | Verb::Url(_)
            | Verb::Env(_)
            | Verb::Dump(_)
            | Verb::Restore(_)
            | Verb::Apps(_) => Reach::Server,
            Verb::Import(_)
            | Verb::Open(_)
            | Verb::Events(_)
            | Verb::Serve(_)
            | Verb::Token(_)
            | Verb::Adopt(_)
            | Verb::Backup(_)
            | Verb::RestoreHome(_)
            | Verb::Run(_) => Reach::Home,
            Verb::Publish(_)
            | Verb::Search(_)
            | Verb::New(_)
            | Verb::Build(_)
            | Verb::Check(_)
            | Verb::Test(_)
            | Verb::Dev(_)
            | Verb::Pack(_)
            | Verb::Completions(_) => Reach::Neither,
            Verb::Provider(verb) => verb.reach(),
        }
    }

    /// Runs the verb and returns the exit code.
    pub async fn run(self, context: &Context, command: clap::Command) -> anyhow::Result<u8> {
        match self {
            Verb::Install(verb) => verb.run(context).await,
            Verb::Import(verb) => verb.run(context).await,
            Verb::Uninstall(verb) => verb.run(context).await,
            Verb::Upgrade(verb) => verb.run(context).await,
            Verb::Rollback(verb) => verb.run(context).await,
            Verb::Enable(verb) => verb.run(context).await,
            Verb::Disable(verb) => verb.run(context).await,
            Verb::List(verb) => verb.run(context).await,
            Verb::Info(verb) => verb.run(context).await,
            Verb::Explain(verb) => verb.run(context).await,
            Verb::Set(verb) => verb.run(context).await,
            Verb::Calls(verb) => verb.run(context).await,
            Verb::Events(verb) => verb.run(context).await,
            Verb::Logs(verb) => verb.run(context).await,
            Verb::Reconcile(verb) => verb.run(context).await,
            Verb::Serve(verb) => verb.run(context).await,
            Verb::Token(verb) => verb.run(context).await,
            Verb::Provider(verb) => verb.run(context).await,
            Verb::Doctor(verb) => verb.run(context).await,
            Verb::Adopt(verb) => verb.run(context).await,
            Verb::Search(verb) => verb.run(context).await,
            Verb::Publish(verb) => verb.run(context).await,
            Verb::Backup(verb) => verb.run(context).await,
            Verb::RestoreHome(verb) => verb.run(context).await,
            Verb::Add(verb) => verb.run(context).await,
            Verb::Remove(verb) => verb.run(context).await,
            Verb::Plan(verb) => verb.run(context).await,
            Verb::Suspend(verb) => verb.run(context).await,
            Verb::Resume(verb) => verb.run(context).await,
            Verb::Url(verb) => verb.run(context).await,
            Verb::Open(verb) => verb.run(context).await,
            Verb::Env(verb) => verb.run(context).await,
            Verb::Run(verb) => verb.run(context).await,
            Verb::Dump(verb) => verb.run(context).await,
            Verb::Restore(verb) => verb.run(context).await,
            Verb::Apps(verb) => verb.run(context).await,
            Verb::New(verb) => verb.run(context),
            Verb::Build(verb) => verb.run(context),
            Verb::Check(verb) => verb.run(context).await,
            Verb::Test(verb) => verb.run(context).await,
            Verb::Dev(verb) => verb.run(context).await,
            Verb::Pack(verb) => verb.run(context).await,
            Verb::Completions(verb) => verb.run(command),
        }
    }
}

/// Writes a file whole or not at all, over one that is there.
fn put(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let put = || -> std::io::Result<()> {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Readable as far as the umask lets it, as if it were written in place.
        let open = std::fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().prefix(".lodger-").permissions(open).tempfile_in(dir)?;
        file.write_all(bytes)?;
        file.persist(path)?;
        Ok(())
    };
    put().with_context(|| format!("cannot write `{}`", path.display()))
}

/// An app or alias, as the library takes it.
fn id(text: &str) -> Result<Id, Error> {
    text.parse().map_err(|_| Error::InvalidId(text.to_owned()))
}

/// `2 addons, 1 volume`: what there is none of is left out, but for the first.
fn counted(what: &[(usize, &str)]) -> String {
    let some = what.iter().enumerate().filter(|(place, (number, _))| *place == 0 || *number > 0);
    let words = some.map(|(_, (number, word))| format!("{number} {word}{}", if *number == 1 { "" } else { "s" }));
    words.collect::<Vec<_>>().join(", ")
}

/// Names of variables go to shells as they are: none is taken from a server that a host would not give.
fn known_variables(variables: &BTreeMap<String, String>) -> anyhow::Result<()> {
    match variables.keys().find(|name| !lodger::is_variable_allowed(name)) {
        None => Ok(()),
        Some(name) => {
            bail!("the server gives the variable `{}`, which no app is ever given", lodger::text::shown(name, 80))
        }
    }
}

/// The answer of a mutating verb's `--dry-run`, after everything that could refuse it was checked.
fn dry_run(context: &Context, changes: bool, what: &str) -> anyhow::Result<u8> {
    output::say(context, if changes { format!("would {what}") } else { format!("nothing to do to {what}") });
    if context.json {
        output::json(&json!({ "dry_run": true, "changed": changes }))?;
    }
    Ok(0)
}

/// The answer of a verb that changes a resource.
fn resource(context: &Context, resource: &ResourceNow) -> anyhow::Result<u8> {
    if let Some(message) = resource.message.as_ref().filter(|_| resource.changed) {
        output::say(context, message);
    }
    if context.json {
        output::json(resource)?;
    }
    Ok(0)
}

/// The same for a verb that may have to go through others first, which are named under `key`.
fn dry_run_in_order(context: &Context, id: &AddonId, would: &[AddonId], verb: &str, key: &str) -> anyhow::Result<u8> {
    let first = others(would, id);
    if first.is_empty() {
        return dry_run(context, !would.is_empty(), &format!("{verb} {id}"));
    }
    let then = if would.contains(id) { format!(", then {id}") } else { String::new() };
    output::say(context, format!("would {verb} {}{then}", names(&first)));
    if context.json {
        output::json(&json!({ "dry_run": true, "changed": true, key: first }))?;
    }
    Ok(0)
}

/// The answer of a verb that moves an addon to another state, perhaps after others.
fn moved(context: &Context, moved: Moved) -> anyhow::Result<u8> {
    if context.json {
        output::json(&moved)?;
    }
    Ok(0)
}

fn others<'a>(addons: &'a [AddonId], id: &AddonId) -> Vec<&'a AddonId> {
    addons.iter().filter(|addon| *addon != id).collect()
}

fn names(addons: &[&AddonId]) -> String {
    addons.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
