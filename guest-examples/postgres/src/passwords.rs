//! Passwords, one file under `/data` each. They are kept before they are used: the same call may come twice, and must then
//! find the same password.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};

use crate::lodger::addon::types::Error;

/// The password of this name, made the first time it is asked for.
pub fn kept(name: &str) -> Result<String, Error> {
    match fs::read_to_string(path(name)) {
        Ok(password) if password.len() == 48 => return Ok(password),
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        // Not there, or cut off while it was written: nobody has it yet.
        _ => {}
    }
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| Error::Other(error.to_string()))?;
    let password: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let write = || {
        let mut file = File::create(path(name))?;
        file.write_all(password.as_bytes())?;
        file.sync_all()
    };
    write().map_err(failed)?;
    Ok(password)
}

/// Already gone is fine.
pub fn forget(name: &str) -> Result<(), Error> {
    match fs::remove_file(path(name)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

fn path(name: &str) -> String {
    format!("/data/{name}")
}

fn failed(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::QuotaExceeded | ErrorKind::StorageFull => Error::Exhausted(error.to_string()),
        _ => Error::Other(error.to_string()),
    }
}
