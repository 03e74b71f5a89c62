//! Sleeping a millisecond for ever: the host must count the time of all calls it answers, not of each.

use std::{thread::sleep, time::Duration};

use probes::{Held, broken};

probes::enable!(held);

fn held() -> Held {
    (0..60_000).for_each(|_| sleep(Duration::from_millis(1)));
    Err(broken("slept for a minute"))
}
