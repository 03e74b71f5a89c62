//! The store: what must survive, in SQLite. Who is installed and granted what, settings, resources, and the record of calls.
//!
//! One thread owns the connection that writes; durable changes are one transaction each, synced before they are answered.
//! What is only logged (calls of read hooks) is handed over without waiting and written in batches, unsynced. Reads use a
//! connection of their own. Secret columns (`setting.value`, `resource.private`) are sealed before they come here.
//!
//! Power-loss order: WAL with `synchronous=FULL` makes a commit durable before it is reported; a torn one never happened.

mod rows;

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::home::private_file;

pub use rows::CallRow;
pub(crate) use rows::{AddonRow, Finish, ResourceEnd, ResourceRow, Revision};

/// `PRAGMA user_version` of the schema below.
const SCHEMA: u32 = 1;

const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE addon (
    id TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    component_digest TEXT,
    dev INTEGER NOT NULL,
    grant_digest TEXT NOT NULL,
    state TEXT NOT NULL,
    revision INTEGER NOT NULL,
    data_bytes INTEGER NOT NULL,
    data_files INTEGER NOT NULL,
    installed_at INTEGER NOT NULL
) STRICT;
CREATE TABLE setting (
    addon TEXT NOT NULL REFERENCES addon(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (addon, name)
) STRICT;
CREATE TABLE resource (
    key TEXT PRIMARY KEY,
    addon TEXT NOT NULL REFERENCES addon(id),
    app TEXT NOT NULL,
    alias TEXT NOT NULL,
    plan TEXT,
    options TEXT NOT NULL,
    variables TEXT NOT NULL,
    state TEXT NOT NULL,
    guest_id TEXT,
    private BLOB,
    message TEXT,
    log_drain_url TEXT,
    created_at INTEGER NOT NULL,
    UNIQUE (app, addon, alias),
    UNIQUE (addon, guest_id)
) STRICT;
CREATE TABLE call (
    id TEXT PRIMARY KEY,
    addon TEXT NOT NULL,
    hook TEXT NOT NULL,
    key TEXT,
    actor TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    outcome TEXT,
    detail TEXT,
    report TEXT
) STRICT;
CREATE INDEX call_by_addon ON call (addon, id);
CREATE INDEX call_unfinished ON call (addon) WHERE outcome IS NULL;
CREATE TABLE log (call TEXT PRIMARY KEY REFERENCES call(id) ON DELETE CASCADE, text TEXT NOT NULL) STRICT;
";

/// How long log-only records may wait for company before they are written.
const LOG_DELAY: Duration = Duration::from_millis(200);
const LOG_BATCH: usize = 512;
/// How long SQLite waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

enum Command {
    Run(Job),
    Log(Box<CallRow>),
}

pub(crate) struct Store {
    /// `None` only while the store is dropped.
    writer: Option<Sender<Command>>,
    thread: Option<JoinHandle<()>>,
    reader: Mutex<Connection>,
}

impl Store {
    /// Opens the store, making it where there is none.
    ///
    /// # Errors
    /// [`Error::StoreDamaged`] and [`Error::StoreNewer`], with nothing changed.
    #[expect(clippy::disallowed_methods, reason = "the one thread that owns the writing connection")]
    pub fn open(path: &Path) -> Result<Store> {
        // SQLite gives its other files the mode of this one.
        private_file(path).map_err(Error::io("open the store", path))?;
        let mut writer = connect(path)?;
        prepare(&mut writer, path)?;
        let reader = connect(path)?;
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("lodger-store".to_owned())
            .spawn(move || serve(writer, &receiver))
            .map_err(Error::io("start the thread", "lodger-store"))?;
        Ok(Store { writer: Some(sender), thread: Some(thread), reader: Mutex::new(reader) })
    }

    /// Runs `change` in one durable transaction. `action` completes "the store could not …".
    pub async fn write<T: Send + 'static>(
        &self,
        action: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            let done = || -> rusqlite::Result<T> {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let value = change(&transaction)?;
                transaction.commit()?;
                Ok(value)
            };
            // The caller may have gone away; the change is durable all the same.
            let _ = reply.send(done());
        });
        let sent = self.writer.as_ref().map(|writer| writer.send(Command::Run(job)));
        if !matches!(sent, Some(Ok(()))) {
            return Err(Error::TaskLost);
        }
        answer.await.map_err(|_| Error::TaskLost)?.map_err(failed(action))
    }

    /// Runs a query; short, on the caller's thread.
    pub fn read<T>(&self, action: &'static str, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&self.reader.lock().unwrap_or_else(PoisonError::into_inner)).map_err(failed(action))
    }

    /// Hands over the record of a read hook's call. Never waits, never fails; lost if the process dies at once.
    pub fn log(&self, call: CallRow) {
        if let Some(writer) = &self.writer {
            // The thread ends only after the last sender is gone.
            let _ = writer.send(Command::Log(Box::new(call)));
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::StoreDamaged { path: "lodger.db".into(), source }
        }
        _ => Error::Store { action, source },
    }
}

fn connect(path: &Path) -> Result<Connection> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "secure_delete", true)?;
        Ok(connection)
    };
    open().map_err(|source| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::StoreDamaged { path: path.to_owned(), source }
        }
        _ => Error::Store { action: "open", source },
    })
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<()> {
    let run = |connection: &mut Connection| -> rusqlite::Result<u32> {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if found == 0 {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
        }
        transaction.commit()?;
        Ok(if found == 0 { SCHEMA } else { found })
    };
    let version = |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get(0));
    let damaged = |source: rusqlite::Error| match failed("open")(source) {
        Error::StoreDamaged { source, .. } => Error::StoreDamaged { path: path.to_owned(), source },
        other => other,
    };
    // Looked at first without a write lock, which a home in use need not wait for.
    let found: u32 = version(connection).map_err(damaged)?;
    let found = if found == 0 { run(connection).map_err(damaged)? } else { found };
    if found == SCHEMA { Ok(()) } else { Err(Error::StoreNewer { found, known: SCHEMA }) }
}

/// The writing thread. Log-only records wait for company; a durable change takes those before it along.
fn serve(mut connection: Connection, commands: &Receiver<Command>) {
    let mut waiting: Vec<CallRow> = Vec::new();
    loop {
        let next = if waiting.is_empty() {
            commands.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            commands.recv_timeout(LOG_DELAY)
        };
        match next {
            Ok(Command::Log(call)) => {
                waiting.push(*call);
                if waiting.len() >= LOG_BATCH {
                    write_log(&mut connection, &mut waiting);
                }
            }
            Ok(Command::Run(job)) => job(&mut connection),
            Err(RecvTimeoutError::Timeout) => write_log(&mut connection, &mut waiting),
            Err(RecvTimeoutError::Disconnected) => {
                write_log(&mut connection, &mut waiting);
                return;
            }
        }
    }
}

fn write_log(connection: &mut Connection, waiting: &mut Vec<CallRow>) {
    let calls = std::mem::take(waiting);
    if calls.is_empty() {
        return;
    }
    let mut write = || -> rusqlite::Result<()> {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for call in &calls {
            rows::insert_call(&transaction, call)?;
        }
        transaction.commit()?;
        connection.pragma_update(None, "synchronous", "FULL")
    };
    if let Err(error) = write() {
        tracing::warn!(%error, calls = calls.len(), "cannot log calls of read hooks");
    }
}
