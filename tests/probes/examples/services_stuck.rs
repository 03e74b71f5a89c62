//! An addon that starts a service for every app and never clears up: `unprovision` traps, and so does `url`. What it has on
//! an engine must go all the same where the policy says so, and must stay while it is only quarantined.

use probes::{Error, Held, services};

probes::exports!(provider, url);

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        services::start("own", &[])?;
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        panic!("it cannot be undone")
    }
}

impl url::Guest for Probe {
    fn url(_: String, _: String) -> Result<String, Error> {
        panic!("it cannot be reached")
    }
}
