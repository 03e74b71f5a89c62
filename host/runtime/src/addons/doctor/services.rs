//! What is to be said of engines, and of services that do not run.

use super::{Finding, Severity};
use crate::engine::About;
use crate::error::Result;
use crate::host::Host;
use crate::id::AddonId;
use crate::services::TooLarge;
use crate::store::InstanceRow;

/// From this version on Docker keeps ports of the loopback address from its neighbours.
const PORTS_GUARDED: u32 = 28;

impl Host {
    /// Of the engines that have anything.
    pub(super) async fn engine_findings(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (name, about) in self.services.about().await? {
            let subject = format!("engine {name}");
            match about {
                Ok(about) => findings.extend(of_engine(&subject, &about)),
                Err(error) => findings.push(Finding {
                    severity: Severity::Error,
                    message: error.to_string(),
                    fix: error.hint(),
                    subject,
                }),
            }
        }
        Ok(findings)
    }

    /// What keeps an addon's services from running.
    pub(super) async fn service_findings(&self, id: &AddonId) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        let rows = self.store.instances(id)?;
        if rows.iter().all(|row| row.failures == 0 && row.disk_bytes.is_none()) {
            return Ok(findings);
        }
        // What keeps the addon itself from being loaded is told with its health.
        let addon = self.registry.get(self, id).await.ok().map(|(addon, _)| addon);
        for row in rows {
            let name = self.name_of(&row)?;
            let mut add = |message, fix| {
                findings.push(Finding { severity: Severity::Error, subject: id.to_string(), message, fix: Some(fix) });
            };
            if let Some(TooLarge { why, way_on }) = addon.as_ref().and_then(|addon| TooLarge::of(addon, &row)) {
                add(format!("its {name} does not run: {why}"), way_on);
            }
            if row.failures > 0 {
                let message = format!("its {name} has ended {} times in a row", row.failures);
                let service = &row.instance.service;
                let fix = format!("`lodger logs {id} --service {service}`, then `lodger reconcile {id} --retry`");
                add(message, fix);
            }
        }
        Ok(findings)
    }

    /// A service, and of which app where it is not for all.
    fn name_of(&self, row: &InstanceRow) -> Result<String> {
        let resources = self.store.resources_of_addon(&row.instance.addon)?;
        let app = resources.into_iter().find(|resource| resource.key == row.instance.resource);
        let app = app.map(|resource| format!(" of app `{}`", resource.app)).unwrap_or_default();
        Ok(format!("service {}{app}", row.instance.service))
    }
}

fn of_engine(subject: &str, about: &About) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |severity, message: String, fix: &str| {
        findings.push(Finding { severity, subject: subject.to_owned(), message, fix: Some(fix.to_owned()) });
    };
    if !about.rootless {
        let message = "root in a container is root on the machine, if it gets out".to_owned();
        add(Severity::Note, message, "run it rootless, or with user namespaces");
    }
    let major = about.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < PORTS_GUARDED) {
        let message = format!(
            "ports published on 127.0.0.1 can be reached from the local network before Docker {PORTS_GUARDED}; this is {}",
            about.version
        );
        add(Severity::Warning, message, "drop such packets in the firewall");
    }
    findings
}
