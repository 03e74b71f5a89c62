//! Many calls at once, each with a command in the one instance: the host must let in a few at a time, and all in the end.
//! The URL says how many commands this one has seen at work, itself included.

use probes::services::{exec, start};
use probes::{Error, Held, check};

probes::exports!(setup, provider, url);

impl setup::Guest for Probe {
    fn enable() -> Held {
        start("main", &[])
    }

    fn disable() -> Held {
        Ok(())
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl url::Guest for Probe {
    fn url(_: String, _: String) -> Result<String, Error> {
        let script = "touch /tmp/at-work.$$; sleep 1; ls /tmp/at-work.* | wc -l; rm /tmp/at-work.$$";
        let ran = exec("main", &["sh", "-c", script].map(str::to_owned), &[])?;
        check(ran.exit_code == 0, "the command has failed")?;
        Ok(format!("seen://{}", String::from_utf8_lossy(&ran.stdout).trim()))
    }
}
