//! Operations: requests to a server that are on record from before their work begins, so that whoever asked finds out what
//! has become of them; under a key, also by asking the same again.
//!
//! One that is under way has a note in the home, locked for as long as it is: what nobody holds was cut off, in whichever
//! process. Verbs are idempotent, so that the way on is to ask again.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::host::{Host, new_call_id, now_ms};
use crate::lifecycle::UnknownState;
use crate::lock::Note;
use crate::store::{Found, OperationRow};

/// Longest answer that is kept, in bytes.
const ANSWER_MAX: usize = 1 << 20;
/// The status of an answer that nothing was done for, and that says to ask again.
const ASK_AGAIN: u16 = 503;

/// A request on record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Operation {
    pub id: String,
    /// As on the command line: `enable`, `add`.
    pub verb: String,
    /// What the verb is about, as on the command line; `None` where only the answer tells, or it is about everything.
    pub subject: Option<String>,
    /// Who asked.
    pub actor: String,
    pub state: OperationState,
    /// Milliseconds since 1970.
    pub started_at: i64,
    pub ended_at: Option<i64>,
    /// The HTTP status of its answer, once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The answer itself, without what is not for the record; not where operations are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// What to do, where it was cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    Running,
    Done,
    /// It was answered with an error.
    Failed,
    /// Its host died, or could not note how it ended.
    Interrupted,
}

/// An operation under way. Dropped before [`Host::end_operation`] it is one that was cut off.
pub struct UnderWay {
    pub operation: Operation,
    row: OperationRow,
    note: Note,
}

/// How an operation ended that is asked for again: its answer, as it was kept.
pub struct Answered {
    pub verb: String,
    pub status: u16,
    pub answer: String,
}

pub enum Begun {
    /// It is to be carried out now.
    Now(Box<UnderWay>),
    /// It was carried out before.
    Before(Answered),
}

impl Host {
    /// Puts a request on record, in the name of whoever it is done [for](crate::acting_for). Under a `key` only the same
    /// request (of the same parts) may come again: it is carried out once, and again where it was cut off, or was answered
    /// that nothing was done and to ask again.
    ///
    /// # Errors
    /// [`Error::OperationRunning`], [`Error::OperationKeyReused`].
    pub fn begin_operation(
        &self,
        verb: &str,
        subject: Option<&str>,
        key: Option<&str>,
        request: &[&[u8]],
    ) -> Result<Begun> {
        self.writable()?;
        self.settle_operations()?;
        let row = OperationRow {
            id: new_call_id(),
            verb: verb.to_owned(),
            subject: subject.map(str::to_owned),
            actor: self.actor(),
            key: key.map(str::to_owned),
            fingerprint: self.home.key.fingerprint(request),
            state: OperationState::Running,
            started_at: now_ms(),
            ended_at: None,
            status: None,
            answer: None,
        };
        // Before it can be found: whoever finds it under way can tell.
        let note = Note::new(&self.home.operations(), &row.id)?;
        match self.store.begin_operation(&row) {
            Ok(Ok(())) => Ok(Begun::Now(Box::new(UnderWay { operation: row.clone().into(), row, note }))),
            Ok(Err(found)) => {
                note.take_away()?;
                match found {
                    Found::Running(row) => Err(Error::OperationRunning { operation: row.id }),
                    Found::Other(row) => Err(Error::OperationKeyReused { operation: row.id }),
                    Found::Ended(row) => Ok(Begun::Before(Answered {
                        verb: row.verb,
                        status: row.status.unwrap_or_default(),
                        answer: row.answer.unwrap_or_default(),
                    })),
                }
            }
            Err(error) => {
                // What is left of it the next that looks removes.
                let _ = note.take_away();
                Err(error)
            }
        }
    }

    /// Notes how an operation ended: with this HTTP status, and an answer in JSON that holds nothing in confidence.
    pub fn end_operation(&self, under_way: UnderWay, status: u16, answer: &[u8]) -> Result<Operation> {
        let UnderWay { mut row, note, .. } = under_way;
        let answer = std::str::from_utf8(answer).ok().filter(|answer| answer.len() <= ANSWER_MAX);
        row.answer = answer.filter(|answer| serde_json::from_str::<Value>(answer).is_ok()).map(str::to_owned);
        row.state = if status < 400 { OperationState::Done } else { OperationState::Failed };
        (row.status, row.ended_at) = (Some(status), Some(now_ms()));
        self.store.end_operation(&row)?;
        note.take_away()?;
        Ok(row.into())
    }

    /// # Errors
    /// [`Error::UnknownOperation`].
    pub fn operation(&self, id: &str) -> Result<Operation> {
        self.settle_operations()?;
        let row = self.store.operation(id)?.ok_or_else(|| Error::UnknownOperation(id.to_owned()))?;
        Ok(row.into())
    }

    /// The newest first, without their answers, from before the one with the id `before`; of one who asked, or of all.
    pub fn operations(&self, actor: Option<&str>, before: Option<&str>, most: u32) -> Result<Vec<Operation>> {
        self.settle_operations()?;
        Ok(self.store.operations(actor, before, most)?.into_iter().map(Operation::from).collect())
    }

    /// Notes which operations were cut off since anybody has looked.
    fn settle_operations(&self) -> Result<()> {
        let dir = self.home.operations();
        for entry in std::fs::read_dir(&dir).map_err(Error::io("list", &dir))? {
            let entry = entry.map_err(Error::io("list", &dir))?;
            let name = entry.file_name();
            // What has no name of its own yet is about to have one.
            let id = name.to_str().filter(|name| !name.starts_with('.'));
            if let Some(id) = id
                && let Some(note) = Note::left(&entry.path())?
            {
                self.store.interrupt_operation(id)?;
                note.take_away()?;
            }
        }
        for id in self.store.operations_running()? {
            // A home that was put back by its files alone has no notes of what was under way in it.
            if !dir.join(&id).exists() {
                self.store.interrupt_operation(&id)?;
            }
        }
        Ok(())
    }
}

impl OperationRow {
    /// Nothing was done for it, or nobody can say any more what it was answered.
    pub fn may_be_asked_again(&self) -> bool {
        self.status == Some(ASK_AGAIN) || self.answer.is_none()
    }
}

impl From<OperationRow> for Operation {
    fn from(row: OperationRow) -> Operation {
        let hint = "ask again, with the same key where it had one: what was done already is not done twice";
        Operation {
            id: row.id,
            verb: row.verb,
            subject: row.subject,
            actor: row.actor,
            state: row.state,
            started_at: row.started_at,
            ended_at: row.ended_at,
            status: row.status,
            answer: row.answer.and_then(|answer| serde_json::from_str(&answer).ok()),
            hint: (row.state == OperationState::Interrupted).then(|| hint.to_owned()),
        }
    }
}

impl OperationState {
    const ALL: [OperationState; 4] =
        [OperationState::Running, OperationState::Done, OperationState::Failed, OperationState::Interrupted];

    pub const fn name(self) -> &'static str {
        match self {
            OperationState::Running => "running",
            OperationState::Done => "done",
            OperationState::Failed => "failed",
            OperationState::Interrupted => "interrupted",
        }
    }
}

impl FromStr for OperationState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<OperationState, UnknownState> {
        OperationState::ALL.into_iter().find(|state| state.name() == text).ok_or(UnknownState)
    }
}
