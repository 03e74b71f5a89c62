//! The model: what must come of each verb, on paper. It knows nothing of files, locks, calls or engines.

use std::collections::{BTreeMap, BTreeSet};

use super::verbs::{Answer, By, Note, Plan, Verb};

/// The addons, by their number in verbs. The first two have the same variables, so that an app can have only one of them under
/// a name.
pub const ADDONS: [&str; 3] = ["left/probe", "right/probe", "lodger/app-secrets"];
/// The one that is not of our probe: it has no `url` and knows no options of ours.
pub const SECRETS: usize = 2;
pub const APPS: [&str; 2] = ["shop", "wiki"];
pub const ALIAS: &str = "other";

/// All that lasts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Paper {
    pub addons: [Option<Addon>; 3],
    made: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Addon {
    /// 1.1.0 instead of 1.0.0.
    pub later: bool,
    pub enabled: bool,
    setting: Option<&'static str>,
    /// What its data is of: the version that wrote it last.
    format: u8,
    pub has: BTreeMap<Place, Has>,
    earlier: Option<Earlier>,
}

/// An app, and whether under the alias.
pub type Place = (usize, bool);

#[derive(Clone, Debug, PartialEq)]
pub struct Has {
    /// Which of all resources ever made it is.
    serial: u32,
    pub plan: Plan,
    note: Note,
    pub detached: bool,
    /// Its own, once it was seen.
    pub id: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Earlier {
    format: u8,
    has: BTreeSet<u32>,
}

fn error(code: &str) -> Answer {
    Answer::Failed(code.to_owned())
}

impl Paper {
    /// The same, without what can make no difference any more: in which order resources were made, and which have gone.
    pub fn in_short(mut self) -> Paper {
        let mut serials = BTreeMap::new();
        self.made = 0;
        for addon in self.addons.iter_mut().flatten() {
            for has in addon.has.values_mut() {
                self.made = u32::try_from(serials.len()).unwrap();
                serials.insert(std::mem::replace(&mut has.serial, self.made), self.made);
            }
            if let Some(earlier) = &mut addon.earlier {
                earlier.has = earlier.has.iter().filter_map(|serial| serials.get(serial).copied()).collect();
            }
        }
        self
    }

    /// Carries a verb out, and says what it answers.
    pub fn does(&mut self, verb: &Verb, by: By) -> Answer {
        match verb {
            Verb::Install(addon) => self.install(*addon),
            Verb::Uninstall(addon) => self.uninstall(*addon),
            Verb::Env(app) => self.env(*app),
            Verb::Url { addon, app, alias } => self.url(*addon, (*app, *alias), by),
            _ => {
                let others = self.clone();
                let serial = self.made + 1;
                let Some(addon) = &mut self.addons[verb.addon()] else { return error("unknown-addon") };
                let answer = match verb {
                    Verb::Enable(_) => addon.enable(),
                    Verb::Disable { force, .. } => addon.disable(*force),
                    Verb::Set { value, .. } => addon.set(*value),
                    Verb::Add { app, alias, plan, note, addon: number } => {
                        addon.add(&others, *number, (*app, *alias), *plan, *note, serial)
                    }
                    Verb::Remove { app, alias, keep, .. } => addon.remove((*app, *alias), *keep),
                    Verb::Upgrade { bad, .. } => addon.upgrade(*bad),
                    Verb::Rollback { force, .. } => addon.rollback(*force),
                    Verb::Install(_) | Verb::Uninstall(_) | Verb::Env(_) | Verb::Url { .. } => unreachable!(),
                };
                self.made = serial;
                answer
            }
        }
    }

    fn install(&mut self, addon: usize) -> Answer {
        match &self.addons[addon] {
            Some(there) if there.later => error("other-version"),
            Some(_) => Answer::Already,
            None => {
                self.addons[addon] = Some(Addon::default());
                Answer::Done
            }
        }
    }

    fn uninstall(&mut self, addon: usize) -> Answer {
        match &self.addons[addon] {
            None => error("unknown-addon"),
            Some(there) if there.has.values().any(|has| !has.detached) => error("in-use"),
            Some(there) if !there.has.is_empty() => error("data-kept"),
            Some(there) if there.enabled => error("not-permitted"),
            Some(_) => {
                self.addons[addon] = None;
                Answer::Done
            }
        }
    }

    /// What an app has, of which addon.
    fn of_app(&self, app: usize) -> impl Iterator<Item = (usize, bool, &Addon, &Has)> {
        let numbered = self.addons.iter().enumerate();
        let there = numbered.filter_map(|(number, addon)| Some((number, addon.as_ref()?)));
        there.flat_map(move |(number, addon)| {
            let of_app = addon.has.iter().filter(move |(place, _)| place.0 == app);
            of_app.map(move |(place, has)| (number, place.1, addon, has))
        })
    }

