//! Polling for what never comes: the host must stop the call at its deadline while the guest waits inside it.

use probes::wasip2::{clocks::monotonic_clock, io::poll::poll};
use probes::{Held, broken};

probes::enable!(held);

fn held() -> Held {
    let (instant, duration) =
        (monotonic_clock::subscribe_instant(u64::MAX), monotonic_clock::subscribe_duration(u64::MAX));
    let ready = poll(&[&instant, &duration]);
    Err(broken(format!("the end of time has come: {ready:?}")))
}
