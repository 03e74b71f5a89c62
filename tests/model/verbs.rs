//! The verbs, and how they are carried out: through the library, in two hosts that know nothing of each other, and through
//! the binary.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;

use lodger::{Add, AddonId, Done, Error, Host, Outcome};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::paper::{ADDONS, ALIAS, APPS, SECRETS};
use crate::support::{Lab, addon, component, id, probe_manifest, root};

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// An embedder with two workers.
    Embedder,
    /// Another embedder, in one thread.
    Other,
    Cli,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    Default,
    Second,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    None,
    Text,
    Refuse,
    Panic,
}

/// Addons and apps by their number.
#[derive(Clone, Debug)]
pub enum Verb {
    Install(usize),
    Uninstall(usize),
    Enable(usize),
    Disable { addon: usize, force: bool },
    Add { addon: usize, app: usize, alias: bool, plan: Plan, note: Note },
    Remove { addon: usize, app: usize, alias: bool, keep: bool },
    Set { addon: usize, value: Option<&'static str> },
    Upgrade { addon: usize, bad: bool },
    Rollback { addon: usize, force: bool },
    Env(usize),
    Url { addon: usize, app: usize, alias: bool },
}

/// A verb, and whether the one who asks goes away before it ends: when it had to wait so often.
#[derive(Clone, Debug)]
pub struct Step {
    pub by: By,
    pub verb: Verb,
    pub leaves_after: Option<u32>,
}

/// What a verb has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Already,
    /// The code of the error, or how the hook ended.
    Failed(String),
    Url(String),
    Variables(BTreeMap<String, String>),
    /// Nobody waited for it.
    Left,
}

impl Answer {
    /// Stands for a value that is made by chance.
    pub const SECRET: &str = "a secret";
}

impl Plan {
    pub fn name(self) -> &'static str {
        match self {
            Plan::Default => "standard",
            Plan::Second => "long",
            Plan::Unknown => "none-of-these",
        }
    }
}

impl Note {
    fn option(self) -> Option<(&'static str, &'static str)> {
        match self {
            Note::None => None,
            Note::Text => Some(("note", "text")),
            Note::Refuse => Some(("refuse", "1")),
            Note::Panic => Some(("panic", "1")),
        }
    }
}

impl Verb {
    pub fn addon(&self) -> usize {
        match self {
            Verb::Install(addon) | Verb::Uninstall(addon) | Verb::Enable(addon) => *addon,
            Verb::Disable { addon, .. } | Verb::Add { addon, .. } | Verb::Remove { addon, .. } => *addon,
            Verb::Set { addon, .. } | Verb::Upgrade { addon, .. } | Verb::Rollback { addon, .. } => *addon,
            Verb::Url { addon, .. } => *addon,
            Verb::Env(_) => unreachable!("an app's"),
        }
    }

    pub fn only_reads(&self) -> bool {
        matches!(self, Verb::Env(_) | Verb::Url { .. })
    }

    /// Whether it is one hook or none, so that it has happened or has not when whoever asked has gone.
    pub fn is_one_hook(&self) -> bool {
        match self {
            Verb::Enable(_) | Verb::Disable { force: false, .. } | Verb::Remove { .. } => true,
            Verb::Add { note, .. } => matches!(note, Note::None | Note::Text),
            Verb::Upgrade { .. } => true,
            _ => false,
        }
    }
}

/// A home, and all who use it.
pub struct Actors {
    pub lab: Lab,
    embedder: (Arc<Host>, Runtime),
    other: (Arc<Host>, Runtime),
}

impl Actors {
    pub fn new() -> Actors {
        let lab = Lab::new();
        for namespace in ["left", "right"] {
            for (version, does) in [("1.0.0", "well"), ("1.1.0", "well"), ("1.2.0", "refuse")] {
                probe(&lab, namespace, version, does);
            }
        }
        for version in ["1.0.0", "1.1.0"] {
            let example = std::fs::read(root().join("guest-examples/app-secrets/addon.json")).unwrap();
            let mut manifest: Value = serde_json::from_slice(&example).unwrap();
            manifest["version"] = json!(version);
            manifest["limits"]["deadlines_ms"]["default"] = json!(60_000);
            lab.package(&format!("lodger-{version}"), &manifest, component("app-secrets"));
        }
        let two = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let one = Builder::new_current_thread().enable_all().build().unwrap();
        let embedder = (Arc::new(two.block_on(lab.host())), two);
        let other = (Arc::new(one.block_on(lab.host())), one);
        Actors { lab, embedder, other }
    }

    fn library(&self, by: By) -> &(Arc<Host>, Runtime) {
        if by == By::Embedder { &self.embedder } else { &self.other }
    }

