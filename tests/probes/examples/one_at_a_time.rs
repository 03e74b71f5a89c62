//! Mutating hooks of one addon come one at a time, each to its end: every one leaves a mark in `/data` while it works, and
//! refuses where it finds one. Each works in steps, between which the host may turn to others. What options and versions make
//! it do, the host's model of itself (`tests/model.rs`) does on paper.

use std::{fs, thread::sleep, time::Duration};

use probes::{Error, Held, broken};

probes::exports!(setup, provider, url, config, upgrade);

const MARK: &str = "/data/at-work";
const FORMAT: &str = "/data/format";

impl setup::Guest for Probe {
    fn enable() -> Held {
        alone("enable", || if fs::exists(FORMAT)? { Ok(()) } else { Ok(fs::write(FORMAT, "1")?) })
    }

    fn disable() -> Held {
        alone("disable", || Ok(()))
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        let has = |name: &str| request.options.iter().any(|option| option.name == name);
        alone("provision", || {
            if has("refuse") {
                return Err(Error::Conflict("asked to refuse".into()));
            }
            let note = request.options.iter().find(|option| option.name == "note").map_or("none", |note| &note.value);
            let plan = request.plan.as_deref().unwrap_or("none");
            Ok(fs::write(resource(&request.key), format!("{plan}/{note}"))?)
        })?;
        if has("panic") {
            panic!("asked to panic");
        }
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Held {
        alone("unprovision", || {
            let _ = fs::remove_file(resource(&request.key));
            Ok(())
        })
    }
}

impl url::Guest for Probe {
    fn url(id: String, _: String) -> Result<String, Error> {
        Ok(format!("probe://{}/{}", fs::read_to_string(resource(&id))?, fs::read_to_string(FORMAT)?))
    }
}

impl config::Guest for Probe {
    fn config_vars(id: String, _: String) -> Result<Vec<config::ConfigVar>, Error> {
        let value = fs::read_to_string(resource(&id))?;
        Ok(vec![config::ConfigVar { name: "PROBE_PLAN".into(), value }])
    }
}

impl upgrade::Guest for Probe {
    fn upgrade(_: String) -> Held {
        let refuse = fs::read_to_string("/addon/does.txt")? == "refuse";
        alone("upgrade", || Ok(fs::write(FORMAT, "2")?))?;
        if refuse { Err(Error::Conflict("asked to refuse".into())) } else { Ok(()) }
    }
}

/// Works in steps, with the mark in place.
fn alone(hook: &str, work: impl FnOnce() -> Held) -> Held {
    if let Ok(other) = fs::read_to_string(MARK) {
        return Err(broken(format!("{hook} overlaps {other}")));
    }
    fs::write(MARK, hook)?;
    pause();
    let done = work();
    pause();
    fs::remove_file(MARK)?;
    done
}

fn pause() {
    for _ in 0..3 {
        sleep(Duration::from_micros(300));
    }
}

fn resource(key: &str) -> String {
    format!("/data/{key}")
}
