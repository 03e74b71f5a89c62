//! Variables that take over an app: the host must refuse the whole answer unless every name is declared and every value
//! fits. The app says which attack.

use probes::{Error, Held};

probes::exports!(provider, config);

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        Ok(provider::Provisioned { id: request.key, private: request.app, message: None, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl config::Guest for Probe {
    fn config_vars(_: String, attack: String) -> Result<Vec<config::ConfigVar>, Error> {
        let good = || variable("PROBE_GOOD", "1");
        Ok(match attack.as_str() {
            "good" => vec![good()],
            "loader" => vec![good(), variable("LD_PRELOAD", "/tmp/evil.so")],
            "proxy" => vec![good(), variable("HTTPS_PROXY", "http://evil.example")],
            "undeclared" => vec![good(), variable("OTHER_THING", "1")],
            "lowercase" => vec![good(), variable("probe_good", "1")],
            "equals" => vec![variable("PROBE_GOOD=1\nLD_PRELOAD", "/tmp/evil.so")],
            "empty" => vec![good(), variable("", "1")],
            "nul" => vec![variable("PROBE_GOOD", "a\0b")],
            "twice" => vec![good(), good()],
            "flood" => (0..1000).map(|number| variable(&format!("PROBE_{number}"), "1")).collect(),
            "huge" => vec![variable("PROBE_GOOD", &"x".repeat(1 << 20))],
            other => return Err(Error::Invalid(format!("no variant {other}"))),
        })
    }
}

fn variable(name: &str, value: &str) -> config::ConfigVar {
    config::ConfigVar { name: name.into(), value: value.into() }
}
