//! Settings beyond the manifest's: the host must deny names not declared and names of the other kind, and give the rest.

use probes::{Held, check, refused, settings};

probes::enable!(held);

fn held() -> Held {
    let long = "X".repeat(100_000);
    let names = [
        "",
        "UNDECLARED",
        "plain",
        "PLAIN ",
        "PLAIN\0",
        "../PLAIN",
        "SECRET/..",
        "ADDON_DATA",
        "PATH",
        "%",
        "'",
        &long,
    ];
    for name in names {
        refused(&format!("get {name:.20?}"), settings::get(name))?;
        refused(&format!("secret {name:.20?}"), settings::secret(name))?;
    }
    refused("a secret as plain", settings::get("SECRET"))?;
    refused("plain as a secret", settings::secret("PLAIN"))?;
    check(settings::get("PLAIN")?.as_deref() == Some("plain-value"), "the plain setting is lost")?;
    check(settings::secret("SECRET")?.as_deref() == Some("s3cr3t-value-of-the-operator"), "the secret is lost")
}
