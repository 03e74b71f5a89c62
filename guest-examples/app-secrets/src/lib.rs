//! Gives every app a secret key and a salt of its own: made once, kept under `/data`, the same ever after.
//!
//! A resource is one file, `/data/<key>`, of `NAME=value` lines. It appears by a rename of a complete file, so that a call
//! killed at any instant leaves the whole resource or none.

mod store;
mod values;

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package lodger:app-secrets;
        world app-secrets {
            include lodger:addon/imports@0.1.0;
            export lodger:addon/setup@0.1.0;
            export lodger:addon/provider@0.1.0;
            export lodger:addon/config@0.1.0;
            export lodger:addon/health@0.1.0;
        }
    ",
    generate_all,
});

use exports::lodger::addon::{config, health, provider, setup};
use lodger::addon::{progress, settings, types::Error, types::Pair};
use values::Format;

/// The variables an app receives, as in `addon.json`.
const VARIABLES: [&str; 2] = ["APP_SECRETS_KEY", "APP_SECRETS_SALT"];
/// What an app gets when there is no plan to say how much.
const DEFAULT_BYTES: usize = 32;

struct AppSecrets;
export!(AppSecrets);

impl setup::Guest for AppSecrets {
    fn enable() -> Result<(), Error> {
        // Told now to the operator who set it, not later to whoever adds the addon to an app.
        default_format()?;
        store::sweep()
    }

    fn disable() -> Result<(), Error> {
        Ok(())
    }
}

impl provider::Guest for AppSecrets {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        let wanted = Wanted::read(&request)?;
        if !store::exists(&request.key)? {
            progress::step(&format!("Generating {} secrets of {} bytes", VARIABLES.len(), wanted.bytes));
            let mut lines = String::new();
            for name in VARIABLES {
                lines += &format!("{name}={}\n", wanted.format.encode(&values::random(wanted.bytes)?));
            }
            progress::step("Storing them");
            store::write(&request.key, &lines)?;
        }
        progress::percent(100);
        Ok(provider::Provisioned {
            id: request.key,
            // The secrets are in /data; there is nothing else to know.
            private: String::new(),
            message: Some(format!("{} are ready", VARIABLES.join(" and "))),
            log_drain_url: None,
        })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Result<(), Error> {
        store::remove(&request.key)
    }
}

impl config::Guest for AppSecrets {
    fn config_vars(id: String, _private: String) -> Result<Vec<config::ConfigVar>, Error> {
        let variable = |(name, value): (String, String)| config::ConfigVar { name, value };
        Ok(store::read(&id)?.into_iter().map(variable).collect())
    }
}

impl health::Guest for AppSecrets {
    fn check() -> Result<health::Report, Error> {
        let keys = store::keys()?;
        let broken = keys.iter().filter(|key| store::read(key).is_err()).count();
        let status = if broken == 0 { health::Status::Healthy } else { health::Status::Degraded };
        Ok(health::Report { status, message: Some(format!("{} resources, {broken} unreadable", keys.len())) })
    }
}

/// What the plan and the person ask for.
struct Wanted {
    bytes: usize,
    format: Format,
}

impl Wanted {
    fn read(request: &provider::ProvisionRequest) -> Result<Self, Error> {
        let mut wanted = Self { bytes: DEFAULT_BYTES, format: default_format()? };
        for Pair { name, value } in &request.plan_options {
            match name.as_str() {
                "bytes" => wanted.bytes = values::parse_bytes(value)?,
                "format" => wanted.format = Format::parse(value)?,
                _ => return Err(Error::Invalid(format!("the plan has an unknown option {name:?}"))),
            }
        }
        // How much is the plan's to say, how it is written is the app's.
        for Pair { name, value } in &request.options {
            match name.as_str() {
                "format" => wanted.format = Format::parse(value)?,
                _ => return Err(Error::Invalid(format!("unknown option {name:?}, there is only `format`"))),
            }
        }
        Ok(wanted)
    }
}

fn default_format() -> Result<Format, Error> {
    settings::get("FORMAT")?.map_or(Ok(Format::Hex), |value| Format::parse(&value))
}
