//! Sleeping for a day: the host must stop the call at its deadline, though the guest computes nothing.

use std::{thread::sleep, time::Duration};

use probes::{Held, broken};

probes::enable!(held);

fn held() -> Held {
    sleep(Duration::from_secs(24 * 3600));
    Err(broken("slept for a day"))
}
