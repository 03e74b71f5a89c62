//! One step of a test: what was asked, how it ended, what it used of its budget, what the guest said.

use std::time::Duration;

use lodger::{Deadlines, Done, Limit, Outcome, Report, human_bytes};
use serde::Serialize;

use crate::output;

/// Longest value shown of a text that is not as expected, in bytes.
const SHOWN_MAX: usize = 400;

#[derive(Serialize)]
pub struct Step {
    /// The case it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    pub step: &'static str,
    pub ok: bool,
    /// How a call ended; without one `done` or `nothing to do`.
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mismatches: Vec<Mismatch>,
    #[serde(flatten)]
    pub call: Option<Used>,
    pub log: Vec<String>,
}

/// A call of the guest, and its budget.
#[derive(Serialize)]
pub struct Used {
    hook: &'static str,
    deadline_ms: u64,
    #[serde(flatten)]
    report: Report,
}

#[derive(Serialize)]
pub struct Mismatch {
    pub what: String,
    pub expected: String,
    pub actual: String,
}

impl Step {
    /// What came of a verb; good when it completed.
    pub fn of<T>(step: &'static str, done: &Done<T>, deadlines: &Deadlines) -> Step {
        let outcome = match (&done.call, &done.outcome) {
            (None, Outcome::Completed(_)) if done.changed => "done",
            (None, Outcome::Completed(_)) => "nothing to do",
            (_, outcome) => outcome.name(),
        };
        let used = done.call.as_ref().map(|call| Used {
            hook: call.hook,
            deadline_ms: u64::try_from(deadlines.of(call.hook).as_millis()).unwrap_or(u64::MAX),
            report: call.report.clone(),
        });
        Step {
            case: None,
            step,
            ok: done.outcome.is_completed(),
            outcome,
            detail: done.outcome.detail(),
            mismatches: Vec::new(),
            call: used,
            log: done.call.as_ref().map(|call| call.log.clone()).unwrap_or_default(),
        }
    }

    /// A comparison of the host's own.
    pub fn compared(step: &'static str, mismatches: Vec<Mismatch>) -> Step {
        let ok = mismatches.is_empty();
        let outcome = if ok { "as expected" } else { "not as expected" };
        Step { case: None, step, ok, outcome, detail: None, mismatches, call: None, log: Vec::new() }
    }

    pub fn differs(&mut self, what: &str, expected: impl Into<String>, actual: impl Into<String>) {
        self.ok = false;
        self.mismatches.push(Mismatch { what: what.to_owned(), expected: expected.into(), actual: actual.into() });
    }

    /// Two texts that should be the same.
    pub fn same(&mut self, what: &str, first: Option<&str>, second: Option<&str>) {
        if first != second {
            let shown = |text: Option<&str>| text.map_or("nothing".to_owned(), quoted);
            self.differs(what, shown(first), shown(second));
        }
    }

    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            _ if self.ok => 0,
            "trapped" | "deadline-exceeded" | "limit-exceeded" => 3,
            _ => 1,
        }
    }

    pub fn show(&self) {
        let mark = if self.ok { ' ' } else { '!' };
        let used = self.call.as_ref().map(Used::in_words).unwrap_or_default();
        output::line(format!("{mark} {:<16} {:<16} {used}", self.step, self.outcome).trim_end());
        if let Some(detail) = &self.detail {
            output::line(format!("      {detail}"));
        }
        for mismatch in &self.mismatches {
            output::line(format!("      {}", mismatch.what));
            output::line(format!("        expected  {}", mismatch.expected));
            output::line(format!("        actual    {}", mismatch.actual));
        }
        for line in &self.log {
            output::line(format!("      | {line}"));
        }
    }
}

impl Used {
    fn in_words(&self) -> String {
        let of =
            |used: u64, limit: Limit| format!("{} of {}", human_bytes(used), human_bytes(self.report.limits[limit]));
        let wall = duration(Duration::from_micros(self.report.wall_us));
        let deadline = duration(Duration::from_millis(self.deadline_ms));
        let logged = match self.report.log_bytes {
            0 => String::new(),
            bytes => format!("log {}", of(bytes, Limit::LogBytes)),
        };
        let memory = of(self.report.memory_bytes, Limit::MemoryBytes);
        let data = of(self.report.data_bytes, Limit::DataBytes);
        format!("{:<16} memory {memory:<19} data {data:<19} {logged}", format!("{wall} of {deadline}"))
    }
}

fn duration(time: Duration) -> String {
    let (micros, number) = (time.as_micros(), |value: f64, unit: &str| {
        let text = format!("{value:.1}");
        format!("{} {unit}", text.strip_suffix(".0").unwrap_or(&text))
    });
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => number(time.as_secs_f64() * 1_000.0, "ms"),
        _ => number(time.as_secs_f64(), "s"),
    }
}

/// A text as it is shown beside another.
pub fn quoted(text: &str) -> String {
    format!("`{}`", lodger::text::shown(text, SHOWN_MAX))
}
