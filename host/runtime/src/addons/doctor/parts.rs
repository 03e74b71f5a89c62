//! The containers that the policy lets plugins stand in for: who does, and whether one of the two runs, and not both.

use super::{Finding, Severity};
use crate::engine::{Container, Status};
use crate::error::Result;
use crate::host::Host;
use crate::policy::Replaceable;
use crate::render::LABEL_HOME;
use crate::store::{Holder, StandInRow};

/// What is told of a container, and what mends it.
type Told = (Severity, String, Option<String>);

impl Host {
    pub(super) async fn part_findings(&self) -> Result<Vec<Finding>> {
        let mut rows = self.store.stand_ins()?;
        let mut findings = Vec::new();
        for part in &self.policy.replaceable {
            let is_it =
                |row: &StandInRow| (&row.container, row.engine.as_str()) == (&part.container, part.engine.as_str());
            let row = rows.iter().position(is_it).map(|at| rows.remove(at));
            let told = self.look_at_part(part, row.as_ref()).await;
            let (severity, message, fix) =
                told.unwrap_or_else(|error| (Severity::Error, error.to_string(), error.hint()));
            findings.push(Finding::new(severity, format!("slot {}", part.slot), message, fix));
        }
        for row in rows {
            let message = format!(
                "it stands in for the container {} of engine `{}`, which the policy does not name",
                row.container, row.engine
            );
            let (subject, fix) = (row.addon.to_string(), Some(format!("`lodger reconcile {}`", row.addon)));
            findings.push(Finding::new(Severity::Warning, subject, message, fix));
        }
        Ok(findings)
    }

    async fn look_at_part(&self, part: &Replaceable, row: Option<&StandInRow>) -> Result<Told> {
        let name = &part.container;
        let engine = self.services.engines.get(part.engine.as_str())?;
        let Some(core) = engine.container(name).await? else {
            let message = format!("the container {name} is not there on engine `{}`", part.engine);
            let fix = "make it, or correct the line under [[replaceable]] in lodger.toml".to_owned();
            return Ok((Severity::Warning, message, Some(fix)));
        };
        if core.labels.contains_key(LABEL_HOME) {
            let message = format!("the container {name} is one that lodger has made: nothing stands in for it");
            let fix = "name one of your own under [[replaceable]] in lodger.toml".to_owned();
            return Ok((Severity::Warning, message, Some(fix)));
        }
        let Some(row) = row else { return self.not_stood_in_for(part, &core).await };
        let stand_in = self.services.own_container(&*engine, &row.instance()).await?;
        self.stood_in_for(row, is_running(&core), stand_in.is_some_and(|stand_in| is_running(&stand_in)))
    }

    /// `core` and `stand_in`: whether they run.
    fn stood_in_for(&self, row: &StandInRow, core: bool, stand_in: bool) -> Result<Told> {
        let StandInRow { addon, service, container, .. } = row;
        let message = match (self.is_cut_off(row)?, core, stand_in) {
            (true, false, _) => {
                format!("the container {container} does not run, and `{addon}` does not stand in for it any more")
            }
            (true, true, _) => format!("`{addon}` is recorded to stand in for the container {container}, which runs"),
            (false, false, true) => {
                let message = format!("service {service} of `{addon}` stands in for the container {container}");
                return Ok((Severity::Note, message, None));
            }
            (false, true, true) => {
                format!("the container {container} runs beside service {service} of `{addon}`, which stands in for it")
            }
            (false, _, false) => {
                format!("service {service} of `{addon}`, which stands in for the container {container}, does not run")
            }
        };
        Ok((Severity::Warning, message, Some(format!("`lodger reconcile {addon}`"))))
    }

    /// Whether the container waits to be started again: nobody is at work for whom it is stopped.
    fn is_cut_off(&self, row: &StandInRow) -> Result<bool> {
        if self.is_at_work(&row.addon)? {
            return Ok(false);
        }
        let enabled = self.store.addon(&row.addon)?.is_some_and(|addon| addon.state.is_enabled());
        Ok(!row.standing || !enabled)
    }

    async fn not_stood_in_for(&self, part: &Replaceable, core: &Container) -> Result<Told> {
        let name = &part.container;
        if let Some(Holder { addon, .. }) = self.enabled_in(part.slot.as_str())? {
            // What keeps an addon from being loaded is told of the addon.
            let loaded = self.registry.get(self, &addon).await;
            if loaded.is_ok_and(|(loaded, _)| loaded.grant.stands_in.is_some()) {
                let message = format!("addon `{addon}` fills it and does not stand in for the container {name}");
                let fix = format!("`lodger disable {addon}`, then `lodger enable {addon}`");
                return Ok((Severity::Warning, message, Some(fix)));
            }
        }
        Ok(if is_running(core) {
            (Severity::Note, format!("no addon stands in for the container {name}"), None)
        } else {
            let message = format!("the container {name} does not run, and no addon stands in for it");
            (Severity::Warning, message, Some(format!("`docker start {name}`")))
        })
    }
}

fn is_running(container: &Container) -> bool {
    container.status == Status::Running
}
