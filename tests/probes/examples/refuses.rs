//! Every case of `error`: the host must report each as a refusal with its code and text. The app says which.

use probes::{Error, Held};

probes::provision!(refuse);

fn refuse(case: &str) -> Held {
    let text = format!("this is {case}");
    Err(match case {
        "invalid" => Error::Invalid(text),
        "not-found" => Error::NotFound(text),
        "conflict" => Error::Conflict(text),
        "denied" => Error::Denied(text),
        "exhausted" => Error::Exhausted(text),
        "unavailable" => Error::Unavailable(text),
        "other" => Error::Other(text),
        _ => return Ok(()),
    })
}
