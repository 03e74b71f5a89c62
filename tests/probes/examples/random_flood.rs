//! More random bytes than anyone has: the host must stop the call before it allocates them. The app says how many.

use probes::wasip2::random::{insecure::get_insecure_random_bytes, random::get_random_bytes};
use probes::{Error, Held, broken};

probes::provision!(held);

fn held(variant: &str) -> Held {
    let bytes = match variant {
        "gigabyte" => get_random_bytes(1 << 30),
        "terabyte" => get_random_bytes(1 << 40),
        "most" => get_random_bytes(u64::MAX),
        "insecure-gigabyte" => get_insecure_random_bytes(1 << 30),
        "insecure-most" => get_insecure_random_bytes(u64::MAX),
        _ => return Err(Error::Invalid(format!("no variant {variant}"))),
    };
    Err(broken(format!("got {} random bytes", bytes.len())))
}
