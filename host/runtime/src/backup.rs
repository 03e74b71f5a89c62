//! Backups of a whole home, and homes made of them.
//!
//! A backup has what this home alone has: what is installed, granted and set, what apps have, data directories, packages,
//! and the volumes of services. It has no policy, no cache and no record of calls, and none of the earlier versions that
//! could be gone back to. Secrets are opened, and travel within the encryption only.
//!
//! Each addon is saved as it is at one moment: under its lock, so that mutating calls wait, with its services halted while
//! their volumes are copied, and running again before the next addon has its turn. A host that dies meanwhile leaves them
//! halted as far as engines are concerned; the store still wants them to run, and reconciling starts them.
//!
//! A backup is restored into a home without addons, all or nothing. The archive is read twice: first whole, so that it is
//! known to be authentic, complete and admitted by this policy before anything is made; then to make it. What is made is
//! nobody's until one transaction says that all of it is there. A note in the store tells that files and volumes may be
//! there before that, so that a restore that was cut off is cleared by the next one.

mod archive;
mod read;
mod restore;
mod rows;
mod stream;
mod write;

use std::io;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::id::AddonId;

pub use read::IncomingHome;
pub use stream::Passphrase;

/// Of what is written; another one is not read.
const FORMAT: u16 = 1;

/// The first document of a backup.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    format: u16,
    /// The version of the program that made it.
    program: String,
    /// Milliseconds since 1970.
    created: i64,
    addons: Vec<String>,
}

/// What [`Host::backup`](crate::Host::backup) has saved.
#[derive(Clone, Debug, Default, Serialize)]
pub struct BackedUp {
    pub addons: usize,
    pub resources: usize,
    /// Of services.
    pub volumes: usize,
    /// Of the backup as a whole.
    pub bytes: u64,
}

/// What [`Host::restore_home`](crate::Host::restore_home) has made.
#[derive(Clone, Debug, Serialize)]
pub struct Restored {
    pub addons: usize,
    pub resources: usize,
    pub volumes: usize,
    /// Services that are there with their data, and do not serve yet. Reconciling goes on with them.
    pub not_up: Vec<NotUp>,
}

/// An addon whose services do not all serve.
#[derive(Clone, Debug, Serialize)]
pub struct NotUp {
    pub addon: AddonId,
    pub why: String,
}

/// What reading or writing a backup has failed with: often an error of ours on its way through a stream.
fn io_error(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(source) => Error::Io { action: "read or write", path: "the backup".into(), source },
    }
}

/// Law 6: that it is authentic says who made it, not that it is what lodger writes.
fn unexpected(what: &str, message: impl Into<String>) -> Error {
    Error::BackupContent { what: what.to_owned(), message: message.into() }
}
