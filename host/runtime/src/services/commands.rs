//! Commands at work in services: a file for each, locked for as long as its call lives.
//!
//! An engine cannot end a command, and it does not notice that nobody waits for one any more. So whoever starts one notes it
//! first, and takes the note away when it has ended, or its container was restarted. A call that is cut off in between (its
//! process was killed, its future dropped) leaves the note behind, and the kernel frees the lock: whoever looks after the
//! instance next ends the command by restarting the container.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::Services;
use super::converge::Mended;
use crate::engine::{Container, Engine, Status};
use crate::error::{Error, Result};
use crate::lock::Note;
use crate::store::InstanceRow;

/// The notes of a home.
pub(crate) struct Commands {
    dir: PathBuf,
}

/// A command that is at work, or was left at work. Dropped, it stays noted.
pub(crate) struct AtWork {
    pub row: InstanceRow,
    note: Note,
}

impl AtWork {
    pub fn ended(self) -> Result<()> {
        self.note.take_away()
    }
}

impl Commands {
    pub fn new(dir: PathBuf) -> Commands {
        Commands { dir }
    }

    /// Notes that a command is about to be started in a container.
    pub fn begin(&self, row: &InstanceRow, container: &str) -> Result<AtWork> {
        let note = Note::new(&self.dir, &format!("{container}.{}", uuid::Uuid::new_v4().simple()))?;
        Ok(AtWork { row: row.clone(), note })
    }

    /// The containers that commands are noted of, whether or not they are still waited for.
    pub fn noted(&self) -> Result<BTreeSet<String>> {
        Ok(self.all()?.into_keys().collect())
    }

    /// The notes of commands in a container that nobody waits for.
    fn left(&self, container: &str) -> Result<Vec<Note>> {
        let mut left = Vec::new();
        for path in self.all()?.remove(container).unwrap_or_default() {
            left.extend(Note::left(&path)?);
        }
        Ok(left)
    }

    /// All notes, by the container they are of. What has no name yet is nobody's.
    fn all(&self) -> Result<BTreeMap<String, Vec<PathBuf>>> {
        let mut all: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let entries = std::fs::read_dir(&self.dir).map_err(Error::io("list", &self.dir))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &self.dir))?;
            let name = entry.file_name();
            let container = name.to_str().and_then(|name| name.rsplit_once('.')).map(|(container, _)| container);
            if let Some(container) = container.filter(|container| !container.is_empty()) {
                all.entry(container.to_owned()).or_default().push(entry.path());
            }
        }
        Ok(all)
    }
}

impl Services {
    /// Ends the commands in an instance that nobody waits for, with all else that runs in it.
    pub(super) async fn end_commands(
        &self,
        engine: &dyn Engine,
        row: &InstanceRow,
        there: Option<&Container>,
    ) -> Result<Option<Mended>> {
        let name = row.instance.container_name(&self.marks());
        let left = self.commands.left(&name)?;
        // One that has ended has taken its commands with it.
        let may_run = |there: &&Container| {
            !matches!(there.status, Status::Created | Status::Exited(_))
                && self.marks().vouches_for(&name, &there.labels)
        };
        let mut restarted = None;
        if let Some(there) = there.filter(may_run).filter(|_| !left.is_empty()) {
            engine.stop(&there.id, Duration::ZERO).await?;
            engine.start(&there.id).await?;
            let why = Some("a command in it had outlived its call".to_owned());
            restarted = Some(Mended { what: "restarted", why });
        }
        left.into_iter().try_for_each(Note::take_away)?;
        Ok(restarted)
    }
}
