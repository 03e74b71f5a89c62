//! Keeps a log of what happens to apps and addons in its data directory, one line of JSON each, and lets no addon be added to
//! the apps that its setting `DENY_APPS` names: `lodger set audit DENY_APPS=shop,wiki`.
//!
//! The log is `/data/audit.log`; when it is full it becomes `audit.log.1`, and that which was there before goes.

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package local:addon;
        world addon {
            include lodger:addon/imports@0.1.0;
            export lodger:addon/events@0.1.0;
        }
    ",
    generate_all,
});

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};

use exports::lodger::addon::events::{Event, Guest, Verdict};
use lodger::addon::{settings, types::Error};

const LOG: &str = "/data/audit.log";
const FULL: &str = "/data/audit.log.1";
/// Both together, and a line, stay below `capabilities.data.max_bytes` of addon.json.
const LOG_MAX: u64 = 900_000;

struct Addon;
export!(Addon);

impl Guest for Addon {
    fn before(event: Event) -> Result<Verdict, Error> {
        let denied = settings::get("DENY_APPS")?.unwrap_or_default();
        let mut denied = denied.split(',').map(str::trim).filter(|app| !app.is_empty());
        match event.app {
            Some(app) if event.kind == "app.adding" && denied.any(|denied| denied == app) => {
                Ok(Verdict::Veto(format!("app {app} is among the audit's DENY_APPS")))
            }
            _ => Ok(Verdict::Allow),
        }
    }

    fn after(event: Event) -> Result<(), Error> {
        append(&line(&event)).map_err(|error| Error::Exhausted(format!("cannot write the log: {error}")))
    }
}

/// Told again, it writes nothing: an event comes again only before any that follow it, so it would be the last line.
fn append(line: &str) -> io::Result<()> {
    let log = match fs::read_to_string(LOG) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        log => log?,
    };
    if log.ends_with(line) {
        return Ok(());
    }
    // A line that was cut off with its call is written anew.
    let whole = log.rfind('\n').map_or(0, |end| end + 1) as u64;
    if whole > LOG_MAX {
        fs::rename(LOG, FULL)?;
        return fs::write(LOG, line);
    }
    let mut file = File::options().append(true).create(true).open(LOG)?;
    if whole < log.len() as u64 {
        file.set_len(whole)?;
    }
    file.write_all(line.as_bytes())
}

fn line(event: &Event) -> String {
    let mut line = format!("{{\"sequence\":{},\"at_ms\":{}", event.sequence, event.at_ms);
    let words = [
        ("id", Some(&event.id)),
        ("kind", Some(&event.kind)),
        ("actor", Some(&event.actor)),
        ("addon", event.addon.as_ref()),
        ("app", event.app.as_ref()),
        ("alias", event.alias.as_ref()),
        ("key", event.key.as_ref()),
        ("service", event.service.as_ref()),
    ];
    for (name, value) in words {
        if let Some(value) = value {
            let _ = write!(line, ",\"{name}\":{}", json(value));
        }
    }
    let details: Vec<String> =
        event.details.iter().map(|pair| format!("{}:{}", json(&pair.name), json(&pair.value))).collect();
    let _ = write!(line, ",\"details\":{{{}}}", details.join(","));
    line + "}\n"
}

/// A string of JSON.
fn json(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}
