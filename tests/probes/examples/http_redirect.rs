//! A redirect to elsewhere, in a hook of each kind: the host must give it as an answer, and follow it nowhere.

use probes::http::{get, target};
use probes::{Error, Held, check};

probes::exports!(setup, health);

impl setup::Guest for Probe {
    fn enable() -> Held {
        held()
    }

    fn disable() -> Held {
        Ok(())
    }
}

impl health::Guest for Probe {
    fn check() -> Result<health::Report, Error> {
        held().map(|()| health::Report { status: health::Status::Healthy, message: None })
    }
}

fn held() -> Held {
    let response = get(&target()?, "/")?;
    let to = response.headers().get("location");
    check(response.status() == 302, format!("status {}", response.status()))?;
    check(to == [b"/elsewhere"], format!("to {to:?}"))
}
