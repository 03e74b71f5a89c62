//! Computing without end: the host must stop the call at its deadline, though the guest never calls it.

use std::hint::black_box;

use probes::{Held, broken};

probes::enable!(held);

fn held() -> Held {
    for step in 0..u64::MAX {
        black_box(step);
    }
    Err(broken("computed without end"))
}
