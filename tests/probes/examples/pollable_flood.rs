//! Pollables without number: nothing can refuse them, so the host must stop the call before a hundred thousand.

use probes::{Held, broken, wasip2::clocks::monotonic_clock::subscribe_duration};

probes::enable!(held);

fn held() -> Held {
    let pollables: Vec<_> = (0..100_000).map(|_| subscribe_duration(u64::MAX)).collect();
    Err(broken(format!("{} pollables are held", pollables.len())))
}
