//! Services beyond the addon's own, or beyond what its hook may do with them: the host must refuse, and say which line of
//! the manifest would allow it where one would. Which instance is meant follows from the hook: `own` has one per resource.
//!
//! The test declares `always` (`"start": "enable"`, port 8080), `shared` (`"manual"`, port 8080, variable `GIVEN`) and `own`
//! (`"provision"`). The app `refuser` is refused after its instance was started.

use probes::services::{endpoint, exec, logs, pipe, start, stop};
use probes::{Error, Held, Pair, broken, check};

probes::exports!(setup, provider, url, plans);

impl setup::Guest for Probe {
    fn enable() -> Held {
        let long = "x".repeat(100_000);
        for name in ["", "other", "probe/always", "lodger-always", "always2", "\u{202e}", "../..", "-v", &long] {
            nothing_there(name, "declares no service")?;
        }
        nothing_there("own", "per resource")?;
        denied("start always", start("always", &[]), "\"enable\"")?;
        denied("stop always", stop("always"), "\"enable\"")?;
        for port in [0, 1, 22, 8079, u16::MAX] {
            denied("an undeclared port", endpoint("always", port), "services[].ports")?;
        }
        run("always", &["true"])?;

        for name in ["OTHER", "LD_PRELOAD", "given", "GIVEN=x\nOTHER", ""] {
            denied(name, start("shared", &[given("a"), pair(name, "b")]), "services[].environment")?;
        }
        for value in ["a\0b", &long] {
            let answer = start("shared", &[given(value)]);
            check(matches!(answer, Err(Error::Invalid(_))), format!("a bad value: {answer:?}"))?;
        }
        // None of that has started it.
        not_found("exec before start", exec("shared", &words(&["true"]), &[]), "not started")?;
        not_found("endpoint before start", endpoint("shared", 8080), "not started")?;
        not_found("logs before start", logs("shared"), "not started")?;
        stop("shared")?;

        start("shared", &[given("first $(value)\n'")])?;
        let at = endpoint("shared", 8080)?;
        let print = ["sh", "-c", "printf %s \"$GIVEN\""];
        check(run("shared", &print)? == "first $(value)\n'", "the value was changed on its way")?;
        run("shared", &["touch", "/tmp/mark"])?;
        start("shared", &[given("first $(value)\n'")])?;
        run("shared", &["rm", "/tmp/mark"])?;
        stop("shared")?;
        let answer = exec("shared", &words(&["true"]), &[]);
        check(matches!(answer, Err(Error::Unavailable(_))), format!("exec after stop: {answer:?}"))?;
        start("shared", &[given("second")])?;
        check(run("shared", &print)? == "second", "the new value is not there")?;
        let now = endpoint("shared", 8080)?;
        check((&at.host, at.port) == (&now.host, now.port), "the endpoint has changed")
    }

    // What is started when all is about to go must go too.
    fn disable() -> Held {
        start("shared", &[given("late")])
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        not_found("another resource's", exec("own", &words(&["true"]), &[]), "not started")?;
        start("own", &[])?;
        run("own", &["sh", "-c", &format!("echo {} >/tmp/key", request.key)])?;
        if request.app == "refuser" {
            return Err(Error::Conflict("asked to refuse".into()));
        }
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        start("own", &[])
    }
}

impl plans::Guest for Probe {
    fn change_plan(request: plans::ChangePlanRequest) -> Result<plans::Changed, Error> {
        is_of(&request.of.key)?;
        Ok(plans::Changed { message: None })
    }

    fn suspend(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        is_of(&of.key)?;
        stop("own")?;
        Ok(plans::Changed { message: None })
    }

    fn resume(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        start("own", &[])?;
        run("own", &["sh", "-c", &format!("echo {} >/tmp/key", of.key)])?;
        Ok(plans::Changed { message: None })
    }
}

impl url::Guest for Probe {
    fn url(id: String, _: String) -> Result<String, Error> {
        for name in ["always", "shared", "own"] {
            denied("start in a hook that only reads", start(name, &[]), "mutating hooks")?;
            denied("stop in a hook that only reads", stop(name), "mutating hooks")?;
        }
        is_of(&id)?;
        Ok("ok://held".into())
    }
}

/// Ends the probe unless the instance is that of the resource the hook is about.
fn is_of(key: &str) -> Held {
    check(run("own", &["cat", "/tmp/key"])?.trim_end() == key, "this is another resource's instance")
}

/// Whatever is asked about a service of this name.
fn nothing_there(name: &str, why: &str) -> Held {
    not_found("start", start(name, &[]), why)?;
    not_found("stop", stop(name), why)?;
    not_found("endpoint", endpoint(name, 8080), why)?;
    not_found("exec", exec(name, &words(&["true"]), &[]), why)?;
    not_found("pipe", pipe(name, &words(&["true"]), None, None), why)?;
    not_found("logs", logs(name), why)
}

fn not_found<T>(attack: &str, answer: Result<T, Error>, why: &str) -> Held {
    match answer {
        Err(Error::NotFound(text)) if text.contains(why) => Ok(()),
        Err(other) => Err(broken(format!("{attack}: {other:?}"))),
        Ok(_) => Err(broken(format!("allowed: {attack}"))),
    }
}

fn denied<T>(attack: &str, answer: Result<T, Error>, line: &str) -> Held {
    match answer {
        Err(Error::Denied(text)) if text.contains(line) => Ok(()),
        Err(other) => Err(broken(format!("{attack}: {other:?}"))),
        Ok(_) => Err(broken(format!("allowed: {attack}"))),
    }
}

/// What a command prints that must end well.
fn run(service: &str, command: &[&str]) -> Result<String, Error> {
    let ran = exec(service, &words(command), &[])?;
    check(ran.exit_code == 0, format!("{command:?}: {}", String::from_utf8_lossy(&ran.stderr)))?;
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn given(value: &str) -> Pair {
    pair("GIVEN", value)
}

fn pair(name: &str, value: &str) -> Pair {
    Pair { name: name.into(), value: value.into() }
}
