//! The store: what must survive, in SQLite. Who is installed and granted what, settings, resources, and the record of calls.
//!
//! One connection writes, one reads. Durable changes are one transaction each, synced before they are answered, on the
//! caller's thread: handing them to another thread costs more than the commit itself. What is only logged (calls of read
//! hooks) is left for a thread that writes it in batches, unsynced. Secret columns (`setting.value`, `resource.private`)
//! are sealed before they come here.
//!
//! After every change of any process the *mark* is another: whoever has read something, and finds the mark unchanged, need
//! not read it again.
//!
//! Power-loss order: WAL with `synchronous=FULL` makes a commit durable before it is reported; a torn one never happened.

mod rows;
mod services;
mod slots;
mod stand_ins;
mod statements;

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};

use crate::error::{Error, Result};
use crate::home::private_file;

pub use rows::CallRow;
pub(crate) use rows::{AddonRow, Finish, ResourceEnd, ResourceRow, Revision};
pub(crate) use services::{InstanceRow, Load, Want, Wanted};
pub(crate) use slots::Holder;
pub(crate) use stand_ins::StandInRow;

/// `PRAGMA user_version` of the schema below.
const SCHEMA: u32 = 1;

// Few trees, since a durable call syncs a page of each it touches. The call that is under way is noted whole with its addon,
// which can have only one; calls that have ended have a tree in the order they are listed.
const TABLES: &str = "
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE addon (
    id TEXT PRIMARY KEY NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    component_digest TEXT,
    dev INTEGER NOT NULL,
    grant_digest TEXT NOT NULL,
    state TEXT NOT NULL,
    running TEXT,
    revision INTEGER NOT NULL,
    data_bytes INTEGER NOT NULL,
    data_files INTEGER NOT NULL,
    installed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE setting (
    addon TEXT NOT NULL REFERENCES addon(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (addon, name)
) STRICT;
CREATE TABLE resource (
    key TEXT PRIMARY KEY NOT NULL,
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
) STRICT, WITHOUT ROWID;
CREATE TABLE call (
    addon TEXT NOT NULL,
    id TEXT NOT NULL,
    hook TEXT NOT NULL,
    key TEXT,
    actor TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    outcome TEXT,
    detail TEXT,
    report TEXT,
    log TEXT,
    PRIMARY KEY (addon, id)
) STRICT, WITHOUT ROWID;
";

/// How long log-only records may wait for company before they are written, and how many are written at a time: a durable
/// change waits behind them.
const LOG_DELAY: Duration = Duration::from_millis(200);
const LOG_BATCH: usize = 256;
/// How long SQLite waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);

pub(crate) struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    reader: Mutex<Connection>,
    wal_index: File,
}

/// SQLite's own word for the state of the database; see [`Store::mark`].
pub(crate) type Mark = [u8; MARK_BYTES];
const MARK_BYTES: usize = 48;

/// What the thread that writes the log shares with the store.
struct Shared {
    writer: Mutex<Connection>,
    waiting: Mutex<Waiting>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    calls: Vec<CallRow>,
    closing: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // SQLite rolls back what a panic leaves open; a list of records is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store, making it where there is none.
    ///
    /// # Errors
    /// [`Error::StoreDamaged`] and [`Error::StoreNewer`], with nothing changed.
    #[expect(clippy::disallowed_methods, reason = "the one thread that writes what is only logged")]
    pub fn open(path: &Path) -> Result<Store> {
        // SQLite gives its other files the mode of this one.
        private_file(path).map_err(Error::io("open the store", path))?;
        let mut writer = connect(path)?;
        prepare(&mut writer, path)?;
        let reader = connect(path)?;
        // It is there as long as a connection is open that has read something, which `prepare` has.
        let mut wal_index = path.as_os_str().to_owned();
        wal_index.push("-shm");
        let wal_index = File::open(&wal_index).map_err(Error::io("open", &wal_index))?;
        let shared = Arc::new(Shared { writer: Mutex::new(writer), waiting: Mutex::default(), wake: Condvar::new() });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("lodger-log".to_owned())
            .spawn(move || theirs.write_logs())
            .map_err(Error::io("start the thread", "lodger-log"))?;
        Ok(Store { shared, thread: Some(thread), reader: Mutex::new(reader), wal_index })
    }

    /// Runs `change` in one durable transaction. `action` completes "the store could not …".
    pub fn write<T>(
        &self,
        action: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let write = || -> rusqlite::Result<T> {
            let mut writer = lock(&self.shared.writer);
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        write().map_err(failed(action))
    }

    /// The same, where the change itself may find that it cannot be: then nothing is changed.
    pub fn write_if_ok<E>(
        &self,
        action: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<std::result::Result<(), E>>,
    ) -> Result<std::result::Result<(), E>> {
        let write = || -> rusqlite::Result<_> {
            let mut writer = lock(&self.shared.writer);
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let found = change(&transaction)?;
            if found.is_ok() {
                transaction.commit()?;
            }
            Ok(found)
        };
        write().map_err(failed(action))
    }

    /// Runs a query; short, on the caller's thread.
    pub fn read<T>(&self, action: &'static str, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        query(&lock(&self.reader)).map_err(failed(action))
    }

    /// The same on the connection that writes.
    fn read_to_change<T>(
        &self,
        action: &'static str,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        query(&lock(&self.shared.writer)).map_err(failed(action))
    }

    /// Another after every change, whoever made it; `None` while one is being made.
    ///
    /// It is the header of SQLite's WAL index, which every commit changes at the moment others can see it, and which stands
    /// twice to tell when it is being written (<https://sqlite.org/walformat.html>). Reading it costs a tenth of a query.
    pub fn mark(&self) -> Option<Mark> {
        let mut header = [0; 2 * MARK_BYTES];
        self.wal_index.read_exact_at(&mut header, 0).ok()?;
        let (first, second) = header.split_first_chunk::<MARK_BYTES>()?;
        (first == second).then_some(*first)
    }

    /// Hands over the record of a read hook's call. Never waits, never fails; lost if the process dies at once.
    pub fn log(&self, call: CallRow) {
        let mut waiting = lock(&self.shared.waiting);
        waiting.calls.push(call);
        if waiting.calls.len() == 1 {
            self.shared.wake.notify_one();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        lock(&self.shared.waiting).closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It has nothing to report; a panic in it has been shown.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// The logging thread: waits for a record, gives others some time to come, writes them together.
    fn write_logs(&self) {
        let mut waiting = lock(&self.waiting);
        while !waiting.closing {
            let idle = |waiting: &mut Waiting| waiting.calls.is_empty() && !waiting.closing;
            waiting = self.wake.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
            let open = |waiting: &mut Waiting| !waiting.closing;
            let woken = self.wake.wait_timeout_while(waiting, LOG_DELAY, open);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            let calls = std::mem::take(&mut waiting.calls);
            drop(waiting);
            self.write_log(&calls);
            waiting = lock(&self.waiting);
        }
        self.write_log(&std::mem::take(&mut waiting.calls));
    }

    fn write_log(&self, calls: &[CallRow]) {
        for batch in calls.chunks(LOG_BATCH) {
            if let Err(error) = write_batch(&mut lock(&self.writer), batch) {
                tracing::warn!(%error, calls = batch.len(), "cannot log calls of read hooks");
            }
        }
    }
}

/// A commit that is not synced: losing the record of a read hook's call loses nothing else.
fn write_batch(connection: &mut Connection, calls: &[CallRow]) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let write = |connection: &mut Connection| {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for call in calls {
            statements::insert_call(&transaction, call)?;
        }
        transaction.commit()
    };
    let written = write(connection);
    connection.pragma_update(None, "synchronous", "FULL")?;
    written
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
        // What is committed is safe in the log; moving it costs a short process more than all else it does.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
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
            transaction.execute_batch(services::TABLES)?;
            transaction.execute_batch(slots::TABLES)?;
            transaction.execute_batch(stand_ins::TABLES)?;
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