    fn env(&self, app: usize) -> Answer {
        if self.of_app(app).next().is_none() {
            return error("unknown-app");
        }
        let mut variables = BTreeMap::new();
        for (number, alias, addon, has) in self.of_app(app).filter(|(.., has)| !has.detached) {
            let prefix = match (alias, number) {
                (true, _) => "OTHER",
                (false, SECRETS) => "APP_SECRETS",
                (false, _) => "PROBE",
            };
            if number == SECRETS {
                variables.extend(["KEY", "SALT"].map(|name| (format!("{prefix}_{name}"), Answer::SECRET.to_owned())));
            } else {
                variables.insert(format!("{prefix}_URL"), addon.url_of(has));
                variables.insert(format!("{prefix}_PLAN"), has.value());
            }
        }
        Answer::Variables(variables)
    }

    fn url(&self, number: usize, (app, alias): Place, by: By) -> Answer {
        // The command line resolves the addon's name first.
        let Some(addon) = &self.addons[number] else {
            return error(if by == By::Cli { "unknown-addon" } else { "unknown-resource" });
        };
        // Without an alias it is the only one that is meant, where there is only one.
        let found = addon.has.get(&(app, alias)).or_else(|| addon.has.get(&(app, true)).filter(|_| !alias));
        match found {
            None => error("unknown-resource"),
            Some(has) if has.detached => error("resource-state"),
            Some(_) if number == SECRETS => error("hook-missing"),
            Some(has) => Answer::Url(addon.url_of(has)),
        }
    }
}

impl Addon {
    fn enable(&mut self) -> Answer {
        if std::mem::replace(&mut self.enabled, true) {
            return Answer::Already;
        }
        self.format = self.format.max(1);
        Answer::Done
    }

    fn disable(&mut self, force: bool) -> Answer {
        if !self.enabled {
            return Answer::Already;
        }
        if !force && self.has.values().any(|has| !has.detached) {
            return error("in-use");
        }
        self.has.retain(|_, has| has.detached);
        self.enabled = false;
        Answer::Done
    }

    fn set(&mut self, value: Option<&'static str>) -> Answer {
        if self.setting == value {
            return Answer::Already;
        }
        self.setting = value;
        Answer::Done
    }

    fn add(&mut self, home: &Paper, number: usize, place: Place, plan: Plan, note: Note, serial: u32) -> Answer {
        if !self.enabled {
            return error("not-permitted");
        }
        if plan == Plan::Unknown {
            return error("unknown-plan");
        }
        if let Some(has) = self.has.get_mut(&place) {
            // Without a plan it is the one it has.
            if !matches!(plan, Plan::Default) && has.plan != plan || has.note != note {
                return error("already-added");
            }
            return if std::mem::take(&mut has.detached) { Answer::Done } else { Answer::Already };
        }
        let same_variables = |other: usize| other != SECRETS && number != SECRETS;
        if home.of_app(place.0).any(|(other, alias, ..)| alias == place.1 && same_variables(other)) {
            return error("variable-taken");
        }
        match note {
            Note::Refuse => return error("refused"),
            Note::None => {}
            _ if number == SECRETS => return error("refused"),
            Note::Panic => return error("trapped"),
            Note::Text => {}
        }
        self.has.insert(place, Has { serial, plan, note, detached: false, id: None });
        Answer::Done
    }

    fn remove(&mut self, place: Place, keep: bool) -> Answer {
        match self.has.get_mut(&place) {
            None => Answer::Already,
            Some(has) if keep => {
                if std::mem::replace(&mut has.detached, true) {
                    Answer::Already
                } else {
                    Answer::Done
                }
            }
            Some(_) if !self.enabled => error("not-permitted"),
            Some(_) => {
                self.has.remove(&place);
                Answer::Done
            }
        }
    }

    fn upgrade(&mut self, bad: bool) -> Answer {
        if bad {
            return error("refused");
        }
        if self.later {
            return Answer::Already;
        }
        self.earlier = Some(Earlier { format: self.format, has: self.has.values().map(|has| has.serial).collect() });
        (self.later, self.format) = (true, 2);
        Answer::Done
    }

    fn rollback(&mut self, force: bool) -> Answer {
        let Some(earlier) = &self.earlier else { return error("no-earlier-version") };
        if self.has.values().any(|has| !earlier.has.contains(&has.serial)) {
            if !force {
                return error("added-since");
            }
            if !self.enabled {
                return error("not-permitted");
            }
        }
        self.has.retain(|_, has| earlier.has.contains(&has.serial));
        // What is enabled stays so, though the data may be from before it was.
        self.format = if self.enabled { earlier.format.max(1) } else { earlier.format };
        self.later = false;
        self.earlier = None;
        Answer::Done
    }

    fn url_of(&self, has: &Has) -> String {
        format!("probe://{}/{}", has.value(), self.format)
    }
}

impl Has {
    fn value(&self) -> String {
        format!("{}/{}", self.plan.name(), if self.note == Note::Text { "text" } else { "none" })
    }
}
