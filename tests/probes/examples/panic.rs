//! A panic: the host must record a trap with the guest's own message in the log, and go on.

use probes::Held;

probes::enable!(held);

fn held() -> Held {
    panic!("this is the probe's own message")
}
