//! The record of a call: what is noted before it, and what follows from how it ended.

use std::sync::Arc;

use super::{Call, Host, now_ms, resource_place};
use crate::event::{
    ADDON_DISABLED, ADDON_ENABLED, APP_ADDED, APP_PLAN_CHANGED, APP_REMOVED, APP_RESUMED, APP_SUSPENDED, Event,
};
use crate::failure::Next;
use crate::home::Home;
use crate::hook::{Answer, HookName, HookRequest, MESSAGE_MAX};
use crate::lifecycle::{self, AddonState, ResourceState};
use crate::outcome::{BAD_ANSWER, BROKEN_STREAM, Outcome, Refused};
use crate::registry::Addon;
use crate::resources::Reason;
use crate::sandbox::{Ended, ProgressSink};
use crate::store::{CallRow, End, Finish, ResourceEnd, Store, Told};
use crate::text::{redact, shown};
use crate::tree::Size;

/// Receives the records of calls that have ended; on the worker of the call, so it should be quick.
pub type CallSink = Arc<dyn Fn(&CallRow) + Send + Sync>;

tokio::task_local! {
    static ACTOR: String;
    static PROGRESS: Option<ProgressSink>;
}

/// Does `work` in the name of somebody: the calls it makes are recorded as asked for by `actor`, not by [`Config::actor`].
///
/// [`Config::actor`]: crate::Config::actor
pub async fn acting_for<T>(actor: String, work: impl Future<Output = T>) -> T {
    ACTOR.scope(actor, work).await
}

/// Does `work`, and tells `progress` how far its verbs and calls have come, not [`Config::progress`]. `None`: as it is told
/// without.
///
/// [`Config::progress`]: crate::Config::progress
pub async fn telling<T>(progress: Option<ProgressSink>, work: impl Future<Output = T>) -> T {
    PROGRESS.scope(progress, work).await
}

/// Who is to be told of what is done here: whoever [`telling`] has named, else the host's own.
pub(crate) fn told_of_progress(own: Option<&ProgressSink>) -> Option<ProgressSink> {
    PROGRESS.try_with(Clone::clone).ok().flatten().or_else(|| own.cloned())
}

impl Host {
    /// Who asks.
    pub(crate) fn actor(&self) -> String {
        ACTOR.try_with(Clone::clone).unwrap_or_else(|_| self.actor.clone())
    }

    pub(super) fn record(&self, addon: &Addon, hook: &str, key: Option<&str>) -> CallRow {
        CallRow {
            id: new_call_id(),
            addon: addon.name.clone(),
            hook: hook.to_owned(),
            key: key.map(str::to_owned),
            actor: self.actor(),
            started_at: now_ms(),
            outcome: None,
            detail: None,
            report: None,
            log: None,
        }
    }
}

/// Where the end of a mutating call is noted.
pub(super) struct Keeper {
    pub store: Arc<Store>,
    pub home: Arc<Home>,
    pub ended: Option<CallSink>,
}

impl Keeper {
    /// Tells whoever listens that a call has ended.
    pub fn tell(&self, row: &CallRow) {
        if let Some(ended) = &self.ended {
            ended(row);
        }
    }

    /// What follows from how a mutating call ended.
    pub fn finish(
        &self,
        addon: &Addon,
        request: &HookRequest,
        before: Option<ResourceState>,
        ended: &mut Ended<Answer>,
        next: Next,
        actor: &str,
    ) -> Finish {
        let data = Size { bytes: ended.report.data_bytes, files: ended.report.data_files };
        if matches!(next, Next::Again(_)) {
            // What is to be called again is still under way: cut off, where that does not come to be.
            return Finish { data: Some(data), ..Finish::default() };
        }
        let done = ended.outcome.is_completed() || next == Next::GoesOn;
        let state = lifecycle::after(request.hook(), done);
        let resource = match request {
            HookRequest::Provision(asked) => Some(self.provisioned(addon, &asked.key, ended)),
            HookRequest::Unprovision(_) if done => Some(ResourceEnd::Gone),
            HookRequest::Unprovision(_) => Some(ResourceEnd::State(ResourceState::Failed(HookName::Unprovision))),
            HookRequest::ChangePlan(_) | HookRequest::Suspend(_) | HookRequest::Resume(_) => {
                before.map(|before| self.changed(request, before, &mut ended.outcome))
            }
            _ => None,
        };
        let event = self.event(addon, request, state.as_ref(), resource.as_ref(), actor);
        let told = told(request, &ended.outcome, next);
        Finish { state, resource, data: Some(data), event, told }
    }

    /// What has become true with the end of a call, for those who listen.
    fn event(
        &self,
        addon: &Addon,
        request: &HookRequest,
        state: Option<&AddonState>,
        resource: Option<&ResourceEnd>,
        actor: &str,
    ) -> Option<Event> {
        let kind = match (request, state, resource) {
            (HookRequest::Enable, Some(AddonState::Enabled), _) => ADDON_ENABLED,
            (HookRequest::Disable, Some(AddonState::Installed), _) => ADDON_DISABLED,
            (HookRequest::Provision(_), _, Some(ResourceEnd::Active { .. })) => APP_ADDED,
            // What is undone was never there.
            (HookRequest::Unprovision(asked), _, Some(ResourceEnd::Gone)) if asked.reason != Reason::Undone => {
                APP_REMOVED
            }
            (HookRequest::ChangePlan(_), _, Some(ResourceEnd::Changed { .. })) => APP_PLAN_CHANGED,
            (HookRequest::Suspend(_), _, Some(ResourceEnd::Changed { .. })) => APP_SUSPENDED,
            (HookRequest::Resume(_), _, Some(ResourceEnd::Changed { .. })) => APP_RESUMED,
            _ => return None,
        };
        let event = self.store.event(kind, Some(&addon.name), actor);
        let event = match request.key() {
            Some(key) => event.about(key),
            None => event,
        };
        Some(match request {
            HookRequest::ChangePlan(asked) => event.with("plan", &asked.plan),
            _ => event,
        })
    }