    /// All that both see of the home now.
    pub fn look(&self) -> (Value, Value) {
        let [one, other] = [&self.embedder.0, &self.other.0].map(|host| {
            let seen = (host.addons().unwrap(), host.apps().unwrap());
            (serde_json::to_value(seen.0).unwrap(), serde_json::to_value(seen.1).unwrap())
        });
        assert_eq!(one, other, "the embedders see another home each");
        one
    }

    pub fn does(&self, step: &Step) -> Answer {
        if step.by == By::Cli {
            return self.types(&step.verb);
        }
        let (host, runtime) = self.library(step.by);
        runtime.block_on(async {
            if let Some(answer) = leave_after(self.asks(host, &step.verb), step.leaves_after).await {
                return answer;
            }
            // The lock is free when what was left has come to its end, on this runtime.
            match host.would_enable(&addon(ADDONS[step.verb.addon()])).await {
                Ok(_) | Err(Error::UnknownAddon(_)) => Answer::Left,
                Err(error) => panic!("{error:?}"),
            }
        })
    }

    async fn asks(&self, host: &Host, verb: &Verb) -> Answer {
        match verb {
            Verb::Env(app) => match host.env(&id(APPS[*app])).await {
                Err(error) => failed(&error),
                Ok(env) if env.failures.is_empty() => variables(env.variables),
                Ok(_) => Answer::Failed("env-incomplete".to_owned()),
            },
            Verb::Url { addon: number, app, alias } => {
                match host.url(&id(APPS[*app]), &addon(ADDONS[*number]), alias_of(*alias).as_ref()).await {
                    Err(error) => failed(&error),
                    Ok(Outcome::Completed(url)) => Answer::Url(url),
                    Ok(other) => Answer::Failed(other.name().to_owned()),
                }
            }
            _ => self.changes(host, verb, &addon(ADDONS[verb.addon()])).await.unwrap_or_else(|error| failed(&error)),
        }
    }

    async fn changes(&self, host: &Host, verb: &Verb, addon: &AddonId) -> lodger::Result<Answer> {
        Ok(match verb {
            Verb::Install(_) => {
                let done = host.install(host.inspect(&self.package(verb)).await?, false).await?;
                if done.changed { Answer::Done } else { Answer::Already }
            }
            Verb::Uninstall(_) => done(host.uninstall(addon, false).await?),
            Verb::Enable(_) => done(host.enable(addon).await?),
            Verb::Disable { force, .. } => done(host.disable(addon, *force).await?),
            Verb::Add { app, alias, plan, note, .. } => {
                let options = note.option().map(|(name, value)| (name.to_owned(), value.to_owned()));
                done(
                    host.add(Add {
                        alias: alias_of(*alias),
                        plan: (*plan != Plan::Default).then(|| plan.name().to_owned()),
                        options: options.into_iter().collect(),
                        ..Add::new(id(APPS[*app]), addon.clone())
                    })
                    .await?,
                )
            }
            Verb::Remove { app, alias, keep: true, .. } => {
                done(host.detach(&id(APPS[*app]), addon, alias_of(*alias).as_ref()).await?)
            }
            Verb::Remove { app, alias, .. } => {
                done(host.remove(&id(APPS[*app]), addon, alias_of(*alias).as_ref()).await?)
            }
            Verb::Set { value, .. } => {
                let changed = host.set(addon, setting(verb), value.map(str::to_owned)).await?;
                if changed { Answer::Done } else { Answer::Already }
            }
            Verb::Upgrade { .. } => done(host.upgrade(addon, host.inspect(&self.package(verb)).await?).await?),
            Verb::Rollback { force, .. } => done(host.rollback(addon, *force).await?),
            Verb::Env(_) | Verb::Url { .. } => unreachable!(),
        })
    }

    /// The package a verb takes in.
    fn package(&self, verb: &Verb) -> PathBuf {
        let version = match verb {
            Verb::Upgrade { bad: false, .. } => "1.1.0",
            Verb::Upgrade { .. } => "1.2.0",
            _ => "1.0.0",
        };
        let namespace = ADDONS[verb.addon()].split('/').next().unwrap();
        self.lab.path(&format!("{namespace}-{version}"))
    }

