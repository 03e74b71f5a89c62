//! Answers and errors, for people and as JSON. Data goes to stdout, words to people go to stderr.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the one module that prints")]

use std::fmt;

use lodger::{Done, Error, HookFailed, Problem, ProviderError, RemoteError, Step};
use serde::Serialize;
use serde_json::json;

use crate::context::Context;

/// One JSON value on stdout.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// The same on one line, of a verb that goes on.
pub fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

/// A line of data.
pub fn line(text: impl fmt::Display) {
    println!("{text}");
}

/// A line to the person who asked; not with `--json`.
pub fn say(context: &Context, text: impl fmt::Display) {
    if !context.json {
        eprintln!("{text}");
    }
}

/// A line the person must see, with `--json` too.
pub fn warn(text: impl fmt::Display) {
    eprintln!("{text}");
}

/// Rows in columns, as wide as their widest cell.
pub fn table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

/// The verb's value, or the failure of the hook it needed.
pub fn completed<T>(subject: &impl fmt::Display, done: Done<T>) -> Result<T, HookFailed> {
    gone_on_without(&done);
    done.completed(subject)
}

/// What the addon could not clear up, since a hook of it has failed that the verb went on without.
pub fn gone_on_without<T>(done: &Done<T>) {
    failed_open(&done.failed_open);
}

/// The same, as it was told.
pub fn failed_open(hows: &[String]) {
    for how in hows {
        warn(format!("warning: {how}; gone on without it: what the addon has made elsewhere may still be there"));
    }
}

/// As [`completed`] for one of several addons, with what it was about.
pub fn completed_step(step: Step) -> anyhow::Result<()> {
    let why = step.why();
    match (completed(&step.addon, step.done), why) {
        (Err(failed), Some(why)) => Err(anyhow::Error::from(failed).context(why)),
        (done, _) => Ok(done?),
    }
}

/// What was asked for cannot be asked for so.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Usage {
    message: String,
    hint: String,
}

impl Usage {
    pub fn new(message: &str, hint: &str) -> Usage {
        Usage { message: message.to_owned(), hint: hint.to_owned() }
    }
}

/// What is not done, of what only this program knows.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    pub code: &'static str,
    pub message: String,
    pub hint: String,
    pub problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Body<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    problems: &'a [Problem],
}

/// Shows an error, and returns its exit code.
pub fn failure(context: &Context, error: &anyhow::Error) -> u8 {
    let (code, exit_code, hint, problems) = if let Some(error) = error.downcast_ref::<Error>() {
        (error.code(), error.exit_code(), error.hint(), error.problems())
    } else if let Some(failed) = error.downcast_ref::<HookFailed>() {
        (failed.code, failed.exit_code, failed.hint.clone(), &[][..])
    } else if let Some(error) = error.downcast_ref::<RemoteError>() {
        (error.code(), error.exit_code(), error.hint(), error.problems())
    } else if let Some(lodger_server::Error::Host(error)) = error.downcast_ref() {
        (error.code(), error.exit_code(), error.hint(), error.problems())
    } else if let Some(error) = error.downcast_ref::<lodger_server::Error>() {
        (error.code(), error.exit_code(), error.hint(), &[][..])
    } else if let Some(error) = error.downcast_ref::<ProviderError>() {
        (error.code(), error.exit_code(), error.hint(), &[][..])
    } else if let Some(usage) = error.downcast_ref::<Usage>() {
        ("usage", 2, Some(usage.hint.clone()), &[][..])
    } else if let Some(refused) = error.downcast_ref::<Refused>() {
        (refused.code, 1, Some(refused.hint.clone()), &refused.problems[..])
    } else {
        ("failed", 1, None, &[][..])
    };
    let chain = error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
    if context.json {
        println!("{:#}", json!({ "error": Body { code, message: &chain, hint: hint.as_deref(), problems } }));
        return exit_code;
    }
    eprintln!("error: {chain} ({code})");
    for problem in problems {
        eprintln!("  {}: {}", problem.path, problem.message);
        if let Some(hint) = &problem.hint {
            eprintln!("    hint: {hint}");
        }
    }
    if let Some(hint) = hint {
        eprintln!("hint: {hint}");
    }
    exit_code
}
