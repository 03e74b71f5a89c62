//! `lodger provider test`: all that Scalingo or Heroku may ask of a provider, each demand by its name. Whatever it has made it
//! takes away again, also where a demand is not met or it is broken off.

mod plans;
mod provision;
mod sign_on;

use std::time::{Duration, Instant};

use lodger::ProviderError;
use lodger::provider::{
    Ask, Callbacks, Credentials, Deprovisioned, Dialect, ProviderAnswer, ProviderId, Provision, Sent, fresh_uuid,
};
use lodger::text::shown;
use serde::Serialize;
use serde_json::json;

use super::target::Target;
use crate::context::Context;
use crate::output;

/// An id that no provider has given.
const UNKNOWN: &str = "lodger-knows-no-such-resource";
/// Status of a provider that is asked too much.
const TOO_MANY: u16 = 429;
/// Statuses of what a provider does not have.
const NOT_OFFERED: [u16; 3] = [404, 405, 501];

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Passed,
    Failed,
    Skipped,
}

/// A demand, and whether it is met.
#[derive(Serialize)]
struct Check {
    group: String,
    name: String,
    result: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// Why a demand is not met.
type Met = Result<(), String>;

/// A resource that the test works with.
struct Made {
    id: ProviderId,
    /// As it was asked for.
    wanted: Provision,
}

struct Contract<'a> {
    context: &'a Context,
    target: &'a Target,
    callbacks: Option<Callbacks>,
    group: String,
    checks: Vec<Check>,
    /// What is still there of what was made.
    there: Vec<ProviderId>,
    /// The provider has not answered at all: it is not waited for again and again.
    silent: Option<String>,
}

pub async fn run(context: &Context, target: &Target, plan: Option<&str>, to: Option<&str>) -> anyhow::Result<u8> {
    let plan = target.plan(plan)?;
    let to = match to {
        Some(to) => target.plan(Some(to))?,
        None => next_plan(target, &plan),
    };
    let mut contract = Contract {
        context,
        target,
        callbacks: target.listen().await?,
        group: String::new(),
        checks: Vec::new(),
        there: Vec::new(),
        silent: None,
    };
    let is_whole = tokio::select! {
        () = contract.all(&plan, &to) => true,
        _ = tokio::signal::ctrl_c() => false,
    };
    contract.clean_up().await;
    if !is_whole {
        contract.group("the test");
        contract.note("is brought to its end", Err("it was broken off".to_owned()));
    }
    contract.report()
}

/// kensa changes to `foo` where nothing else is known.
fn next_plan(target: &Target, plan: &str) -> String {
    let plans = &target.manifest.plans;
    let other = plans.iter().find(|other| other.name != plan).or(plans.first());
    other.map_or("foo", |other| other.name.as_str()).to_owned()
}

