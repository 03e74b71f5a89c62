//! A command that outlives its call: `health` hangs in it until the host is killed, or whoever asked has gone. Whoever looks
//! after the service next must end it.

use probes::services::exec;
use probes::{Error, Held, broken};

probes::exports!(provider, health);

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        Ok(provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        let command = ["sh", "-c", "trap '' TERM; yes; while :; do sleep 1; done"].map(str::to_owned);
        let answer = exec("main", &command, &[]).map(|ran| ran.exit_code);
        Err(broken(format!("it has ended: {answer:?}")))
    }
}
