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

mod events;
mod failures;
mod installations;
mod market;
mod operations;
mod platforms;
mod restored;
mod rows;
mod services;
mod slots;
mod stand_ins;
mod statements;
mod tokens;
mod versions;
mod volumes;

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior};
use tokio::sync::Notify;

use crate::crash;
use crate::error::{Error, Result};
use crate::home::private_file;
use crate::host::now_ms;
use crate::key::random;
use crate::policy::Retention;

pub(crate) use events::{End, Listener, Noted, Told};
pub(crate) use installations::{InTheWay, InstallationRow};
pub(crate) use market::{EntryRow, Kept};
pub(crate) use operations::{Found, OperationRow};
pub(crate) use platforms::OrderRow;
pub(crate) use restored::{NewAddon, NewInstance, Ports};
pub use rows::CallRow;
pub(crate) use rows::{AddonRow, Finish, ResourceEnd, ResourceRow, Revision};
pub(crate) use services::{InstanceRow, Load, Want, Wanted};
pub(crate) use slots::Holder;
pub(crate) use stand_ins::StandInRow;
pub(crate) use versions::{EarlierRow, Phase, Successor, Variables};

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
    events TEXT NOT NULL,
    state TEXT NOT NULL,
    running TEXT,
    quarantined_after INTEGER NOT NULL DEFAULT 0,
    forgiven TEXT NOT NULL DEFAULT '',
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
    region TEXT,
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
/// After so many calls those of the last one's addon are pruned, or after one in [`PRUNE_PART`] of those that are kept, where
/// that is more: to find the one too many takes longer the more are kept.
const PRUNE_EACH: u32 = 256;
const PRUNE_PART: u32 = 16;
/// How long SQLite waits for another process's transaction.
const BUSY: Duration = Duration::from_secs(10);

pub(crate) struct Store {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    reader: Mutex<Connection>,
    wal_index: File,
    /// Calls noted, from a number by chance: a program that makes only one looks now and then, too.
    noted: AtomicU32,
    prune_each: u32,
    /// Whether any addon may hear of events, and whether there was one to tell.
    tells: bool,
    raised: AtomicBool,
    news: Notify,
}

/// SQLite's own word for the state of the database; see [`Store::mark`].
pub(crate) type Mark = [u8; MARK_BYTES];
const MARK_BYTES: usize = 48;

/// What the thread that writes the log shares with the store.
struct Shared {
    writer: Mutex<Connection>,
    retention: Retention,
    waiting: Mutex<Waiting>,
    /// Held by whoever writes what waits.
    writing: Mutex<()>,
    wake: Condvar,
}

#[derive(Default)]
struct Waiting {
    calls: Vec<CallRow>,
    /// Addons whose calls are to be looked through for what need not be kept.
    prune: BTreeSet<String>,
    closing: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // SQLite rolls back what a panic leaves open; a list of records is whole at any time.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens the store, making it where there is none. `tells`: whether addons may hear of events.
    ///
    /// # Errors
    /// [`Error::StoreDamaged`] and [`Error::StoreNewer`], with nothing changed.
    #[expect(clippy::disallowed_methods, reason = "the one thread that writes what is only logged")]
    pub fn open(path: &Path, retention: Retention, tells: bool) -> Result<Store> {
        // SQLite gives its other files the mode of this one.
        private_file(path).map_err(Error::io("open the store", path))?;
        let mut writer = connect(path)?;
        prepare(&mut writer, path)?;
        let reader = connect(path)?;
        // It is there as long as a connection is open that has read something, which `prepare` has.
        let mut wal_index = path.as_os_str().to_owned();
        wal_index.push("-shm");
        let wal_index = File::open(&wal_index).map_err(Error::io("open", &wal_index))?;
        let shared = Arc::new(Shared {
            writer: Mutex::new(writer),
            retention,
            waiting: Mutex::default(),
            writing: Mutex::default(),
            wake: Condvar::new(),
        });
        let theirs = shared.clone();
        let thread = std::thread::Builder::new()
            .name("lodger-log".to_owned())
            .spawn(move || theirs.write_logs())
            .map_err(Error::io("start the thread", "lodger-log"))?;
        let prune_each = (retention.calls / PRUNE_PART).max(PRUNE_EACH);
        let noted = AtomicU32::new(u32::from_ne_bytes(random()?) % prune_each);
        let (reader, raised, news) = (Mutex::new(reader), AtomicBool::new(false), Notify::new());
        Ok(Store { shared, thread: Some(thread), reader, wal_index, noted, prune_each, tells, raised, news })
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
            crash::point("store", action);
            transaction.commit()?;
            crash::point("stored", action);
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
                crash::point("store", action);
                transaction.commit()?;
                crash::point("stored", action);
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
        let prune = self.is_time_to_prune().then(|| call.addon.clone());
        let mut waiting = lock(&self.shared.waiting);
        waiting.prune.extend(prune);
        waiting.calls.push(call);
        if waiting.calls.len() == 1 {
            self.shared.wake.notify_one();
        }
    }

    /// Leaves it to the thread to drop what need not be kept of an addon's calls, now and then.
    fn noted(&self, addon: &str) {
        if self.is_time_to_prune() {
            lock(&self.shared.waiting).prune.insert(addon.to_owned());
            self.shared.wake.notify_one();
        }
    }

    fn is_time_to_prune(&self) -> bool {
        (self.noted.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(self.prune_each)
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
        let mut closing = false;
        while !closing {
            let waiting = lock(&self.waiting);
            let idle = |waiting: &mut Waiting| waiting.calls.is_empty() && waiting.prune.is_empty() && !waiting.closing;
            let waiting = self.wake.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
            let open = |waiting: &mut Waiting| !waiting.closing;
            let woken = self.wake.wait_timeout_while(waiting, LOG_DELAY, open);
            let mut waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
            closing = waiting.closing;
            let prune = std::mem::take(&mut waiting.prune);
            drop(waiting);
            self.write_waiting();
            self.prune(&prune);
        }
    }

    /// All records that were handed over before are written after this, whoever has written them.
    fn write_waiting(&self) {
        let _writing = lock(&self.writing);
        let calls = std::mem::take(&mut lock(&self.waiting).calls);
        self.write_log(&calls);
    }

    fn prune(&self, addons: &BTreeSet<String>) {
        for addon in addons {
            if let Err(error) = statements::prune_calls(&lock(&self.writer), addon, self.retention, now_ms()) {
                tracing::warn!(%error, addon, "cannot prune calls");
            }
        }
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
        // Else a statement that meets a partial index is compiled again each time its parameters are bound.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
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
            transaction.execute_batch(installations::TABLES)?;
            transaction.execute_batch(market::TABLES)?;
            transaction.execute_batch(operations::TABLES)?;
            transaction.execute_batch(platforms::TABLES)?;
            transaction.execute_batch(services::TABLES)?;
            transaction.execute_batch(slots::TABLES)?;
            transaction.execute_batch(stand_ins::TABLES)?;
            transaction.execute_batch(tokens::TABLES)?;
            transaction.execute_batch(versions::TABLES)?;
            transaction.execute_batch(volumes::TABLES)?;
            transaction.execute_batch(events::TABLES)?;
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
