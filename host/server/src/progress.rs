//! What operations have told of how far they have come: of those of this server, in bounded memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lodger::{Operation, ProgressEvent, ProgressSink};
use serde_json::json;
use tokio::sync::watch;

use crate::sse;

/// What is remembered of one operation: the newest. Whoever is slower loses the others.
const TOLD_MAX: usize = 256;
/// Operations that have ended and of which it is still known what they told.
const ENDED_MAX: usize = 64;

/// By id, the oldest first.
#[derive(Default)]
pub struct Operations(Mutex<BTreeMap<String, Arc<Progress>>>);

#[derive(Default)]
pub struct Progress {
    told: Mutex<Told>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Told {
    /// How many there were.
    last: u64,
    events: VecDeque<(u64, ProgressEvent)>,
    ended: Option<Operation>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Lists are whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Operations {
    pub fn begin(&self, id: &str) -> Arc<Progress> {
        let mut all = lock(&self.0);
        let ended = all.iter().filter(|(_, progress)| lock(&progress.told).ended.is_some());
        let ended: Vec<String> = ended.map(|(id, _)| id.clone()).collect();
        for id in ended.iter().take((ended.len() + 1).saturating_sub(ENDED_MAX)) {
            all.remove(id);
        }
        all.entry(id.to_owned()).or_default().clone()
    }

    /// `None` where it was another server's, or has ended long ago.
    pub fn get(&self, id: &str) -> Option<Arc<Progress>> {
        lock(&self.0).get(id).cloned()
    }
}

impl Progress {
    pub fn sink(self: &Arc<Self>) -> ProgressSink {
        let progress = self.clone();
        Arc::new(move |event| progress.tell(event))
    }

    fn tell(&self, event: ProgressEvent) {
        let mut told = lock(&self.told);
        let newest = told.events.back().map(|(_, newest)| newest);
        if newest == Some(&event) {
            return;
        }
        // Of percentages only the last says anything.
        let replaces = matches!((newest, &event), (Some(ProgressEvent::Percent(_)), ProgressEvent::Percent(_)));
        if replaces {
            told.events.pop_back();
        } else if told.events.len() == TOLD_MAX {
            told.events.pop_front();
        }
        told.last += 1;
        let last = told.last;
        told.events.push_back((last, event));
        drop(told);
        self.changed.send_replace(());
    }

    pub fn end(&self, operation: Operation) {
        lock(&self.told).ended = Some(operation);
        self.changed.send_replace(());
    }

    /// Whether it has changed since.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// All after a number, as server-sent events, with the number of the last of them; and whether that is all.
    pub fn after(&self, number: u64) -> (String, u64, bool) {
        let told = lock(&self.told);
        let new = told.events.iter().filter(|(at, _)| *at > number);
        let mut text: String = new.map(|(at, event)| shown(*at, event)).collect();
        if let Some(operation) = &told.ended {
            text.push_str(&end(operation));
        }
        (text, told.last.max(number), told.ended.is_some())
    }
}

fn shown(number: u64, event: &ProgressEvent) -> String {
    match event {
        ProgressEvent::Step(step) => sse::event(Some(number), Some("step"), &json!({ "step": step })),
        ProgressEvent::Percent(percent) => sse::event(Some(number), Some("percent"), &json!({ "percent": percent })),
    }
}

/// The last event of an operation, which has no number: whoever comes again after it is told it again.
pub fn end(operation: &Operation) -> String {
    sse::event(None, Some("end"), operation)
}
