//! A mutating hook once its start is on record: it comes to its end whether or not its caller waits for that.
//!
//! Its caller polls it, so that the guest runs on the caller's worker and nothing is handed over. A caller that goes away (a
//! timeout, a `select!`, a request that was cancelled) leaves the rest to the runtime it was on: the hook ends as it would
//! have, that is committed, and only then the addon's lock is free. What is left of it owns all that it needs, the lock among
//! it. A runtime that is shut down meanwhile is to the record what a host that dies is.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::Call;
use super::record::{Keeper, accept, close};
use crate::failure::{FailurePolicy, Next};
use crate::hook::{Answer, HookRequest};
use crate::lifecycle::ResourceState;
use crate::lock::Held;
use crate::outcome::{Outcome, Refused};
use crate::registry::{Addon, GuestKind};
use crate::remote;
use crate::sandbox::{Ended, Room, Sandbox};
use crate::store::{CallRow, ResourceEnd};
use crate::tree::Size;

/// All that the rest of a call needs.
pub(super) struct Section {
    pub sandbox: Arc<Sandbox>,
    pub keeper: Keeper,
    pub addon: Arc<Addon>,
    pub room: Room,
    pub request: HookRequest,
    /// The state of the resource it is about.
    pub found: Option<ResourceState>,
    pub row: CallRow,
    /// What is done when it fails, and how often it was called before.
    pub policy: FailurePolicy,
    pub before: u32,
    /// Not looked at: held until the end.
    pub held: (Arc<Held>, OwnedSemaphorePermit),
}

/// What a call has come to, what follows from it, and whether its resource has gone with it.
pub(super) struct Finished {
    pub call: Call<Answer>,
    pub next: Next,
    pub gone: bool,
}

impl Section {
    /// From here on never `Err`: whatever happens is an outcome, and is committed.
    pub fn run(self) -> ToTheEnd<Finished> {
        ToTheEnd { rest: Some(Box::pin(self.enter())), runtime: Handle::current() }
    }

    async fn enter(self) -> Finished {
        let Section { sandbox, keeper, addon, room, request, found, row, policy, before, held } = self;
        let mut ended = enter(&sandbox, &addon, room, &request).await;
        accept(&addon, &request, &mut ended);
        let next = policy.next(&ended.outcome, before);
        let finish = keeper.finish(&addon, &request, found, &mut ended, next, &row.actor);
        addon.count(Size { bytes: ended.report.data_bytes, files: ended.report.data_files });
        let (mut row, call) = close(row, ended, &addon, next);
        if call.failed_open {
            row.detail = row.detail.map(|detail| format!("{detail} (gone on without it: fail-open)"));
        }
        // The record stays `started` when this fails, and is repaired like that of a host that died here.
        if let Err(error) = keeper.store.finished(&row, &finish) {
            tracing::error!(call = call.id, error = &error as &dyn std::error::Error, "cannot note the end of a call");
        }
        keeper.tell(&row);
        drop(held);
        Finished { call, next, gone: matches!(finish.resource, Some(ResourceEnd::Gone)) }
    }
}

/// Asks a hook of whatever the addon is: a component, in the sandbox, or a provider elsewhere.
pub(super) async fn enter(sandbox: &Sandbox, addon: &Addon, room: Room, request: &HookRequest) -> Ended<Answer> {
    if let Some(GuestKind::Remote(provider)) = &addon.guest {
        // Apart, so that a call of a component is not as large as both.
        return Box::pin(remote::run(provider, addon, room, request)).await;
    }
    let ended = sandbox
        .run(room, async |store| match &addon.guest {
            Some(GuestKind::Component(linked)) => linked.hooks.call(store, request).await,
            _ => Err(wasmtime::format_err!("no component")),
        })
        .await;
    let outcome = ended.outcome.and_then(|answer| match answer {
        Ok(answer) => Outcome::Completed(answer),
        Err(error) => Outcome::Refused(Refused::by_guest(error, &addon.settings.secrets_and(&ended.secrets))),
    });
    Ended { outcome, report: ended.report, log: ended.log, secrets: ended.secrets }
}

/// Work that its caller polls, and that the runtime finishes when the caller has gone.
pub(super) struct ToTheEnd<T: Send + 'static> {
    /// Absent once it has ended, or panicked.
    rest: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    runtime: Handle,
}

impl<T: Send + 'static> Future for ToTheEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(mut rest) = self.rest.take() else { return Poll::Pending };
        let polled = rest.as_mut().poll(context);
        if polled.is_pending() {
            self.rest = Some(rest);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for ToTheEnd<T> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take() {
            // Nobody waits for what it comes to; that is on record.
            drop(self.runtime.spawn(rest));
        }
    }
}
