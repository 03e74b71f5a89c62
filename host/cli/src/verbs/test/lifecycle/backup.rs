//! Dumping what the app has, and restoring it.

use std::io::Seek as _;

use anyhow::Context as _;
use lodger::{HookName, Outcome, Resource};

use super::{Lifecycle, Variables, done, same};
use crate::data::Data;
use crate::verbs::test::expectations::Case;

impl Lifecycle<'_> {
    /// The contract: what is dumped can be restored, is read to its end for that, and leaves the app with what it had.
    pub(super) async fn backup(&mut self, case: &Case, resource: &Resource, before: &Variables) -> anyhow::Result<()> {
        if !self.exports(HookName::Dump) {
            return Ok(());
        }
        let (app, alias) = (case.app()?, case.alias.as_ref());
        let file = tempfile::tempfile().context("cannot make a file for the dump")?;
        let dumped = done(self.host.dump(&app, &self.id, alias, Data::new(&file, |_| ())?).await)?;
        let mut step = self.step("dump", &dumped);
        let Outcome::Completed(bytes) = dumped.outcome else {
            self.note(step);
            return Ok(());
        };
        step.detail = Some(lodger::human_bytes(bytes));
        self.note(step);

        (&file).rewind().context("cannot read the dump again")?;
        let restored = done(self.host.restore(&app, &self.id, alias, Data::new(&file, |_| ())?).await)?;
        let mut step = self.step("restore", &restored);
        if let Outcome::Completed(taken) = restored.outcome {
            if taken != bytes {
                step.differs("bytes read of the dump", bytes.to_string(), taken.to_string());
            }
            // A hook that fails has been shown before, or shows here as a variable that is not there.
            let (after, _) = self.variables(case, resource).await?;
            same(&mut step, "for the restored resource", before, &after);
        }
        self.note(step);
        Ok(())
    }
}
