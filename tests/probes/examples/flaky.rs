//! An addon that fails when it is told to: `/data/does/HOOK` holds what that hook does, `trap` or the name of a refusal; a
//! mutating hook also so many times, as in `trap 2`. It counts down before it fails, and what it has written must stay.

use std::fs;

use probes::{Error, Held, broken};

probes::exports!(setup, provider, url, config, health);

impl setup::Guest for Probe {
    fn enable() -> Held {
        does("enable")
    }

    fn disable() -> Held {
        does("disable")
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        does("provision")?;
        fs::write(format!("/data/{}", request.key), "made")?;
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Held {
        does("unprovision")?;
        let _ = fs::remove_file(format!("/data/{}", request.key));
        Ok(())
    }
}

impl url::Guest for Probe {
    fn url(id: String, _: String) -> Result<String, Error> {
        does("url")?;
        Ok(format!("flaky://{id}"))
    }
}

impl config::Guest for Probe {
    fn config_vars(_: String, _: String) -> Result<Vec<config::ConfigVar>, Error> {
        does("config-vars")?;
        Ok(vec![config::ConfigVar { name: "PROBE_PLAN".into(), value: "flaky".into() }])
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        does("health")?;
        Ok(health::Report { status: health::Status::Healthy, message: None })
    }
}

fn does(hook: &str) -> Held {
    let path = format!("/data/does/{hook}");
    let Ok(told) = fs::read_to_string(&path) else { return Ok(()) };
    let (what, times) = told.split_once(' ').map_or((&*told, None), |(what, times)| (what, times.parse::<u32>().ok()));
    match times {
        Some(0) => return Ok(()),
        Some(times) => fs::write(&path, format!("{what} {}", times - 1))?,
        None => {}
    }
    match what {
        "trap" => panic!("told to trap"),
        "unavailable" => Err(Error::Unavailable("told to be away".into())),
        "conflict" => Err(Error::Conflict("told to refuse".into())),
        other => Err(broken(format!("cannot {other}"))),
    }
}
