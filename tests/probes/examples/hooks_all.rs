//! Every hook, well behaved: for tests of the lifecycle. Options of `provision` make it fail in a chosen way: `refuse`
//! before the resource is made, `sleep_ms`, `panic` and `loop` after it, so that there is something to undo, and `hang_once`
//! after it the first time only, for tests that kill the host meanwhile and ask again.

use std::{fs, io, thread::sleep, time::Duration};

use probes::{Error, Held, progress};

probes::exports!(setup, provider, url, config, health);

impl setup::Guest for Probe {
    fn enable() -> Held {
        count("enable")
    }

    fn disable() -> Held {
        count("disable")
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        count("provision")?;
        for option in &request.options {
            match option.name.as_str() {
                "refuse" => return Err(Error::Conflict("asked to refuse".into())),
                "sleep_ms" | "panic" | "loop" | "hang_once" => {}
                other => return Err(Error::Invalid(format!("unknown option {other}"))),
            }
        }
        progress::step("making the resource");
        let (plan, region) = (request.plan.unwrap_or_default(), request.region.unwrap_or_default());
        let asked_before = fs::exists(resource(&request.key))?;
        fs::write(resource(&request.key), format!("{plan}\n{region}\n"))?;
        for option in &request.options {
            match option.name.as_str() {
                "sleep_ms" => sleep(Duration::from_millis(option.value.parse().unwrap_or(0))),
                "panic" => panic!("asked to panic"),
                "loop" => hang(),
                "hang_once" if !asked_before => hang(),
                _ => {}
            }
        }
        progress::percent(100);
        let private = format!("password-of-{}", request.key);
        let message = Some(format!("made for {}", request.app));
        Ok(provider::Provisioned { id: request.key, private, message, log_drain_url: None })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Held {
        count("unprovision")?;
        match fs::remove_file(resource(&request.key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl url::Guest for Probe {
    fn url(id: String, private: String) -> Result<String, Error> {
        eprintln!("hook url");
        let (plan, _) = read(&id)?;
        Ok(format!("probe://{id}:{private}@host/{plan}"))
    }
}

impl config::Guest for Probe {
    fn config_vars(id: String, _: String) -> Result<Vec<config::ConfigVar>, Error> {
        eprintln!("hook config-vars");
        let (plan, region) = read(&id)?;
        let variable = |(name, value): (&str, String)| config::ConfigVar { name: name.into(), value };
        Ok([("PROBE_PLAN", plan), ("PROBE_REGION", region)].map(variable).into())
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        eprintln!("hook check");
        Ok(health::Report { status: health::Status::Healthy, message: Some("all is well".into()) })
    }
}

fn hang() {
    while std::hint::black_box(true) {}
}

/// Logs a call and counts it in `/data/calls`.
fn count(hook: &str) -> Held {
    eprintln!("hook {hook}");
    fs::create_dir_all("/data/calls")?;
    let path = format!("/data/calls/{hook}");
    let before = fs::read_to_string(&path).ok().and_then(|count| count.parse().ok()).unwrap_or(0);
    Ok(fs::write(path, format!("{}", before + 1))?)
}

fn resource(key: &str) -> String {
    format!("/data/{key}")
}

fn read(id: &str) -> Result<(String, String), Error> {
    let lines = fs::read_to_string(resource(id)).map_err(|_| Error::NotFound(format!("no resource {id}")))?;
    let mut lines = lines.lines().map(String::from);
    Ok((lines.next().unwrap_or_default(), lines.next().unwrap_or_default()))
}
