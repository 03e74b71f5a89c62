//! The files under `/data`, one per resource. Nothing else touches them.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};

use crate::VARIABLES;
use crate::lodger::addon::types::Error;

const DIR: &str = "/data";
/// Ends the name of a file that is still being written. No key contains a dot.
const UNFINISHED: &str = ".new";
/// The name of the first line, which no variable has.
const BYTES: &str = "bytes";

/// What an app has.
pub struct Secrets {
    /// How much randomness is in each, however it is written.
    pub bytes: usize,
    /// By the variables that hold them, in the order of [`VARIABLES`].
    pub variables: Vec<(String, String)>,
}

impl Secrets {
    /// As they are kept, and dumped.
    pub fn to_lines(&self) -> String {
        let mut lines = format!("{BYTES}={}\n", self.bytes);
        for (name, value) in &self.variables {
            lines += &format!("{name}={value}\n");
        }
        lines
    }
}

pub fn exists(key: &str) -> Result<bool, Error> {
    fs::exists(path(key)?).map_err(|error| failed("cannot look for the secrets", error))
}

/// Stores a resource, whole or not at all.
pub fn write(key: &str, secrets: &Secrets) -> Result<(), Error> {
    let lines = secrets.to_lines();
    let path = path(key)?;
    let unfinished = format!("{path}{UNFINISHED}");
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(lines.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    };
    write().map_err(|error| {
        // An error must leave no resource behind; should this fail too, `sweep` finds it.
        fs::remove_file(&unfinished).ok();
        failed("cannot store the secrets", error)
    })
}

/// The secrets of a resource. The id that `provision` answered is its key.
pub fn read(id: &str) -> Result<Secrets, Error> {
    let lines = fs::read_to_string(path(id)?).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::NotFound(format!("there are no secrets {id}")),
        _ => failed("cannot read the secrets", error),
    })?;
    parse(&lines).ok_or_else(|| Error::Other(format!("the secrets {id} are damaged")))
}

/// What all lines say: how much there is, then all variables in their order, each with a value.
pub fn parse(lines: &str) -> Option<Secrets> {
    let (bytes, mut rest) = lines.strip_prefix(BYTES)?.strip_prefix('=')?.split_once('\n')?;
    let mut secrets = Secrets { bytes: bytes.parse().ok()?, variables: Vec::new() };
    for name in VARIABLES {
        let (value, after) = rest.strip_prefix(name)?.strip_prefix('=')?.split_once('\n')?;
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        secrets.variables.push((name.to_owned(), value.to_owned()));
        rest = after;
    }
    rest.is_empty().then_some(secrets)
}

/// Removes a resource and what an interrupted `write` left of it. Already gone is fine.
pub fn remove(key: &str) -> Result<(), Error> {
    let path = path(key)?;
    for path in [format!("{path}{UNFINISHED}"), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(failed("cannot remove the secrets", error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The keys of all resources.
pub fn keys() -> Result<Vec<String>, Error> {
    Ok(names()?.into_iter().filter(|name| !name.ends_with(UNFINISHED)).collect())
}

/// Removes what interrupted calls left.
pub fn sweep() -> Result<(), Error> {
    for name in names()?.iter().filter(|name| name.ends_with(UNFINISHED)) {
        fs::remove_file(format!("{DIR}/{name}")).map_err(|error| failed("cannot sweep the store", error))?;
    }
    Ok(())
}

fn names() -> Result<Vec<String>, Error> {
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    let names = fs::read_dir(DIR).and_then(|entries| entries.map(name).collect());
    names.map_err(|error| failed("cannot list the store", error))
}

/// The host promises the shape of a key. Looking costs nothing, and a mistake would be a path.
fn path(key: &str) -> Result<String, Error> {
    let digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    match key.len() == 32 && key.bytes().all(digit) {
        true => Ok(format!("{DIR}/{key}")),
        false => Err(Error::NotFound(format!("{key:?} is not a key of this addon"))),
    }
}

fn failed(what: &str, error: io::Error) -> Error {
    let text = format!("{what}: {error}");
    match error.kind() {
        ErrorKind::QuotaExceeded | ErrorKind::StorageFull => Error::Exhausted(text),
        _ => Error::Other(text),
    }
}
