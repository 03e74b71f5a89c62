//! The rows of the store, and how they are read.

use std::collections::BTreeMap;
use std::str::FromStr;

use rusqlite::types::Type;
use rusqlite::{Connection, Row, RowIndex};
use serde::{Deserialize, Serialize};

use super::events::Told;
use crate::event::Event;
use crate::id::{AddonId, Id};
use crate::lifecycle::{AddonState, ResourceState};
use crate::outcome::Report;
use crate::tree::Size;

/// An installed addon.
#[derive(Clone, Debug)]
pub(crate) struct AddonRow {
    pub id: AddonId,
    pub version: semver::Version,
    pub digest: String,
    pub component_digest: Option<String>,
    /// Installed with `--dev`: the same version may come with another digest.
    pub dev: bool,
    pub grant_digest: String,
    /// Events it hears of by that grant.
    pub events: Vec<String>,
    pub state: AddonState,
    pub revision: i64,
    /// The data directory as last counted.
    pub data: Size,
    /// Seconds since 1970.
    pub installed_at: i64,
}

/// What tells whether something loaded is still current.
#[derive(Clone, Debug)]
pub(crate) struct Revision {
    pub state: AddonState,
    /// A mutating call is under way, or was cut off.
    pub running: bool,
    /// Raised by every change but that of the state.
    pub revision: i64,
    pub data: Size,
}

#[derive(Clone, Debug)]
pub(crate) struct ResourceRow {
    pub key: String,
    pub addon: AddonId,
    pub app: Id,
    pub alias: Option<Id>,
    pub plan: Option<Id>,
    pub options: BTreeMap<String, String>,
    /// Where it was asked for, where somebody has said so.
    pub region: Option<String>,
    /// Names in the app, in the order of the grant's `config_vars`.
    pub variables: Vec<String>,
    pub state: ResourceState,
    pub guest_id: Option<String>,
    /// Sealed.
    pub private: Option<Vec<u8>>,
    pub message: Option<String>,
    pub created_at: i64,
}

/// The record of one call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CallRow {
    #[serde(rename = "call")]
    pub id: String,
    pub addon: String,
    pub hook: String,
    /// Our key of the resource it was about.
    pub key: Option<String>,
    /// Who asked.
    pub actor: String,
    /// Milliseconds since 1970.
    pub started_at: i64,
    /// `None` while the call runs; `interrupted` when the host died meanwhile.
    pub outcome: Option<String>,
    /// What was refused, why it trapped, which limit it was.
    pub detail: Option<String>,
    /// What it used; `None` while it runs.
    #[serde(flatten)]
    #[cfg_attr(feature = "schema", schema(schema_with = crate::schema::report_of_call))]
    pub report: Option<Report>,
    #[serde(skip)]
    pub log: Option<String>,
}

/// What the end of a call changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Finish {
    pub state: Option<AddonState>,
    pub resource: Option<ResourceEnd>,
    pub data: Option<Size>,
    /// What is to be told of it.
    pub event: Option<Event>,
    /// What was told by it.
    pub told: Option<Told>,
}

#[derive(Clone, Debug)]
pub(crate) enum ResourceEnd {
    Active {
        id: String,
        private: Vec<u8>,
        message: Option<String>,
        log_drain_url: Option<String>,
    },
    /// It stays, with another plan where there is one.
    Changed {
        state: ResourceState,
        plan: Option<String>,
        /// Sealed, where it is another.
        private: Option<Vec<u8>>,
        message: Option<String>,
    },
    State(ResourceState),
    Gone,
}

pub(super) fn parsed<T: FromStr>(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<T> {
    parse_json(row.get_ref(column)?.as_str()?)
}

pub(super) fn parse_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))
}

pub(super) fn to_json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn optional<T: FromStr>(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Option<T>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.and_then(|text| text.parse().ok()))
}

pub(super) fn size(row: &Row<'_>) -> rusqlite::Result<Size> {
    Ok(Size { bytes: row.get("data_bytes")?, files: row.get("data_files")? })
}

pub(super) fn addon(row: &Row<'_>) -> rusqlite::Result<AddonRow> {
    Ok(AddonRow {
        id: parsed(row, "id")?,
        version: parsed(row, "version")?,
        digest: row.get("digest")?,
        component_digest: row.get("component_digest")?,
        dev: row.get("dev")?,
        grant_digest: row.get("grant_digest")?,
        events: from_json(row, "events")?,
        state: parsed(row, "state")?,
        revision: row.get("revision")?,
        data: size(row)?,
        installed_at: row.get("installed_at")?,
    })
}

/// What [`resource`] reads, by position: to find columns by their names costs more than the query.
pub(super) const RESOURCES: &str =
    "SELECT key, addon, app, alias, plan, options, variables, state, guest_id, private, message,
    created_at, region FROM resource";

pub(super) fn resource(row: &Row<'_>) -> rusqlite::Result<ResourceRow> {
    Ok(ResourceRow {
        key: row.get(0)?,
        addon: parsed(row, 1)?,
        app: parsed(row, 2)?,
        // An empty alias is none.
        alias: optional(row, 3)?,
        plan: optional(row, 4)?,
        options: from_json(row, 5)?,
        variables: from_json(row, 6)?,
        state: parsed(row, 7)?,
        guest_id: row.get(8)?,
        private: row.get(9)?,
        message: row.get(10)?,
        created_at: row.get(11)?,
        region: row.get(12)?,
    })
}

pub(super) fn call(row: &Row<'_>) -> rusqlite::Result<CallRow> {
    let report: Option<String> = row.get("report")?;
    Ok(CallRow {
        id: row.get("id")?,
        addon: row.get("addon")?,
        hook: row.get("hook")?,
        key: row.get("key")?,
        actor: row.get("actor")?,
        started_at: row.get("started_at")?,
        outcome: row.get("outcome")?,
        detail: row.get("detail")?,
        report: report.and_then(|text| serde_json::from_str(&text).ok()),
        log: row.get("log")?,
    })
}

pub(super) fn collect<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: fn(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params, read)?.collect()
}
