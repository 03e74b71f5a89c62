//! Answers of tens of MiB: the host must refuse them as a whole, and not store, log or show them. The app says which.

use probes::{Error, Held};

probes::exports!(provider, url);

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        let mut answer =
            provider::Provisioned { id: request.key, private: String::new(), message: None, log_drain_url: None };
        match request.app.as_str() {
            "id" => answer.id = huge(),
            "private" => answer.private = huge(),
            "message" => answer.message = Some(huge()),
            "log-drain-url" => answer.log_drain_url = Some(huge()),
            "error" => return Err(Error::Other(huge())),
            "url" => {}
            other => return Err(Error::Invalid(format!("no variant {other}"))),
        }
        Ok(answer)
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl url::Guest for Probe {
    fn url(_: String, _: String) -> Result<String, Error> {
        Ok(huge())
    }
}

fn huge() -> String {
    "x".repeat(24 << 20)
}
