//! A redirect to elsewhere: the host must give it to the guest as an answer, and follow it nowhere.

use probes::http::{get, target};
use probes::{Held, check};

probes::enable!(held);

fn held() -> Held {
    let response = get(&target()?, "/")?;
    let to = response.headers().get("location");
    check(response.status() == 302, format!("status {}", response.status()))?;
    check(to == [b"/elsewhere"], format!("to {to:?}"))
}
