//! Gives every app a secret key and a salt of its own: made once, kept under `/data`, the same ever after.
//!
//! A resource is one file, `/data/<key>`, of `name=value` lines. It appears by a rename of a complete file, so that a call
//! killed at any instant leaves the whole resource or none. That file is what is dumped, and restored in the same way.

mod store;
mod values;

use std::io::{Read as _, Write as _};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package lodger:app-secrets;
        world app-secrets {
            include lodger:addon/imports@0.1.0;
            export lodger:addon/setup@0.1.0;
            export lodger:addon/provider@0.1.0;
            export lodger:addon/config@0.1.0;
            export lodger:addon/plans@0.1.0;
            export lodger:addon/backup@0.1.0;
            export lodger:addon/health@0.1.0;
        }
    ",
    // The streams of a crate that knows how to read and write them as std does.
    with: {
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
    },
    generate_all,
});

use exports::lodger::addon::{backup, config, health, plans, provider, setup};
use lodger::addon::{progress, settings, types::Error, types::Pair};
use store::Secrets;
use values::Format;
use wasip2::io::streams::{InputStream, OutputStream};

/// The variables an app receives, as in `addon.json`.
const VARIABLES: [&str; 2] = ["APP_SECRETS_KEY", "APP_SECRETS_SALT"];
/// What an app gets when there is no plan to say how much.
const DEFAULT_BYTES: usize = 32;
/// More than any dump is.
const DUMP_MAX: u64 = 16_384;

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
            let mut variables = Vec::new();
            for name in VARIABLES {
                variables.push((name.to_owned(), wanted.format.encode(&values::random(wanted.bytes)?)));
            }
            progress::step("Storing them");
            store::write(&request.key, &Secrets { bytes: wanted.bytes, variables })?;
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
        Ok(store::read(&id)?.variables.into_iter().map(variable).collect())
    }
}

impl plans::Guest for AppSecrets {
    /// A plan promises how long secrets are at least, and those an app has are never replaced: that would end its sessions
    /// and lose what it has encrypted. So it may have every plan that its secrets are long enough for.
    fn change_plan(request: plans::ChangePlanRequest) -> Result<plans::Changed, Error> {
        let has = store::read(&request.of.id)?.bytes;
        let promised = Wanted::of_plan(&request.plan_options)?.bytes;
        if has < promised {
            return Err(Error::Conflict(format!(
                "the secrets of {} have {has} bytes and the plan {} promises {promised}; secrets in use are never replaced: \
                 remove the addon from the app and add it again with that plan",
                request.of.app, request.plan
            )));
        }
        Ok(plans::Changed { message: Some(format!("the secrets stay as they are, {has} bytes each")) })
    }

    fn suspend(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        store::read(&of.id)?;
        Ok(plans::Changed { message: Some("the app keeps its secrets: what it knows cannot be withheld".to_owned()) })
    }

    fn resume(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        store::read(&of.id)?;
        Ok(plans::Changed { message: None })
    }
}

impl backup::Guest for AppSecrets {
    fn dump(id: String, _private: String, mut output: OutputStream) -> Result<(), Error> {
        let written = output.write_all(store::read(&id)?.to_lines().as_bytes());
        written.map_err(|error| Error::Unavailable(format!("cannot write the dump: {error}")))
    }

    fn restore(id: String, _private: String, input: InputStream) -> Result<(), Error> {
        if !store::exists(&id)? {
            return Err(Error::NotFound(format!("there are no secrets {id}")));
        }
        let mut bytes = Vec::new();
        let read = input.take(DUMP_MAX).read_to_end(&mut bytes);
        read.map_err(|error| Error::Unavailable(format!("cannot read the dump: {error}")))?;
        let secrets = String::from_utf8(bytes).ok().and_then(|lines| store::parse(&lines));
        store::write(&id, &secrets.ok_or_else(|| Error::Invalid("that is no whole dump of secrets".to_owned()))?)
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
        let mut wanted = Self::of_plan(&request.plan_options)?;
        // How much is the plan's to say, how it is written is the app's.
        for Pair { name, value } in &request.options {
            match name.as_str() {
                "format" => wanted.format = Format::parse(value)?,
                _ => return Err(Error::Invalid(format!("unknown option {name:?}, there is only `format`"))),
            }
        }
        Ok(wanted)
    }

    fn of_plan(options: &[Pair]) -> Result<Self, Error> {
        let mut wanted = Self { bytes: DEFAULT_BYTES, format: default_format()? };
        for Pair { name, value } in options {
            match name.as_str() {
                "bytes" => wanted.bytes = values::parse_bytes(value)?,
                "format" => wanted.format = Format::parse(value)?,
                _ => return Err(Error::Invalid(format!("the plan has an unknown option {name:?}"))),
            }
        }
        Ok(wanted)
    }
}

fn default_format() -> Result<Format, Error> {
    settings::get("FORMAT")?.map_or(Ok(Format::Hex), |value| Format::parse(&value))
}
