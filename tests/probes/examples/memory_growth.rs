//! Growing past the limit: the host must refuse the memory or stop the call, and not pay for it itself.

use std::hint::black_box;

use probes::{Held, broken};

probes::enable!(held);

fn held() -> Held {
    let mut taken = Vec::new();
    for _ in 0..128 {
        taken.push(black_box(vec![1u8; 1 << 20]));
    }
    Err(broken(format!("took {} MiB, twice the limit", taken.len())))
}
