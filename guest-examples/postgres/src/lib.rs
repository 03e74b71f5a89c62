//! One PostgreSQL server for all apps, and in it a database and a role for each.
//!
//! What the server is (image, volume, port, limits) stands in `addon.json`. Its password is not there but made here, which is
//! why `enable` starts it. Everything else is SQL, handed to `psql` in the server's own container, where the superuser
//! needs no password: it goes in by stdin, since arguments can be read by others on the machine.

mod backup;
mod passwords;
mod sql;

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package local:addon;
        world addon {
            include lodger:addon/imports@0.1.0;
            export lodger:addon/setup@0.1.0;
            export lodger:addon/provider@0.1.0;
            export lodger:addon/url@0.1.0;
            export lodger:addon/plans@0.1.0;
            export lodger:addon/usage@0.1.0;
            export lodger:addon/backup@0.1.0;
            export lodger:addon/health@0.1.0;
        }
    ",
    generate_all,
});

use exports::lodger::addon::{health, plans, provider, setup, url, usage};
use lodger::addon::types::{Error, Pair};
use lodger::addon::{progress, services};

const SERVICE: &str = "server";
const PORT: u16 = 5432;
/// No app's key is called so.
const SUPERUSER: &str = "superuser";

struct Addon;
export!(Addon);

impl setup::Guest for Addon {
    fn enable() -> Result<(), Error> {
        progress::step("starting PostgreSQL");
        start()?;
        psql(sql::CLOSE)
    }

    // Volume and passwords stay, so that what apps keep is there when the addon is enabled again.
    fn disable() -> Result<(), Error> {
        Ok(())
    }
}

impl provider::Guest for Addon {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        if let Some(option) = request.options.first() {
            return Err(Error::Invalid(format!("unknown option {:?}", option.name)));
        }
        let name = name(&request.key)?;
        start()?;
        progress::step("making the database");
        let made = passwords::kept(&request.key).and_then(|password| {
            psql(&sql::make(&name, &password))?;
            Ok(password)
        });
        let password = made.inspect_err(|_| {
            // An error must leave nothing behind, such as a role without its database. The error is the news, not this.
            let _ = forget(&request.key, &name);
        })?;
        Ok(provider::Provisioned {
            id: name,
            private: password,
            message: Some(format!("a database for {} is ready", request.app)),
            log_drain_url: None,
        })
    }

    fn unprovision(request: provider::UnprovisionRequest) -> Result<(), Error> {
        let name = name(&request.key)?;
        start()?;
        forget(&request.key, &name)
    }
}

impl url::Guest for Addon {
    fn url(id: String, private: String) -> Result<String, Error> {
        let at = services::endpoint(SERVICE, PORT)?;
        Ok(format!("postgres://{id}:{private}@{}:{}/{id}", at.host, at.port))
    }
}

impl plans::Guest for Addon {
    /// `addon.json` has none.
    fn change_plan(request: plans::ChangePlanRequest) -> Result<plans::Changed, Error> {
        Err(Error::Invalid(format!("there is no plan {:?}", request.plan)))
    }

    /// Nobody gets in, and all that was written is kept.
    fn suspend(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        let name = name(&of.key)?;
        start()?;
        psql(&sql::close(&name))?;
        Ok(plans::Changed { message: Some("the database is closed; its data is kept".to_owned()) })
    }

    fn resume(of: plans::ResourceInfo) -> Result<plans::Changed, Error> {
        let name = name(&of.key)?;
        start()?;
        psql(&sql::open(&name))?;
        Ok(plans::Changed { message: Some("the database is open again".to_owned()) })
    }
}

impl usage::Guest for Addon {
    /// `disk_used` in MiB, and open `connections`, both as of now.
    fn usage(id: String, _: String, _: usage::Period) -> Result<Vec<usage::Figure>, Error> {
        let told = psql_answer(&sql::used(&id))?;
        let figures = ["disk_used", "connections"].into_iter().zip(told.split_whitespace()).map(|(what, amount)| {
            let amount = amount.parse().map_err(|_| Error::Other(format!("psql answers {amount:?}")))?;
            Ok(usage::Figure { what: what.to_owned(), part: id.clone(), amount })
        });
        figures.collect()
    }
}

impl health::Guest for Addon {
    fn check() -> Result<health::Report, Error> {
        Ok(match psql(sql::WRITES) {
            Ok(()) => health::Report { status: health::Status::Healthy, message: None },
            Err(Error::Unavailable(why) | Error::Other(why)) => {
                health::Report { status: health::Status::Unhealthy, message: Some(why) }
            }
            Err(other) => return Err(other),
        })
    }
}

/// Makes the server run, and waits until it answers. One that does is left alone, one that was just repaired may need a
/// moment.
fn start() -> Result<(), Error> {
    let password = passwords::kept(SUPERUSER)?;
    services::start(SERVICE, &[Pair { name: "POSTGRES_PASSWORD".to_owned(), value: password }])
}

/// Drops all that a key stands for. Already gone is fine.
fn forget(key: &str, name: &str) -> Result<(), Error> {
    psql(&sql::unmake(name))?;
    passwords::forget(key)
}

/// The name of a resource's role and database. Made of the host's key alone: whatever an app is called, no SQL is made of it.
fn name(key: &str) -> Result<String, Error> {
    let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match key.get(..20) {
        Some(start) if key.bytes().all(digit) => Ok(format!("app_{start}")),
        _ => Err(Error::NotFound(format!("{key:?} is not a key of this addon"))),
    }
}

/// Runs SQL as the superuser, up to the first error.
fn psql(sql: &str) -> Result<(), Error> {
    psql_answer(sql).map(drop)
}

/// The same, with what is selected: a line each, words apart.
fn psql_answer(sql: &str) -> Result<String, Error> {
    let command = [
        "psql",
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--no-align",
        "--field-separator= ",
        "--set=ON_ERROR_STOP=1",
        // Without the line that an error is in: a password may stand there.
        "--set=VERBOSITY=terse",
        "--username=postgres",
        "--dbname=postgres",
    ];
    let ran = services::exec(SERVICE, &command.map(str::to_owned), sql.as_bytes())?;
    let stderr = String::from_utf8_lossy(&ran.stderr);
    let why = || format!("psql: {}", stderr.lines().next().unwrap_or("it said nothing"));
    match ran.exit_code {
        0 => Ok(String::from_utf8_lossy(&ran.stdout).into_owned()),
        // The connection is not there, or was lost.
        2 => Err(Error::Unavailable(why())),
        _ => Err(Error::Other(why())),
    }
}
