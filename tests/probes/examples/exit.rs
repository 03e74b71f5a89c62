//! Leaving by `exit`: the host must record a fault of the guest, for status 0 too, and stay. The app says which status.

use std::process::exit;

use probes::{Error, Held};

probes::provision!(held);

fn held(variant: &str) -> Held {
    match variant {
        "success" => exit(0),
        "failure" => exit(1),
        _ => Err(Error::Invalid(format!("no variant {variant}"))),
    }
}
