//! A secret in everything that is shown: the host must redact it from log, progress and error, in one piece or in two.

use std::io::{self, Write};

use probes::{Error, Held, broken, progress, settings};

probes::enable!(held);

fn held() -> Held {
    let secret = settings::secret("SECRET")?.ok_or_else(|| broken("the secret is lost"))?;
    eprintln!("the secret is {secret}, again {secret}{secret}");
    println!("the secret is {secret}");
    let (start, end) = secret.split_at(secret.len() / 2);
    for part in ["in two writes: ", start, end, "\n"] {
        io::stderr().write_all(part.as_bytes())?;
    }
    progress::step(&format!("using {secret}"));
    // Across the end of what is kept of a step.
    progress::step(&format!("{}{secret}", "x".repeat(190)));
    Err(Error::Other(format!("cannot log in with {secret}")))
}
