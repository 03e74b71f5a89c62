//! A Redis of its own for every app: a container the host starts for the resource, with a password made here.
//!
//! What the container is (image, volume, port, limits) stands in `addon.json`. This component only asks for it to be started,
//! hands over the password, and says where it is reached.

mod backup;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package local:addon;
        world addon {
            include lodger:addon/imports@0.1.0;
            export lodger:addon/provider@0.1.0;
            export lodger:addon/url@0.1.0;
            export lodger:addon/plans@0.1.0;
            export lodger:addon/backup@0.1.0;
        }
    ",
    generate_all,
});

use exports::lodger::addon::{plans, provider, url};
use lodger::addon::types::{Error, Pair};
use lodger::addon::{progress, services};

const SERVICE: &str = "redis";
const PORT: u16 = 6379;

struct Addon;
export!(Addon);

impl provider::Guest for Addon {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        if let Some(option) = request.options.first() {
            return Err(Error::Invalid(format!("unknown option {:?}", option.name)));
        }
        // Kept before it is used: the same call may come twice, and must then find the same password.
        let password = password(&request.key)?;
        progress::step("starting Redis");
        start(&password, "").inspect_err(|_| {
            // An error promises that nothing is left.
            fs::remove_file(file(&request.key)).ok();
        })?;
        Ok(provider::Provisioned {
            id: format!("redis-{}", request.key.get(..12).unwrap_or_default()),
            private: password,
            message: Some(format!("a Redis for {} is ready", request.app)),
            log_drain_url: None,
        })
    }

    // The container and its volume go with the resource: the host sees to that after this call.
    fn unprovision(request: provider::UnprovisionRequest) -> Result<(), Error> {
        match fs::remove_file(file(&request.key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }
}

impl url::Guest for Addon {
    fn url(_id: String, private: String) -> Result<String, Error> {
        let at = services::endpoint(SERVICE, PORT)?;
        Ok(format!("redis://default:{private}@{}:{}/0", at.host, at.port))
    }
}

impl plans::Guest for Addon {
    /// `addon.json` has none.
    fn change_plan(request: plans::ChangePlanRequest) -> Result<plans::Changed, Error> {
        Err(Error::Invalid(format!("there is no plan {:?}", request.plan)))
    }

    /// Nothing runs, and all that was written is kept.
    fn suspend(_: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        services::stop(SERVICE)?;
        Ok(plans::Changed { message: Some("Redis is stopped; its data is kept".to_owned()) })
    }

    fn resume(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        start(&of.private, "")?;
        Ok(plans::Changed { message: Some("Redis runs again".to_owned()) })
    }
}

/// Has the container run with a password, and a word on which data is meant. Waits until it answers; when it does not, the host
/// takes it away again.
fn start(password: &str, data: &str) -> Result<(), Error> {
    let pair = |name: &str, value: &str| Pair { name: name.to_owned(), value: value.to_owned() };
    services::start(SERVICE, &[pair("REDIS_PASSWORD", password), pair("REDIS_DATA", data)])
}

/// The password of a resource, made the first time it is asked for.
fn password(key: &str) -> Result<String, Error> {
    match fs::read_to_string(file(key)) {
        Ok(password) if password.len() == 48 => return Ok(password),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        // Not there, or cut off while it was written: nobody has it yet.
        _ => {}
    }
    let password = random(24)?;
    let write = || {
        let mut file = File::create(file(key))?;
        file.write_all(password.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed)?;
    Ok(password)
}

/// So many random bytes, in hex.
fn random(length: usize) -> Result<String, Error> {
    let mut bytes = vec![0; length];
    getrandom::fill(&mut bytes).map_err(|error| Error::Other(error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn file(key: &str) -> String {
    format!("/data/{key}")
}

fn failed(error: io::Error) -> Error {
    Error::Other(error.to_string())
}
