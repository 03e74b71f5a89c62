//! `lodger-test.toml`: what an author expects of the addon. The head of the example's file documents it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use lodger::{Id, NotAnId, Outcome};
use serde::Deserialize;

use super::super::new::EXPECTATIONS;

/// File name beside `addon.json`; no part of the package.
pub const FILE: &str = "lodger-test.toml";

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Expectations {
    /// As seen from the addon's directory.
    pub depends: Vec<PathBuf>,
    pub settings: BTreeMap<String, String>,
    #[serde(rename = "case")]
    pub cases: Vec<Case>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub app: Option<Id>,
    pub alias: Option<Id>,
    pub plan: Option<String>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    #[serde(default)]
    pub expect: Expect,
    pub change: Option<Change>,
}

/// A change of plan after it was added.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub plan: String,
    #[serde(default)]
    pub expect: Expect,
}

impl Case {
    /// One that expects nothing but that it completes.
    pub fn named(name: &str) -> Case {
        Case { name: name.to_owned(), ..Case::default() }
    }

    pub fn app(&self) -> Result<Id, NotAnId> {
        self.app.clone().map_or_else(|| "app".parse(), Ok)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    pub outcome: Ending,
    pub code: Option<String>,
    pub message: Option<Text>,
    pub variables: BTreeMap<String, Text>,
}

/// How adding, or a change of plan, should end; named as [`Outcome`] is.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    #[default]
    Completed,
    Refused,
    Trapped,
    DeadlineExceeded,
    LimitExceeded,
}

impl Ending {
    pub fn of<T>(outcome: &Outcome<T>) -> Ending {
        match outcome {
            Outcome::Completed(_) => Ending::Completed,
            Outcome::Refused(_) => Ending::Refused,
            Outcome::Trapped { .. } => Ending::Trapped,
            Outcome::DeadlineExceeded { .. } => Ending::DeadlineExceeded,
            Outcome::LimitExceeded { .. } => Ending::LimitExceeded,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Ending::Completed => "completed",
            Ending::Refused => "refused",
            Ending::Trapped => "trapped",
            Ending::DeadlineExceeded => "deadline-exceeded",
            Ending::LimitExceeded => "limit-exceeded",
        }
    }
}

/// What a text should be.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text is expected, or a table with starts_with, ends_with, contains or length")]
pub enum Text {
    Exactly(String),
    Like(Like),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Like {
    starts_with: Option<String>,
    ends_with: Option<String>,
    contains: Option<String>,
    /// In characters.
    length: Option<usize>,
}

impl Text {
    pub fn matches(&self, actual: &str) -> bool {
        match self {
            Text::Exactly(text) => text == actual,
            Text::Like(like) => {
                let holds = |part: &Option<String>, test: fn(&str, &str) -> bool| {
                    part.as_ref().is_none_or(|part| test(actual, part))
                };
                holds(&like.starts_with, |actual, part| actual.starts_with(part))
                    && holds(&like.ends_with, |actual, part| actual.ends_with(part))
                    && holds(&like.contains, |actual, part| actual.contains(part))
                    && like.length.is_none_or(|length| actual.chars().count() == length)
            }
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let like = match self {
            Text::Exactly(text) => return f.write_str(&super::step::quoted(text)),
            Text::Like(like) => like,
        };
        let parts = [("starts with", &like.starts_with), ("ends with", &like.ends_with), ("contains", &like.contains)];
        let parts = parts
            .into_iter()
            .filter_map(|(what, part)| Some(format!("{what} {}", super::step::quoted(part.as_ref()?))));
        let length = like.length.map(|length| format!("has {length} characters"));
        write!(f, "what {}", parts.chain(length).collect::<Vec<_>>().join(" and "))
    }
}

impl Expectations {
    /// Those of the addon in a directory; none where there is no such file, as beside an archive.
    pub fn beside(package: &Path) -> anyhow::Result<Expectations> {
        let path = package.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if !package.is_dir() || error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Expectations::default());
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read `{}`", path.display())),
        };
        Expectations::parse(&text).with_context(|| format!("`{}` is no file of expectations", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Expectations> {
        let parsed = toml::from_str(text);
        let expectations: Expectations = parsed.map_err(|error| anyhow!("{}", error.to_string().trim_end()))?;
        for case in &expectations.cases {
            let (expect, name) = (&case.expect, &case.name);
            let change = case.change.as_ref().map(|change| &change.expect);
            for expect in change.into_iter().chain([expect]) {
                if expect.code.is_some() && expect.outcome != Ending::Refused {
                    bail!("case `{name}`: only what is refused has a `code`; expect `outcome = \"refused\"`");
                }
            }
            if change.is_some() && expect.outcome != Ending::Completed {
                bail!("case `{name}`: only what was added has a plan to `change`");
            }
            if !expect.variables.is_empty() && expect.outcome != Ending::Completed {
                bail!("case `{name}`: an app receives `variables` only when it is completed");
            }
        }
        Ok(expectations)
    }
}

/// The documentation at the head of the example's file.
pub fn help() -> String {
    let head = EXPECTATIONS.lines().map_while(|line| line.strip_prefix('#'));
    let lines: Vec<&str> = head.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    format!("{FILE}:\n{}", lines.join("\n"))
}
