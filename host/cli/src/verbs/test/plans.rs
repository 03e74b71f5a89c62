//! The steps of a test that an addon takes which exports `plans`: another plan, suspend, resume, each of it twice.

use lodger::{Answer, ChangePlanRequest, Done, HookName, HookRequest, Id, Outcome, Resource};

use super::expectations::Case;
use super::lifecycle::{Lifecycle, Variables, call, compare, done, judge, same};
use super::step::Step;

impl Lifecycle<'_> {
    pub async fn plans(&mut self, case: &Case, resource: &Resource, variables: &Variables) -> anyhow::Result<()> {
        let usable = match self.next_plan(case, resource) {
            Some(plan) => self.change_plan(case, resource, &plan, variables).await?,
            None => true,
        };
        if usable && self.exports(HookName::Suspend) {
            self.suspend(case, resource).await?;
        }
        Ok(())
    }

    /// The plan that the case names, else the manifest's next.
    fn next_plan(&self, case: &Case, resource: &Resource) -> Option<String> {
        if let Some(change) = &case.change {
            return Some(change.plan.clone());
        }
        let now = self.plans.iter().position(|plan| Some(plan) == resource.plan.as_ref())?;
        let next = self.plans.iter().cycle().nth(now + 1).filter(|_| self.exports(HookName::ChangePlan));
        next.filter(|next| Some(*next) != resource.plan.as_ref()).map(Id::to_string)
    }

    /// Moves the resource to another plan. False when that has left it in a state from which it cannot go on.
    async fn change_plan(
        &mut self,
        case: &Case,
        resource: &Resource,
        plan: &str,
        before: &Variables,
    ) -> anyhow::Result<bool> {
        let subject =
            if self.exports(HookName::Suspend) { self.request(HookName::Suspend, case).await.ok() } else { None };
        let changed = done(self.host.change_plan(&case.app()?, &self.id, case.alias.as_ref(), plan).await)?;
        let mut step = self.step("plan", &changed);
        match &case.change {
            Some(change) => judge(&mut step, &change.expect, &changed.outcome),
            None => step.ok |= is_refusal(&changed),
        }
        let (after, asked) = self.variables(case, resource).await?;
        match &changed.outcome {
            Outcome::Completed(now) => step.detail.clone_from(&now.message),
            Outcome::Refused(_) => same(&mut step, "after a refusal", before, &after),
            _ => {}
        }
        self.note(step);
        self.note_failures(asked);
        if let Some(change) = case.change.as_ref().filter(|change| !change.expect.variables.is_empty()) {
            self.note(Step::compared("variables", compare(&change.expect.variables, &after)));
        }
        let (Outcome::Completed(now), Some(HookRequest::Suspend(of))) = (&changed.outcome, subject) else {
            return Ok(matches!(changed.outcome, Outcome::Refused(_)));
        };
        // The very call again, as after a crash of the host: it is told of the plan it had before.
        let HookRequest::ChangePlan(asked) = self.request(HookName::ChangePlan, case).await? else { return Ok(true) };
        let request = HookRequest::ChangePlan(ChangePlanRequest { of, ..asked });
        let again = call(self.host.call(&self.id, request).await, HookName::ChangePlan)?;
        let mut step = self.again("plan again", &again, now);
        let (second, _) = self.variables(case, resource).await?;
        same(&mut step, "for the same plan", &after, &second);
        self.note(step);
        Ok(again.outcome.is_completed())
    }

    /// Withholds the resource, sees that the app keeps its variables, and gives it back.
    async fn suspend(&mut self, case: &Case, resource: &Resource) -> anyhow::Result<()> {
        let (app, id, alias) = (case.app()?, self.id.clone(), case.alias.as_ref());
        let suspended = done(self.host.suspend(&app, &id, alias).await)?;
        if self.twice(HookName::Suspend, "suspend again", case, &suspended).await? {
            let (_, asked) = self.variables(case, resource).await?;
            self.note_failures(asked);
            let resumed = done(self.host.resume(&app, &id, alias).await)?;
            self.twice(HookName::Resume, "resume again", case, &resumed).await?;
        }
        Ok(())
    }

    /// Notes how `suspend` or `resume` has ended, and asks the hook again. False when there is nothing to go on with.
    async fn twice(
        &mut self,
        hook: HookName,
        again: &'static str,
        case: &Case,
        first: &Done<Resource>,
    ) -> anyhow::Result<bool> {
        let mut step = self.step(hook.name(), first);
        let Outcome::Completed(now) = &first.outcome else {
            // There may be nothing that could be withheld; but what was withheld must be given back.
            step.ok |= hook == HookName::Suspend && is_refusal(first);
            self.note(step);
            return Ok(false);
        };
        step.detail.clone_from(&now.message);
        self.note(step);
        let request = self.request(hook, case).await?;
        let second = call(self.host.call(&self.id, request).await, hook)?;
        let step = self.again(again, &second, now);
        self.note(step);
        Ok(second.outcome.is_completed())
    }

    /// The same request must give the same answer.
    fn again(&self, name: &'static str, second: &Done<Answer>, first: &Resource) -> Step {
        let mut step = self.step(name, second);
        if let Outcome::Completed(Answer::Changed(changed)) = &second.outcome {
            step.same("message for the same request", first.message.as_deref(), changed.message.as_deref());
        }
        step
    }

    fn note_failures(&mut self, steps: Vec<Step>) {
        steps.into_iter().filter(|step| !step.ok).for_each(|step| self.note(step));
    }
}

/// The hook's own no.
fn is_refusal(done: &Done<Resource>) -> bool {
    done.call.is_some() && matches!(done.outcome, Outcome::Refused(_))
}
