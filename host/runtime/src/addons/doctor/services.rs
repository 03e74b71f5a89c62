//! What is to be said of engines, and of services that do not run.

use super::{Finding, Severity};
use crate::engine::{About, BRIDGES};
use crate::error::Result;
use crate::host::Host;
use crate::id::AddonId;
use crate::policy::Reach;
use crate::services::{TooLarge, told_lost};
use crate::store::InstanceRow;

/// From this version on Docker keeps ports of the loopback address from its neighbours.
const PORTS_GUARDED: u32 = 28;
/// Chains and what is dropped there that comes from our networks: all that a service begins towards the machine itself, and
/// the addresses where clouds tell a machine its secrets.
const GUARD: [(&str, &str); 2] =
    [("INPUT", "-m conntrack --ctstate NEW -j DROP"), ("DOCKER-USER", "-d 169.254.0.0/16 -j DROP")];

impl Host {
    /// Of the engines that have anything.
    pub(super) async fn engine_findings(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for (name, about) in self.services.about().await? {
            let subject = format!("engine {name}");
            match about {
                Ok(about) => {
                    findings.extend(of_engine(&subject, &about));
                    findings.push(self.guard_finding(&name, subject, &about));
                }
                Err(error) => {
                    findings.push(Finding::new(Severity::Error, subject, error.to_string(), error.hint()));
                }
            }
        }
        Ok(findings)
    }

    /// Whether services reach the engine's machine. Rules of a firewall take root, which lodger should not be, to set and to
    /// look at: whoever has set them says so in the policy, and is believed.
    fn guard_finding(&self, engine: &str, subject: String, about: &About) -> Finding {
        let rules = |verb: &str| {
            let rules = GUARD.map(|(chain, rule)| format!("`iptables {verb} {chain} -i {BRIDGES}+ {rule}`"));
            rules.join(" and ")
        };
        let place = if about.rootless { "in the engine's network namespace" } else { "on its machine" };
        let guarded = self.services.engines.all().iter().any(|at| at.name.as_str() == engine && at.guarded);
        let (severity, message, fix) = match &self.policy.services.reach {
            Reach::Network(apps) => {
                let message = format!("from the network {apps}, which lodger has not made, services reach its machine");
                (Severity::Note, message, "guard that network like any other".to_owned())
            }
            Reach::Host if guarded => {
                let message = "its services are kept off its machine, as engine.guarded in lodger.toml says".to_owned();
                (Severity::Note, message, format!("to check that, as root {}: {}", place, rules("-C")))
            }
            Reach::Host => {
                let message = "services reach ports of its machine that listen on more than 127.0.0.1".to_owned();
                let fix = format!(
                    "as root {}, whenever it has started: {}; then `guarded = true` under [[engine]] in lodger.toml",
                    place,
                    rules("-I")
                );
                (Severity::Warning, message, fix)
            }
        };
        Finding::new(severity, subject, message, Some(fix))
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
                findings.push(Finding::new(Severity::Error, id.to_string(), message, Some(fix)));
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

    /// What an addon's services have lost.
    pub(super) fn lost_findings(&self, id: &AddonId) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for lost in self.store.lost_volumes(id)? {
            let resource = self.store.resource(id, &lost.resource)?;
            let of = resource.map(|resource| format!(", of app `{}`", resource.app)).unwrap_or_default();
            let message = format!("{}{of}", told_lost(&lost.name));
            let fix = "restore what it held; this is told until its service is started anew".to_owned();
            findings.push(Finding::new(Severity::Warning, id.to_string(), message, Some(fix)));
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
        findings.push(Finding::new(severity, subject, message, Some(fix.to_owned())));
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
