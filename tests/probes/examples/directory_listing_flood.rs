//! Listings held open: the host reads a whole directory for each, and must bound that memory of its own.

use std::fs::File;

use probes::{Held, check, directory};

probes::enable!(held);

fn held() -> Held {
    for number in 0..40 {
        File::create(format!("/data/{}-{number}", "long".repeat(50)))?;
    }
    let data = directory("/data")?;
    let listings: Vec<_> = (0..10_000).map_while(|_| data.read_directory().ok()).collect();
    check(listings.len() < 10_000, "ten thousand listings are held")
}
