//! The table of tokens. What proves one is kept as its hash only.

use rusqlite::{OptionalExtension as _, Row, params};

use super::Store;
use super::rows::{collect, from_json, to_json};
use crate::access::{HASH_BYTES, Token};
use crate::error::Result;

pub(super) const TABLES: &str = "
CREATE TABLE token (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT,
    scopes TEXT NOT NULL,
    hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires INTEGER
) STRICT, WITHOUT ROWID;
";

fn token(row: &Row<'_>) -> rusqlite::Result<Token> {
    Ok(Token {
        id: row.get("id")?,
        name: row.get("name")?,
        scopes: from_json(row, "scopes")?,
        created_at: row.get("created_at")?,
        expires: row.get("expires")?,
    })
}

impl Store {
    pub fn put_token(&self, token: &Token, hash: &[u8; HASH_BYTES]) -> Result<()> {
        self.write("keep a token", |transaction| {
            transaction.execute(
                "INSERT INTO token (id, name, scopes, hash, created_at, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![token.id, token.name, to_json(&token.scopes)?, hash, token.created_at, token.expires],
            )?;
            Ok(())
        })
    }

    /// The oldest first.
    pub fn tokens(&self) -> Result<Vec<Token>> {
        self.read("list tokens", |connection| {
            collect(connection, "SELECT * FROM token ORDER BY created_at, id", [], token)
        })
    }

    pub fn token(&self, id: &str) -> Result<Option<(Token, [u8; HASH_BYTES])>> {
        self.read("find a token", |connection| {
            let mut statement = connection.prepare_cached("SELECT * FROM token WHERE id = ?1")?;
            statement.query_row([id], |row| Ok((token(row)?, row.get("hash")?))).optional()
        })
    }

    /// False where there is none.
    pub fn delete_token(&self, id: &str) -> Result<bool> {
        self.write(
            "revoke a token",
            |transaction| Ok(transaction.execute("DELETE FROM token WHERE id = ?1", [id])? > 0),
        )
    }
}
