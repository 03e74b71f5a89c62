//! Recursing without end: the host must trap the guest, and keep its own stack.

use std::hint::black_box;

use probes::{Held, broken};

probes::enable!(held);

fn held() -> Held {
    Err(broken(format!("recursed {} deep", depth(u64::from(u32::MAX)))))
}

#[inline(never)]
fn depth(more: u64) -> u64 {
    if more == 0 { 0 } else { 1 + black_box(depth as fn(u64) -> u64)(more - 1) }
}