    /// A hook's own refusal promises that there is no resource; after anything else there may be one.
    fn provisioned(&self, addon: &Addon, key: &str, ended: &mut Ended<Answer>) -> ResourceEnd {
        let made = match &ended.outcome {
            Outcome::Completed(Answer::Provisioned(made)) => made,
            Outcome::Refused(refused) if refused.code != BAD_ANSWER => return ResourceEnd::Gone,
            _ => return ResourceEnd::State(ResourceState::Failed(HookName::Provision)),
        };
        let taken = self.store.guest_id_is_taken(&addon.id, &made.id, key);
        let sealed = self.home.key.seal(&resource_place(key), made.private.as_bytes());
        let message = match (taken, sealed) {
            (Ok(false), Ok(private)) => {
                return ResourceEnd::Active {
                    id: made.id.clone(),
                    private,
                    message: made.message.clone(),
                    log_drain_url: made.log_drain_url.clone().filter(|_| addon.manifest.provider.log_drain),
                };
            }
            (Ok(true), _) => "provision answered an id that another resource of this addon has".to_owned(),
            (Err(error), _) | (_, Err(error)) => format!("the host could not keep the answer: {error}"),
        };
        ended.outcome = Outcome::Refused(Refused { code: BAD_ANSWER.to_owned(), message });
        ResourceEnd::State(ResourceState::Failed(HookName::Provision))
    }

    /// What a hook of `plans` leaves: what it was asked for, or nothing but a state.
    fn changed(&self, request: &HookRequest, before: ResourceState, outcome: &mut Outcome<Answer>) -> ResourceEnd {
        let mut private = None;
        if let Outcome::Completed(Answer::Reconfigured(_, value)) = outcome {
            let place = resource_place(request.key().unwrap_or_default());
            match self.home.key.seal(&place, value.as_bytes()) {
                Ok(sealed) => private = Some(sealed),
                Err(error) => {
                    let message = format!("the host could not keep the answer: {error}");
                    *outcome = Outcome::Refused(Refused { code: BAD_ANSWER.to_owned(), message });
                }
            }
        }
        let state = lifecycle::resource_after(request.hook(), before, outcome);
        let Outcome::Completed(Answer::Changed(changed) | Answer::Reconfigured(changed, _)) = outcome else {
            return ResourceEnd::State(state);
        };
        let plan = match request {
            HookRequest::ChangePlan(asked) => Some(asked.plan.clone()),
            _ => None,
        };
        ResourceEnd::Changed { state, plan, private, message: changed.message.clone() }
    }
}

/// How far a listener has come with the end of a call that told it something.
fn told<T>(request: &HookRequest, outcome: &Outcome<T>, next: Next) -> Option<Told> {
    let HookRequest::After(event) = request else { return None };
    let end = match next {
        _ if outcome.is_completed() => End::Told,
        Next::GoesOn => End::LeftOut,
        _ => End::Failed,
    };
    Some(Told { sequence: event.sequence, end })
}

/// Law 6: what a hook answered is hostile until it has passed here. Where the caller's side of its stream has failed, it
/// is that which counts, not what the guest made of it.
pub(super) fn accept(addon: &Addon, request: &HookRequest, ended: &mut Ended<Answer>) {
    ended.report.stream_bytes = request.stream_bytes();
    let over_a_limit = matches!(ended.outcome, Outcome::DeadlineExceeded { .. } | Outcome::LimitExceeded { .. });
    if let Some(message) = request.broken_stream().filter(|_| !over_a_limit) {
        ended.outcome = Outcome::Refused(Refused { code: BROKEN_STREAM.to_owned(), message });
    }
    let secrets = secrets(addon, ended);
    let Outcome::Completed(answer) = &mut ended.outcome else { return };
    if let Err(message) = answer.accept(request, addon.grant.vars_for_config()) {
        ended.outcome = Outcome::Refused(Refused { code: BAD_ANSWER.to_owned(), message });
    } else if let Some(message) = answer.message_mut() {
        *message = shown(&redact(message, &secrets), MESSAGE_MAX);
    }
}

/// All that is to be redacted from what a call has said.
fn secrets(addon: &Addon, ended: &Ended<Answer>) -> Vec<String> {
    let mut secrets = addon.settings.secrets_and(&ended.secrets);
    if let Outcome::Completed(Answer::Provisioned(made)) = &ended.outcome {
        secrets.push(made.private.clone());
    }
    secrets
}

/// The record of a call that has ended, and what its caller gets.
pub(super) fn close(mut row: CallRow, ended: Ended<Answer>, addon: &Addon, next: Next) -> (CallRow, Call<Answer>) {
    let log = ended.log.lines(&secrets(addon, &ended));
    row.outcome = Some(ended.outcome.name().to_owned());
    row.detail = ended.outcome.detail();
    row.log = (!log.is_empty()).then(|| log.join("\n"));
    row.report = Some(ended.report.clone());
    let id = row.id.clone();
    let failed_open = next == Next::GoesOn;
    (row, Call { id, outcome: ended.outcome, report: ended.report, log, failed_open })
}

/// Ordered by time, so that the newest call has the greatest id.
pub(crate) fn new_call_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}