impl Contract<'_> {
    async fn all(&mut self, plan: &str, to: &str) {
        self.strangers(plan).await;
        let Some(made) = self.provision(plan).await else {
            self.group("everything else");
            return self.skip("needs a resource", "none was made");
        };
        self.provision_again(&made).await;
        self.change_plan(&made, to).await;
        if self.target.manifest.dialect == Dialect::Scalingo {
            self.suspend(&made).await;
            self.usage(&made).await;
        }
        self.sign_on(&made).await;
        self.deprovision(&made).await;
    }

    /// Nobody but the platform is let in, and they are not told what there is.
    async fn strangers(&mut self, plan: &str) {
        self.group("authentication");
        let manifest = &self.target.manifest;
        let of = |username: &str, password: &str| Credentials::Of {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        let mut cut = manifest.password.clone();
        cut.pop();
        let strangers = [
            ("no credentials", Credentials::Nobody),
            ("wrong credentials", of("wrong", "secret")),
            ("another user's name", of("wrong", &manifest.password)),
            ("the beginning of the password", of(&manifest.username, &cut)),
            ("the password and more", of(&manifest.username, &format!("{}x", manifest.password))),
        ];
        let body = self.target.wanted(plan, None).body(manifest.dialect);
        for (whose, credentials) in strangers {
            let ask = Ask::new("POST", self.target.client.base().clone()).json(body.clone()).by(credentials);
            let answer = self.make(ask).await;
            self.note(&format!("refuses to provision with {whose}"), status(&answer, &[401]));
        }
        let change = if manifest.dialect == Dialect::Scalingo { "PATCH" } else { "PUT" };
        if let Ok(id) = UNKNOWN.parse() {
            self.stranger_at(&id, &[change, "DELETE"], "a resource that there is not").await;
        }
    }

    /// A stranger hears the same of every resource, whether or not there is one. Few are tried: a good provider lets nobody try
    /// for ever.
    async fn stranger_at(&mut self, id: &ProviderId, methods: &[&'static str], which: &str) {
        for method in methods {
            let change = self.target.change("free", &fresh_uuid()).body(self.target.manifest.dialect);
            let sent = if *method == "DELETE" { Sent::Nothing } else { Sent::Json(change) };
            let wrong = Credentials::Of { username: "wrong".to_owned(), password: "secret".to_owned() };
            let ask = Ask { sent, ..Ask::new(method, self.target.client.at(id, "")).by(wrong) };
            let answer = self.ask(ask).await;
            let met = match &answer {
                // What a provider has no method for it need not guard.
                Ok(answer) if *method == "PATCH" && NOT_OFFERED.contains(&answer.status) => Ok(()),
                _ => status(&answer, &[401]),
            };
            self.note(&format!("refuses {method} of {which} with wrong credentials"), met);
        }
    }

    async fn deprovision(&mut self, made: &Made) {
        self.group(&format!("DELETE {}", self.target.client.at(&made.id, "")));
        let id = &made.id;
        let answer = self.ask(Ask::new("DELETE", self.target.client.at(id, ""))).await;
        let met = answer.and_then(|answer| match (self.target.manifest.dialect, answer.status) {
            (Dialect::Heroku, 200..=299) => Ok(()),
            _ => match answer.gone() {
                Ok(Deprovisioned::Before) => Err(format!("expected 204, got {}", answer.status_line())),
                Ok(_) => Ok(()),
                Err(error) => Err(told(&error)),
            },
        });
        if met.is_ok() {
            self.there.retain(|there| there != id);
        }
        self.note("is answered 204, with nothing in it", met);
        let again = self.ask(Ask::new("DELETE", self.target.client.at(id, ""))).await;
        let name = "is answered 204, 404 or 410 when asked again";
        match (&again, status(&again, &[204, 202, 200, 404, 410])) {
            (Ok(answer), Ok(())) => self.add(name, Verdict::Passed, Some(answer.status_line())),
            (_, met) => self.note(name, met),
        }
        self.stranger_at(id, &["DELETE"], "the resource that is gone").await;
    }

    /// Every resource that is still there is asked to go, whatever has become of the test.
    async fn clean_up(&mut self) {
        let there = std::mem::take(&mut self.there);
        if there.is_empty() {
            return;
        }
        self.group("clean-up");
        for id in there {
            // As Scalingo's own tester sends it.
            let sent = match self.target.manifest.dialect {
                Dialect::Scalingo => Sent::Null,
                Dialect::Heroku => Sent::Nothing,
            };
            let answer = self.ask(Ask { sent, ..Ask::new("DELETE", self.target.client.at(&id, "")) }).await;
            let met = status(&answer, &[200, 202, 204, 404, 410]);
            let met = met
                .map_err(|why| format!("{why}; it is still there, and `lodger provider deprovision '{id}'` ends it"));
            self.note(&format!("takes away {id}"), met);
        }
    }

    /// A request that may make something, which is remembered.
    async fn make(&mut self, ask: Ask) -> Result<ProviderAnswer, String> {
        let answer = self.ask(ask).await?;
        if let Some(id) = answer.id().filter(|id| !self.there.contains(id)) {
            self.there.push(id);
        }
        Ok(answer)
    }

    async fn ask(&mut self, ask: Ask) -> Result<ProviderAnswer, String> {
        if let Some(why) = &self.silent {
            return Err(why.clone());
        }
        let what = format!("{} {}", ask.method, ask.url);
        let answer = self.context.watch(&what, self.patiently(ask)).await;
        answer.map_err(|error| {
            let why = told(&error);
            if matches!(error, ProviderError::TooSlow { .. } | ProviderError::Unreachable { .. }) {
                self.silent = Some(format!("not asked any more: {why}"));
            }
            why
        })
    }

    /// Who is told to slow down asks again later, within bounds.
    async fn patiently(&self, ask: Ask) -> Result<ProviderAnswer, ProviderError> {
        let until = Instant::now() + self.target.wait;
        loop {
            let answer = self.target.client.ask(ask.clone()).await?;
            let pause = Duration::from_secs(answer.retry_after.unwrap_or(1));
            if answer.status != TOO_MANY || until.checked_duration_since(Instant::now() + pause).is_none() {
                return Ok(answer);
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn group(&mut self, name: &str) {
        self.group = name.to_owned();
        if !self.context.json {
            output::line(name);
        }
    }

    fn note(&mut self, name: &str, met: Met) {
        match met {
            Ok(()) => self.add(name, Verdict::Passed, None),
            Err(why) => self.add(name, Verdict::Failed, Some(why)),
        }
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.add(name, Verdict::Skipped, Some(why.to_owned()));
    }

    fn add(&mut self, name: &str, result: Verdict, why: Option<String>) {
        if !self.context.json {
            let sign = match result {
                Verdict::Passed => "✓",
                Verdict::Failed => "✗",
                Verdict::Skipped => "-",
            };
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            output::line(format!("  {sign} {name}{why}"));
        }
        self.checks.push(Check { group: self.group.clone(), name: name.to_owned(), result, why });
    }

    fn report(self) -> anyhow::Result<u8> {
        let count = |result| self.checks.iter().filter(|check| check.result == result).count();
        let (passed, failed, skipped) = (count(Verdict::Passed), count(Verdict::Failed), count(Verdict::Skipped));
        if self.context.json {
            let dialect = self.target.manifest.dialect;
            let checks = &self.checks;
            output::json(&json!({
                "dialect": dialect, "passed": passed, "failed": failed, "skipped": skipped, "checks": checks,
            }))?;
        } else {
            let left = if skipped > 0 { format!(", {skipped} skipped") } else { String::new() };
            output::line(match failed {
                0 => format!("passed: all {}{left}", crate::verbs::counted(&[(passed, "check")])),
                _ => format!("failed: {failed} of {}{left}", crate::verbs::counted(&[(passed + failed, "check")])),
            });
        }
        Ok(u8::from(failed > 0))
    }
}

/// That an answer has one of these statuses.
fn status(answer: &Result<ProviderAnswer, String>, good: &[u16]) -> Met {
    let answer = answer.as_ref().map_err(Clone::clone)?;
    if good.contains(&answer.status) {
        return Ok(());
    }
    let first = good.first().copied().unwrap_or_default();
    Err(format!("expected {first}, got {}", answer.status_line()))
}

fn told(error: &ProviderError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    shown(&text, 500)
}
