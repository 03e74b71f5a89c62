//! What is dumped is the app's database, in the custom format of `pg_dump`. All of it passes by: the host joins the command in the
//! container with the stream.
//!
//! Both commands run as the app's role, which needs no password within the container: what is in a dump is code, of the app's
//! or of whoever wrote the file, and must not do more than the app may.

use crate::exports::lodger::addon::backup::Guest;
use crate::lodger::addon::progress;
use crate::lodger::addon::services::{self, Executed};
use crate::lodger::addon::types::Error;
use crate::wasi::io::streams::{InputStream, OutputStream};
use crate::{Addon, SERVICE, psql, sql, start};

impl Guest for Addon {
    fn dump(id: String, _private: String, output: OutputStream) -> Result<(), Error> {
        let command = ["pg_dump", "--format=custom"];
        let ran = services::pipe(SERVICE, &of(&command, &id, &id), None, Some(&output))?;
        match ran.exit_code {
            0 => Ok(()),
            _ => Err(Error::Unavailable(why("pg_dump", &ran))),
        }
    }

    // Into a database of its own, which then takes the place of the app's: what is no dump replaces nothing, and nothing is
    // left of what is not in it.
    fn restore(id: String, _private: String, input: InputStream) -> Result<(), Error> {
        start()?;
        psql(&sql::stage(&id))?;
        progress::step("restoring the database");
        let restored = fill(&id, &input).and_then(|()| {
            progress::step("putting it in place");
            psql(&sql::swap(&id))
        });
        restored.inspect_err(|_| {
            // The error is the news, not this: what is left goes with the next restore, or with the app.
            let _ = psql(&sql::unstage(&id));
        })
    }
}

/// In one transaction: whole or not at all.
fn fill(id: &str, input: &InputStream) -> Result<(), Error> {
    let command = ["pg_restore", "--single-transaction", "--exit-on-error"];
    let ran = services::pipe(SERVICE, &of(&command, id, &format!("{id}_new")), Some(input), None)?;
    match ran.exit_code {
        0 => Ok(()),
        _ => Err(Error::Invalid(why("pg_restore", &ran))),
    }
}

/// Whose things they were does not belong to it: another app has another role.
fn of(command: &[&str], role: &str, database: &str) -> Vec<String> {
    let rest = [format!("--username={role}"), format!("--dbname={database}")];
    let all = ["--no-password", "--no-owner", "--no-privileges"];
    command.iter().chain(&all).map(|&word| word.to_owned()).chain(rest).collect()
}

fn why(command: &str, ran: &Executed) -> String {
    let stderr = String::from_utf8_lossy(&ran.stderr);
    let line = stderr.lines().next().unwrap_or("it said nothing");
    format!("{command}: {}", line.strip_prefix(command).map_or(line, |rest| rest.trim_start_matches(": ")))
}
