//! The tables of what platforms have ordered of addons, of what they prove themselves with, and of whom they have signed on.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::Store;
use super::rows::{CallRow, call, collect, from_json, optional, parsed, to_json};
use crate::error::Result;
use crate::host::now_ms;
use crate::id::{AddonId, Id};
use crate::provider::{Dialect, Order};

// An order is never under another name than the platform was told, so it outlives its resource: whoever asks for what is
// gone is told so. A sign-on is a token that was used, or a session, which is one of an order.
pub(super) const TABLES: &str = "
CREATE TABLE platform (
    addon TEXT NOT NULL REFERENCES addon(id) ON DELETE CASCADE,
    dialect TEXT NOT NULL,
    secrets BLOB NOT NULL,
    PRIMARY KEY (addon, dialect)
) STRICT, WITHOUT ROWID;
CREATE TABLE platform_order (
    id TEXT PRIMARY KEY NOT NULL,
    addon TEXT NOT NULL REFERENCES addon(id) ON DELETE CASCADE,
    dialect TEXT NOT NULL,
    uuid TEXT,
    app TEXT NOT NULL,
    alias TEXT NOT NULL,
    asked TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    tell_at INTEGER,
    tries INTEGER NOT NULL DEFAULT 0,
    gone_at INTEGER,
    UNIQUE (addon, dialect, uuid)
) STRICT, WITHOUT ROWID;
CREATE INDEX platform_order_tell ON platform_order (tell_at) WHERE tell_at IS NOT NULL;
CREATE INDEX platform_order_gone ON platform_order (gone_at) WHERE gone_at IS NOT NULL;
CREATE INDEX platform_order_made ON platform_order (made_at);
CREATE TABLE sign_on (
    hash BLOB PRIMARY KEY NOT NULL,
    session_of TEXT REFERENCES platform_order(id) ON DELETE CASCADE,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Ordered long ago, and never made: whoever ordered it has not asked again.
const NEVER_MADE: &str = "DELETE FROM platform_order WHERE made_at < ?1 AND gone_at IS NULL AND tell_at IS NULL
    AND NOT EXISTS (SELECT 1 FROM resource WHERE resource.addon = platform_order.addon
                    AND resource.app = platform_order.app AND resource.alias = platform_order.alias)";

/// For how long it is known of an order that it is gone.
const GONE_KEPT_MS: i64 = 90 * 86_400_000;

/// What a platform has ordered: a resource of an app that stands for the platform's.
#[derive(Clone, Debug)]
pub(crate) struct OrderRow {
    /// What the platform knows it by.
    pub id: String,
    pub addon: AddonId,
    pub dialect: Dialect,
    /// The app and alias that its resource is found by.
    pub app: Id,
    pub alias: Option<Id>,
    pub asked: Order,
    pub made_at: i64,
    /// When the platform is told what has become of it. Milliseconds since 1970.
    pub tell_at: Option<i64>,
    pub tries: u32,
    pub gone_at: Option<i64>,
}

fn order(row: &Row<'_>) -> rusqlite::Result<OrderRow> {
    Ok(OrderRow {
        id: row.get("id")?,
        addon: parsed(row, "addon")?,
        dialect: parsed(row, "dialect")?,
        app: parsed(row, "app")?,
        alias: optional(row, "alias")?,
        asked: from_json(row, "asked")?,
        made_at: row.get("made_at")?,
        tell_at: row.get("tell_at")?,
        tries: row.get("tries")?,
        gone_at: row.get("gone_at")?,
    })
}

pub(super) fn insert_order(transaction: &Transaction<'_>, row: &OrderRow) -> rusqlite::Result<()> {
    let sql =
        "INSERT INTO platform_order (id, addon, dialect, uuid, app, alias, asked, made_at, tell_at, tries, gone_at)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    transaction.prepare_cached(sql)?.execute(params![
        row.id,
        row.addon.to_string(),
        row.dialect.as_str(),
        row.asked.uuid,
        row.app.as_str(),
        row.alias.as_ref().map_or("", Id::as_str),
        to_json(&row.asked)?,
        row.made_at,
        row.tell_at,
        row.tries,
        row.gone_at
    ])?;
    Ok(())
}

impl Store {
    /// Sealed.
    pub fn platform_secrets(&self, addon: &AddonId, dialect: Dialect) -> Result<Option<Vec<u8>>> {
        self.read("read what a platform proves itself with", |connection| {
            let sql = "SELECT secrets FROM platform WHERE addon = ?1 AND dialect = ?2";
            let of = params![addon.to_string(), dialect.as_str()];
            connection.prepare_cached(sql)?.query_row(of, |row| row.get(0)).optional()
        })
    }

    pub fn put_platform_secrets(&self, addon: &AddonId, dialect: Dialect, sealed: &[u8]) -> Result<()> {
        self.write("keep what a platform proves itself with", |transaction| {
            let sql = "INSERT OR REPLACE INTO platform (addon, dialect, secrets) VALUES (?1, ?2, ?3)";
            let (addon, dialect) = (addon.to_string(), dialect.as_str());
            transaction.execute(sql, params![addon, dialect, sealed])?;
            let sessions = "DELETE FROM sign_on WHERE session_of IN
                                (SELECT id FROM platform_order WHERE addon = ?1 AND dialect = ?2)";
            transaction.execute(sessions, params![addon, dialect])?;
            Ok(())
        })
    }

