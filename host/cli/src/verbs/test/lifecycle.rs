//! The steps of a test, in the order of an addon's life: install, enable, health, schedule, then each case (add, variables,
//! dump and restore, everything a second time, what `plans` does, remove), disable, uninstall.

mod backup;

use std::collections::BTreeMap;

use lodger::{
    Add, AddonId, Answer, Call, CallNote, Candidate, Done, Error, Grant, HealthStatus, HookName, HookRequest, Host, Id,
    Kind, Outcome, Refused, Resource, ServiceRequest, ServiceToPlace,
};

use super::expectations::{Case, Ending, Expect, Expectations, Text};
use super::step::{Mismatch, Step, quoted};
use crate::context::Context;
use crate::output;

pub type Variables = BTreeMap<String, String>;

pub struct Lifecycle<'a> {
    context: &'a Context,
    pub host: &'a Host,
    pub id: AddonId,
    grant: Grant,
    /// The names of the manifest's.
    pub plans: Vec<Id>,
    case: Option<String>,
    steps: Vec<Step>,
}

impl<'a> Lifecycle<'a> {
    /// Of an addon that has just been installed.
    pub fn new(context: &'a Context, host: &'a Host, grant: Grant, plans: Vec<Id>) -> Lifecycle<'a> {
        Lifecycle { context, host, id: grant.id.clone(), grant, plans, case: None, steps: Vec::new() }
    }

    /// # Errors
    /// Only a host at fault; whatever is the addon's is a step that is not ok.
    pub async fn run(mut self, expectations: &Expectations) -> anyhow::Result<Vec<Step>> {
        let (host, id) = (self.host, self.id.clone());
        let installed = Done { outcome: Outcome::Completed(()), changed: true, call: None, failed_open: Vec::new() };
        self.note(self.step("install", &installed));
        let set = self.set(&expectations.settings).await?;
        let enabled = done(host.enable(&id).await)?;
        let usable = set && enabled.outcome.is_completed();
        self.note(self.step("enable", &enabled));
        if usable {
            let again = done(host.enable(&id).await)?;
            self.note(self.step("enable again", &again));
            self.health().await?;
            self.schedule().await?;
            for case in &expectations.cases {
                self.case(case, &expectations.settings).await?;
            }
            if expectations.cases.is_empty() && self.exports(HookName::Provision) {
                self.case(&Case::named("an app gets it"), &expectations.settings).await?;
            }
        }
        // With what a failed case may have left.
        let disabled = done(host.disable(&id, true).await)?;
        self.note(self.step("disable", &disabled));
        let uninstalled = done(host.uninstall(&id, false).await)?;
        self.note(self.step("uninstall", &uninstalled));
        Ok(self.steps)
    }

    async fn health(&mut self) -> anyhow::Result<()> {
        if !self.exports(HookName::Health) {
            return Ok(());
        }
        let asked = call(self.host.call(&self.id, HookRequest::Health).await, HookName::Health)?;
        let mut step = self.step("health", &asked);
        if let Outcome::Completed(Answer::Health(report)) = &asked.outcome {
            let status = match report.status {
                HealthStatus::Healthy => "healthy",
                HealthStatus::Degraded => "degraded",
                HealthStatus::Unhealthy => "unhealthy",
            };
            let message = report.message.as_ref().map(|text| format!(": {text}")).unwrap_or_default();
            step.detail = Some(format!("{status}{message}"));
            step.ok = report.status != HealthStatus::Unhealthy;
        }
        self.note(step);
        Ok(())
    }

    /// A scheduler is asked where two engines answer that are not there: it has to choose one of them, whatever it knows.
    async fn schedule(&mut self) -> anyhow::Result<()> {
        if !self.exports(HookName::Schedule) {
            return Ok(());
        }
        let service = ServiceToPlace {
            name: "web".to_owned(),
            image: "docker.io/library/web:1".to_owned(),
            memory_bytes: 256 << 20,
            millicpus: 1000,
            ports: vec![8080],
        };
        let asked = ServiceRequest { addon: "local/web".to_owned(), key: None, services: vec![service] };
        let candidate = |engine: &str, instances: u32| Candidate {
            engine: engine.to_owned(),
            labels: Vec::new(),
            memory_bytes: 8 << 30,
            millicpus: 4000,
            free_memory_bytes: (8 << 30) - (u64::from(instances) << 28),
            free_millicpus: 4000 - u64::from(instances) * 1000,
            instances,
        };
        let request = HookRequest::Schedule(asked, vec![candidate("one", 1), candidate("two", 0)]);
        let asked = call(self.host.call(&self.id, request).await, HookName::Schedule)?;
        let mut step = self.step("schedule", &asked);
        if let Outcome::Completed(Answer::Placed(engine)) = &asked.outcome {
            step.detail = Some(format!("chose `{engine}` of `one` and `two`"));
        }
        self.note(step);
        Ok(())
    }

    /// One app gets the addon, and loses it again.
    async fn case(&mut self, case: &Case, settings: &Variables) -> anyhow::Result<()> {
        self.case = Some(case.name.clone());
        if !self.context.json {
            output::line(format!("case: {}", lodger::text::shown(&case.name, 200)));
        }
        if self.set(&case.settings).await? {
            let add = Add {
                alias: case.alias.clone(),
                plan: case.plan.clone(),
                options: case.options.clone(),
                ..Add::new(case.app()?, self.id.clone())
            };
            let added = done(self.host.add(add).await)?;
            let mut step = self.step("add", &added);
            judge(&mut step, &case.expect, &added.outcome);
            self.note(step);
            match added.outcome {
                Outcome::Completed(resource) => self.use_it(case, &resource).await?,
                _ => self.clear(case).await?,
            }
        }
        for name in case.settings.keys() {
            self.host.set(&self.id, name, settings.get(name).cloned()).await.or_else(refusable)?;
        }
        self.case = None;
        Ok(())
    }

    /// Asks for the variables, asks everything a second time, and removes the resource.
    async fn use_it(&mut self, case: &Case, resource: &Resource) -> anyhow::Result<()> {
        let (variables, steps) = self.variables(case, resource).await?;
        steps.into_iter().for_each(|step| self.note(step));
        if !case.expect.variables.is_empty() {
            self.note(Step::compared("variables", compare(&case.expect.variables, &variables)));
        }
        self.backup(case, resource, &variables).await?;
        let unprovision = self.request(HookName::Unprovision, case).await?;
        self.provision_again(case, resource, &variables).await?;
        self.plans(case, resource, &variables).await?;
        self.clear(case).await?;
        let again = call(self.host.call(&self.id, unprovision).await, HookName::Unprovision)?;
        self.note(self.step("remove again", &again));
        Ok(())
    }

    /// The contract: the same key must give the same resource and the same answer, however often it is asked.
    async fn provision_again(&mut self, case: &Case, first: &Resource, before: &Variables) -> anyhow::Result<()> {
        let request = self.request(HookName::Provision, case).await?;
        let again = call(self.host.call(&self.id, request).await, HookName::Provision)?;
        let mut step = self.step("provision again", &again);
        if let Outcome::Completed(Answer::Provisioned(second)) = &again.outcome {
            step.same("id for the same key", first.id.as_deref(), Some(second.id.as_str()));
            step.same("message for the same key", first.message.as_deref(), second.message.as_deref());
            // A hook that fails has been shown above, or shows here that it fails the second time.
            let (after, _) = self.variables(case, first).await?;
            same(&mut step, "for the same key", before, &after);
        }
        self.note(step);
        Ok(())
    }

    /// Takes from the app what it has, if anything.
    async fn clear(&mut self, case: &Case) -> anyhow::Result<()> {
        let alias = case.alias.as_ref();
        if self.host.resource(&case.app()?, &self.id, alias).is_err() {
            return Ok(());
        }
        let removed = done(self.host.remove(&case.app()?, &self.id, alias).await)?;
        self.note(self.step("remove", &removed));
        Ok(())
    }

    /// Asks `url` and `config-vars`, as the app's environment would.
    pub async fn variables(&self, case: &Case, resource: &Resource) -> anyhow::Result<(Variables, Vec<Step>)> {
        let (mut variables, mut steps) = (Variables::new(), Vec::new());
        // What a name of the manifest is called in the app.
        let in_app = |name: &str| {
            let names = self.grant.config_vars.iter().zip(&resource.variables);
            names.clone().find(|(declared, _)| *declared == name).map(|(_, name)| name.clone())
        };
        for hook in [HookName::Url, HookName::ConfigVars] {
            if !self.exports(hook) {
                continue;
            }
            let request = self.request(hook, case).await?;
            let asked = call(self.host.call(&self.id, request).await, hook)?;
            steps.push(self.step(hook.name(), &asked));
            match asked.outcome {
                Outcome::Completed(Answer::Url(url)) => {
                    variables.extend(resource.variables.first().map(|name| (name.clone(), url)));
                }
                Outcome::Completed(Answer::ConfigVars(vars)) => {
                    variables.extend(vars.into_iter().filter_map(|var| Some((in_app(&var.name)?, var.value))));
                }
                _ => {}
            }
        }
        Ok((variables, steps))
    }

    /// False, with a step that says why, when one of the settings cannot be set.
    async fn set(&mut self, settings: &Variables) -> anyhow::Result<bool> {
        for (name, value) in settings {
            if let Err(error) = self.host.set(&self.id, name, Some(value.clone())).await {
                let refused = done::<()>(Err(error))?;
                self.note(self.step("set", &refused));
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub async fn request(&self, hook: HookName, case: &Case) -> anyhow::Result<HookRequest> {
        Ok(self.host.request(hook, &case.app()?, &self.id, case.alias.as_ref()).await?)
    }

    pub fn exports(&self, hook: HookName) -> bool {
        self.grant.hooks.contains(&hook)
    }

    pub fn step<T>(&self, name: &'static str, done: &Done<T>) -> Step {
        Step::of(name, done, &self.grant.deadlines_ms)
    }

    /// Keeps a step, and shows it at once.
    pub fn note(&mut self, mut step: Step) {
        step.case.clone_from(&self.case);
        if !self.context.json {
            step.show();
        }
        self.steps.push(step);
    }
}

/// Holds how a verb has ended against what was expected.
pub fn judge(step: &mut Step, expect: &Expect, outcome: &Outcome<Resource>) {
    let (code, message) = match outcome {
        Outcome::Completed(resource) => (None, resource.message.clone()),
        Outcome::Refused(refused) => (Some(refused.code.clone()), Some(refused.message.clone())),
        other => (None, other.detail()),
    };
    if let Outcome::Completed(resource) = outcome {
        step.detail.clone_from(&resource.message);
    }
    let ended = Ending::of(outcome);
    step.ok = ended == expect.outcome;
    if !step.ok {
        return step.differs("outcome", expect.outcome.name(), ended.name());
    }
    if let Some(expected) = expect.code.as_deref().filter(|expected| code.as_deref() != Some(expected)) {
        step.differs("code", expected, code.unwrap_or_default());
    }
    if let Some(expected) = &expect.message
        && !message.as_deref().is_some_and(|message| expected.matches(message))
    {
        step.differs("message", expected.to_string(), message.map_or("none".to_owned(), |message| quoted(&message)));
    }
}

pub fn compare(expected: &BTreeMap<String, Text>, variables: &Variables) -> Vec<Mismatch> {
    let mut mismatches = Vec::new();
    for (name, expected) in expected {
        let actual = variables.get(name);
        if !actual.is_some_and(|actual| expected.matches(actual)) {
            mismatches.push(Mismatch {
                what: name.clone(),
                expected: expected.to_string(),
                actual: actual.map_or("not given to the app".to_owned(), |actual| quoted(actual)),
            });
        }
    }
    mismatches
}

/// What the app received before and receives now, which should be the same.
pub fn same(step: &mut Step, when: &str, before: &Variables, after: &Variables) {
    for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
        let (before, after) = (before.get(name).map(String::as_str), after.get(name).map(String::as_str));
        step.same(&format!("{name} {when}"), before, after);
    }
}

/// A verb the host has refused counts as refused; a host at fault ends the test.
pub fn done<T>(result: Result<Done<T>, Error>) -> Result<Done<T>, Error> {
    result.or_else(|error| {
        let refused = Refused { code: error.code().to_owned(), message: error.to_string() };
        refusable(error)?;
        Ok(Done { outcome: Outcome::Refused(refused), changed: false, call: None, failed_open: Vec::new() })
    })
}

fn refusable(error: Error) -> Result<bool, Error> {
    if error.kind() == Kind::Host { Err(error) } else { Ok(false) }
}

/// A call, in the form of a verb.
pub fn call(result: Result<Call<Answer>, Error>, hook: HookName) -> Result<Done<Answer>, Error> {
    done(result.map(|call| Done {
        outcome: call.outcome,
        changed: true,
        call: Some(CallNote { id: call.id, hook: hook.name(), report: call.report, log: call.log }),
        failed_open: Vec::new(),
    }))
}
