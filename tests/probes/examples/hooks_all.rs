//! Every hook, well behaved: for tests of the lifecycle. Options of `provision` make it fail in a chosen way: `refuse`
//! before the resource is made, `sleep_ms`, `panic` and `loop` after it, so that there is something to undo, and `hang_once`
//! after it the first time only, for tests that kill the host meanwhile and ask again. Options of the plan it is moved to
//! make `change-plan` fail in the same ways, before and after the move; what `suspend` and `resume` do is said by options of
//! `provision` with their names.

use std::io::{self, Read as _, Write as _};
use std::{fs, thread::sleep, time::Duration};

use probes::{Error, Held, InputStream, OutputStream, Pair, check, progress};

probes::exports!(setup, provider, url, config, plans, usage, backup, health);

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
                "sleep_ms" | "panic" | "loop" | "hang_once" | "suspend" | "resume" => {}
                other => return Err(Error::Invalid(format!("unknown option {other}"))),
            }
        }
        progress::step("making the resource");
        let (plan, region) = (request.plan.unwrap_or_default(), request.region.unwrap_or_default());
        let asked_before = fs::exists(resource(&request.key))?;
        fs::write(resource(&request.key), format!("{plan}\n{region}\n"))?;
        request.options.iter().for_each(|option| fail(&option.name, &option.value, asked_before));
        progress::percent(100);
        let private = format!("password-of-{}", request.key);
        let message = Some(format!("made for {}", request.app));
        Ok(provider::Provisioned { id: request.key, private, message, log_drain_url: None })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Held {
        count("unprovision")?;
        for file in [resource(&request.key), suspended(&request.key)] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
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

impl plans::Guest for Probe {
    fn change_plan(request: plans::ChangePlanRequest) -> Result<plans::Changed, Error> {
        count("change-plan")?;
        let of = told_right(request.of)?;
        if request.plan_options.iter().any(|option| option.name == "refuse") {
            return Err(Error::Conflict(format!("too much data for the plan {}", request.plan)));
        }
        let (plan, region) = read(&of.id)?;
        // Not idempotent, for those who must notice.
        let drift = if option(&request.plan_options, "drift") == "1" { plan.as_str() } else { "" };
        fs::write(resource(&of.key), format!("{}{drift}\n{region}\n", request.plan))?;
        request.plan_options.iter().for_each(|option| fail(&option.name, &option.value, plan == request.plan));
        let from = of.plan.unwrap_or_default();
        Ok(plans::Changed { message: Some(format!("moved {} from {from} to {}", of.app, request.plan)) })
    }

    fn suspend(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        count("suspend")?;
        let of = told_right(of)?;
        let asked_before = fs::exists(suspended(&of.key))?;
        let how = option(&of.options, "suspend");
        if how == "refuse" {
            return Err(Error::Denied("asked to refuse".into()));
        }
        fs::write(suspended(&of.key), "")?;
        fail(how, "", asked_before);
        Ok(plans::Changed { message: None })
    }

    fn resume(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        count("resume")?;
        let of = told_right(of)?;
        let asked_before = !fs::exists(suspended(&of.key))?;
        if !asked_before {
            fs::remove_file(suspended(&of.key))?;
        }
        fail(option(&of.options, "resume"), "", asked_before);
        Ok(plans::Changed { message: Some(format!("{} is served again", of.app)) })
    }
}

impl usage::Guest for Probe {
    /// An hour of each second that is asked for, and what its plan says of it: nonsense, where it is asked to.
    fn usage(id: String, _: String, during: usage::Period) -> Result<Vec<usage::Figure>, Error> {
        eprintln!("hook usage");
        let (plan, _) = read(&id)?;
        let figure = |what: &str, amount| usage::Figure { what: what.into(), part: plan.clone(), amount };
        match during.begin {
            1 => Err(Error::Invalid("there was nothing then".into())),
            2 => Ok(vec![figure("Hours", 1.0)]),
            3 => Ok(vec![figure("hours", f64::NAN)]),
            4 => Ok(vec![figure("hours", 1.0), figure("hours", 2.0)]),
            5 => Ok(vec![figure("hours", -1.0)]),
            begin => Ok(vec![figure("seconds", (during.end - begin) as f64), figure("resources", 1.0)]),
        }
    }
}

impl backup::Guest for Probe {
    fn dump(id: String, _: String, mut output: OutputStream) -> Held {
        eprintln!("hook dump");
        Ok(output.write_all(&fs::read(resource(&id))?)?)
    }

    fn restore(id: String, _: String, mut input: InputStream) -> Held {
        count("restore")?;
        let mut plan_and_region = String::new();
        input.read_to_string(&mut plan_and_region)?;
        if plan_and_region.lines().count() != 2 {
            return Err(Error::Invalid("that is no dump".into()));
        }
        Ok(fs::write(resource(&id), plan_and_region)?)
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        eprintln!("hook check");
        Ok(health::Report { status: health::Status::Healthy, message: Some("all is well".into()) })
    }
}

/// The resource as the host tells of it, if it is the one that was made.
fn told_right(of: plans::ResourceInfo) -> Result<plans::ResourceInfo, Error> {
    check(of.id == of.key && of.private == format!("password-of-{}", of.key), "this is another resource")?;
    Ok(of)
}

fn option<'a>(options: &'a [Pair], name: &str) -> &'a str {
    options.iter().find(|option| option.name == name).map_or("", |option| &option.value)
}

/// Fails as an option says, after the work was done.
fn fail(how: &str, value: &str, asked_before: bool) {
    match how {
        "sleep_ms" => sleep(Duration::from_millis(value.parse().unwrap_or(0))),
        "panic" => panic!("asked to panic"),
        "loop" => hang(),
        "hang_once" | "panic_once" if asked_before => {}
        "hang_once" => hang(),
        "panic_once" => panic!("asked to panic once"),
        _ => {}
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

/// There while it is suspended.
fn suspended(key: &str) -> String {
    format!("/data/{key}.suspended")
}

fn read(id: &str) -> Result<(String, String), Error> {
    let lines = fs::read_to_string(resource(id)).map_err(|_| Error::NotFound(format!("no resource {id}")))?;
    let mut lines = lines.lines().map(String::from);
    Ok((lines.next().unwrap_or_default(), lines.next().unwrap_or_default()))
}