    /// The same at the command line.
    fn types(&self, verb: &Verb) -> Answer {
        let mut words = vec!["--json".to_owned()];
        let mut say = |more: &[&str]| words.extend(more.iter().map(ToString::to_string));
        match verb {
            Verb::Env(app) => say(&["env", APPS[*app]]),
            _ => {
                let addon = ADDONS[verb.addon()];
                let package = self.package(verb);
                let package = package.to_str().unwrap();
                match verb {
                    Verb::Install(_) => say(&["install", package, "--yes"]),
                    Verb::Uninstall(_) => say(&["uninstall", addon, "--yes"]),
                    Verb::Enable(_) => say(&["enable", addon]),
                    Verb::Disable { .. } => say(&["disable", addon]),
                    Verb::Add { app, plan, note, .. } => {
                        say(&["add", APPS[*app], addon]);
                        if *plan != Plan::Default {
                            say(&["--plan", plan.name()]);
                        }
                        if let Some((name, value)) = note.option() {
                            say(&["--option", &format!("{name}={value}")]);
                        }
                    }
                    Verb::Remove { app, keep, .. } => {
                        say(&["remove", APPS[*app], addon, if *keep { "--keep-data" } else { "--yes" }]);
                    }
                    Verb::Set { value, .. } => {
                        say(&["set", addon, &format!("{}={}", setting(verb), value.unwrap_or(""))]);
                    }
                    Verb::Upgrade { .. } => say(&["upgrade", addon, package]),
                    Verb::Rollback { .. } => say(&["rollback", addon, "--yes"]),
                    Verb::Url { app, .. } => say(&["url", APPS[*app], addon]),
                    Verb::Env(_) => unreachable!(),
                }
            }
        }
        if let Verb::Add { alias: true, .. } | Verb::Remove { alias: true, .. } | Verb::Url { alias: true, .. } = verb {
            say(&["--as", ALIAS]);
        }
        if let Verb::Disable { force: true, .. } | Verb::Rollback { force: true, .. } = verb {
            say(&["--force"]);
        }
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let ran = self.lab.lodger(&words);
        let said = ran.json();
        if ran.code != 0 {
            let code = said["error"]["code"].as_str().unwrap();
            let expected = if matches!(code, "trapped" | "deadline-exceeded" | "limit-exceeded") { 3 } else { 1 };
            assert_eq!(ran.code, expected, "{ran:#?}");
            return Answer::Failed(code.to_owned());
        }
        match verb {
            Verb::Env(_) => variables(serde_json::from_value(said).unwrap()),
            Verb::Url { .. } => Answer::Url(said["url"].as_str().unwrap().to_owned()),
            Verb::Set { .. } if said["changed"] == json!([]) => Answer::Already,
            Verb::Set { .. } => Answer::Done,
            Verb::Add { .. } if said["created"] == true => Answer::Done,
            _ if said["changed"] == true => Answer::Done,
            _ => Answer::Already,
        }
    }
}

/// Drops `work` when it has to wait once more than `waits` times.
pub async fn leave_after<T>(work: impl Future<Output = T>, waits: Option<u32>) -> Option<T> {
    leave_when(work, |waited| waits == Some(waited)).await
}

/// Drops `work` when it has to wait and `leaves`, told how often it has waited before, says so.
pub async fn leave_when<T>(work: impl Future<Output = T>, leaves: impl Fn(u32) -> bool) -> Option<T> {
    let mut work = Box::pin(work);
    let mut waited = 0;
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if leaves(waited) => Poll::Ready(None),
        Poll::Pending => {
            waited += 1;
            Poll::Pending
        }
    })
    .await
}

fn probe(lab: &Lab, namespace: &str, version: &str, does: &str) {
    let mut manifest = probe_manifest(namespace, 60_000);
    manifest["version"] = json!(version);
    manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN"]);
    manifest["plans"] = [Plan::Default, Plan::Second]
        .map(|plan| json!({ "name": plan.name(), "display_name": "", "price": 0.0, "description": "" }))
        .into_iter()
        .collect();
    let dir = format!("{namespace}-{version}");
    lab.package(&dir, &manifest, component("one_at_a_time"));
    lab.write(&format!("{dir}/files/does.txt"), does);
}

fn setting(verb: &Verb) -> &'static str {
    if verb.addon() == SECRETS { "FORMAT" } else { "PLAIN" }
}

fn alias_of(alias: bool) -> Option<lodger::Id> {
    alias.then(|| id(ALIAS))
}

fn failed(error: &Error) -> Answer {
    Answer::Failed(error.code().to_owned())
}

fn done<T>(done: Done<T>) -> Answer {
    match done.outcome {
        Outcome::Completed(_) if done.changed => Answer::Done,
        Outcome::Completed(_) => Answer::Already,
        other => Answer::Failed(other.name().to_owned()),
    }
}

/// Values that are made by chance are left out.
fn variables(mut all: BTreeMap<String, String>) -> Answer {
    for (_, value) in all.iter_mut().filter(|(name, _)| name.ends_with("_KEY") || name.ends_with("_SALT")) {
        *value = Answer::SECRET.to_owned();
    }
    Answer::Variables(all)
}