    /// Notes an order before anything is made for it; or answers the one there is with its uuid.
    pub fn put_order(&self, new: &OrderRow) -> Result<std::result::Result<(), Box<OrderRow>>> {
        self.write_if_ok("note an order of a platform", |transaction| {
            let (addon, dialect) = (new.addon.to_string(), new.dialect.as_str());
            let sql = "SELECT * FROM platform_order WHERE addon = ?1 AND dialect = ?2 AND uuid = ?3";
            let there = transaction.prepare_cached(sql)?.query_row(params![addon, dialect, new.asked.uuid], order);
            if let Some(there) = there.optional()? {
                return Ok(Err(Box::new(there)));
            }
            let too_old = [new.made_at - GONE_KEPT_MS];
            transaction.prepare_cached("DELETE FROM platform_order WHERE gone_at < ?1")?.execute(too_old)?;
            transaction.prepare_cached(NEVER_MADE)?.execute(too_old)?;
            insert_order(transaction, new).map(Ok)
        })
    }

    /// By the id we gave it, or the platform's own.
    pub fn order(&self, addon: &AddonId, dialect: Dialect, id: &str) -> Result<Option<OrderRow>> {
        self.read("find an order of a platform", |connection| {
            let sql = "SELECT * FROM platform_order WHERE addon = ?1 AND dialect = ?2 AND (id = ?3 OR uuid = ?3)";
            let of = params![addon.to_string(), dialect.as_str(), id];
            connection.prepare_cached(sql)?.query_row(of, order).optional()
        })
    }

    pub fn orders_of(&self, addon: &AddonId) -> Result<Vec<OrderRow>> {
        self.read("list the orders of platforms", |connection| {
            let sql = "SELECT * FROM platform_order WHERE addon = ?1 ORDER BY made_at, id";
            collect(connection, sql, [addon.to_string()], order)
        })
    }

    /// Those a platform is to be told of by now.
    pub fn orders_to_tell(&self) -> Result<Vec<OrderRow>> {
        self.read("list the orders of platforms", |connection| {
            let sql = "SELECT * FROM platform_order WHERE tell_at <= ?1 ORDER BY tell_at LIMIT 100";
            collect(connection, sql, [now_ms()], order)
        })
    }

    /// Notes when a platform is told of an order next: `None` once it has been, or need not be.
    pub fn tell_order(&self, id: &str, at: Option<i64>, tries: u32) -> Result<()> {
        self.write("note what a platform was told", |transaction| {
            let sql = "UPDATE platform_order SET tell_at = ?2, tries = ?3 WHERE id = ?1 AND tell_at IS NOT NULL";
            transaction.prepare_cached(sql)?.execute(params![id, at, tries])?;
            Ok(())
        })
    }

    /// There is nothing any more of what was ordered.
    pub fn end_order(&self, id: &str) -> Result<()> {
        self.write("note that an order of a platform is gone", |transaction| {
            let sql = "UPDATE platform_order SET gone_at = ?2, tell_at = NULL WHERE id = ?1 AND gone_at IS NULL";
            transaction.execute(sql, params![id, now_ms()])?;
            transaction.execute("DELETE FROM sign_on WHERE session_of = ?1", [id])?;
            Ok(())
        })
    }

    /// There never was anything of what was ordered, unless there is now.
    pub fn forget_order(&self, order: &OrderRow) -> Result<()> {
        self.write("forget an order of a platform", |transaction| {
            let sql = "DELETE FROM platform_order WHERE id = ?1 AND NOT EXISTS
                           (SELECT 1 FROM resource WHERE addon = ?2 AND app = ?3 AND alias = ?4)";
            let alias = order.alias.as_ref().map_or("", Id::as_str);
            transaction.execute(sql, params![order.id, order.addon.to_string(), order.app.as_str(), alias])?;
            Ok(())
        })
    }

    /// Notes a token that signs on, and the session it opens. False where the token was used before.
    pub fn sign_on(&self, token: &[u8; 32], until: i64, session: &[u8; 32], of: &str, ends: i64) -> Result<bool> {
        let opened = self.write_if_ok("note that somebody has signed on", |transaction| {
            transaction.execute("DELETE FROM sign_on WHERE until < ?1", [now_ms()])?;
            let used = "INSERT OR IGNORE INTO sign_on (hash, until) VALUES (?1, ?2)";
            if transaction.execute(used, params![token, until])? == 0 {
                return Ok(Err(()));
            }
            let session_of = "INSERT INTO sign_on (hash, session_of, until) VALUES (?1, ?2, ?3)";
            transaction.execute(session_of, params![session, of, ends]).map(|_| Ok(()))
        })?;
        Ok(opened.is_ok())
    }

    /// Where the logs of what a resource is for are sent.
    pub fn log_drain(&self, key: &str) -> Result<Option<String>> {
        self.read("find a resource", |connection| {
            let sql = "SELECT log_drain_url FROM resource WHERE key = ?1";
            Ok(connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?.flatten())
        })
    }

    /// The newest calls about a resource, the newest first.
    pub fn calls_about(&self, addon: &AddonId, key: &str, most: u32) -> Result<Vec<CallRow>> {
        self.read("list calls", |connection| {
            let sql = "SELECT * FROM call WHERE addon = ?1 AND key = ?2 ORDER BY id DESC LIMIT ?3";
            collect(connection, sql, params![addon.to_string(), key, most], call)
        })
    }

    /// The order that a session is of.
    pub fn session(&self, hash: &[u8; 32]) -> Result<Option<OrderRow>> {
        self.read("find a session", |connection| {
            let sql = "SELECT platform_order.* FROM sign_on JOIN platform_order ON platform_order.id = session_of
                       WHERE hash = ?1 AND until >= ?2";
            connection.prepare_cached(sql)?.query_row(params![hash, now_ms()], order).optional()
        })
    }
}
