//! One container: made the one that it should be, with what it needs.

use super::{GRACE, Services};
use crate::engine::{Container, Engine, Fault, Status};
use crate::error::{Error, Result};
use crate::render::Rendered;
use crate::store::InstanceRow;

/// What was done to an instance, and what there is to tell of it.
pub(super) struct Mended {
    pub what: &'static str,
    pub why: Option<String>,
}

impl Services {
    /// Makes the container that is there, or is not, the one that should be, and starts it. `None` when nothing was to do.
    pub(super) async fn converge(
        &self,
        engine: &dyn Engine,
        row: &InstanceRow,
        rendered: &Rendered,
        there: Option<&Container>,
    ) -> Result<Option<Mended>> {
        let name = &rendered.container.name;
        let what = match there {
            Some(there) if !self.marks().vouches_for(name, &there.labels) => {
                return Err(Error::ForeignContainer { name: name.clone(), engine: row.engine.clone() });
            }
            Some(there) if rendered.is(there) && there.status == Status::Running => return Ok(None),
            Some(there) => {
                if rendered.is(there) {
                    // A port that was taken meanwhile shows here; and a network that was removed, which another one of its
                    // name does not replace.
                    match engine.start(&there.id).await {
                        Err(failure) if failure.fault == Fault::NotFound => {}
                        started => {
                            started?;
                            return Ok(Some(Mended { what: "started", why: None }));
                        }
                    }
                }
                engine.stop(&there.id, GRACE).await?;
                engine.remove(&there.id).await?;
                "made anew"
            }
            None => "made",
        };
        for network in &rendered.networks {
            engine.create_network(network).await?;
        }
        let why = self.make_volumes(engine, row, rendered).await?;
        let created = match self.create_with_secrets(engine, row, rendered).await {
            // Or somebody else's network that it joins.
            Err(Error::Engine(failure))
                if failure.fault == Fault::NotFound && engine.image(&rendered.container.image).await?.is_none() =>
            {
                self.fetch_again(engine, row, &rendered.container.image).await?;
                self.create_with_secrets(engine, row, rendered).await?
            }
            created => created?,
        };
        if let Err(failure) = engine.start(&created).await {
            // Where nothing is known of it, it stays to be found.
            if !matches!(failure.fault, Fault::Unreachable | Fault::TimedOut) {
                engine.remove(&created).await?;
            }
            return Err(failure.into());
        }
        Ok(Some(Mended { what, why }))
    }
}
