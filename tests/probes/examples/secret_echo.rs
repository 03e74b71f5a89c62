//! A secret in everything that is shown: the host must redact it from log, progress, message and error, in one piece or in
//! two. `enable` is refused the first time.

use std::fs;
use std::io::{self, Write};

use probes::{Error, Held, broken, progress, settings};

probes::exports!(setup, provider, health);

impl setup::Guest for Probe {
    fn enable() -> Held {
        let secret = secret()?;
        eprintln!("the secret is {secret}, again {secret}{secret}");
        println!("the secret is {secret}");
        let (start, end) = secret.split_at(secret.len() / 2);
        for part in ["in two writes: ", start, end, "\n"] {
            io::stderr().write_all(part.as_bytes())?;
        }
        progress::step(&format!("using {secret}"));
        // Across the end of what is kept of a step.
        progress::step(&format!("{}{secret}", "x".repeat(190)));
        if fs::exists("/data/refused")? {
            return Ok(());
        }
        fs::write("/data/refused", "")?;
        Err(Error::Other(format!("cannot log in with {secret}")))
    }

    fn disable() -> Held {
        Ok(())
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        let private = secret()?.replace("operator", "resource");
        let message = Some(format!("made with {}, the password is {private}", secret()?));
        Ok(provider::Provisioned { id: request.key, private, message, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        Ok(health::Report { status: health::Status::Degraded, message: Some(format!("{} is too short", secret()?)) })
    }
}

fn secret() -> Result<String, Error> {
    settings::secret("SECRET")?.ok_or_else(|| broken("the secret is lost"))
}
