//! Any number of processes and threads on one home: short lives of a home by chance, held against a model of it.
//!
//! What is asked by one at a time must come to exactly what the model says. What several ask at once must come to what *some*
//! order of it comes to: each verb's answer, and what there is in the end. The guests see to it themselves that no two of
//! their mutating hooks overlap and that none is cut in half (`probes/examples/one_at_a_time.rs`). Who asks may go away at
//! any point at which it has to wait: the verb has happened then, or it has not.
//!
//! A dozen lives in every run, hundreds where `LODGER_TEST_FULL` is set.

mod gone;
mod paper;
mod verbs;

use std::collections::BTreeSet;
use std::sync::Barrier;

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::Value;

use self::paper::{ADDONS, ALIAS, APPS, Paper, SECRETS};
use self::verbs::{Actors, Answer, By, Note, Plan, Step, Verb};
use crate::support::addon;

/// What is asked at once.
type Together = Vec<Step>;

#[test]
fn a_home_comes_to_what_the_model_says_whoever_asks_and_in_whatever_order() {
    let full = std::env::var_os("LODGER_TEST_FULL").is_some();
    let config = Config {
        cases: if full { 400 } else { 12 },
        max_shrink_iters: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let lives = proptest::collection::vec(together(), 4..12);
    if let Err(error) = TestRunner::new(config).run(&lives, live) {
        panic!("{error}");
    }
}

#[test]
fn of_two_addons_that_bring_an_app_the_same_variable_at_once_it_gets_one() {
    let step = |by, verb| Step { by, verb, leaves_after: None };
    let add = |by, addon| step(by, Verb::Add { addon, app: 0, alias: false, plan: Plan::Default, note: Note::None });
    let remove = |addon| step(By::Other, Verb::Remove { addon, app: 0, alias: false, keep: false });
    let life = (0..10).flat_map(|_| [vec![add(By::Embedder, 0), add(By::Other, 1)], vec![remove(0)], vec![remove(1)]]);
    live(life.collect()).unwrap();
}

#[test]
fn what_was_enabled_since_a_version_was_left_is_enabled_when_it_is_back() {
    let step = |verb| vec![Step { by: By::Other, verb, leaves_after: None }];
    let add = Verb::Add { addon: 0, app: 0, alias: false, plan: Plan::Default, note: Note::None };
    live(
        [
            Verb::Disable { addon: 0, force: false },
            Verb::Upgrade { addon: 0, bad: false },
            Verb::Enable(0),
            Verb::Rollback { addon: 0, force: false },
            add,
            Verb::Env(0),
        ]
        .map(step)
        .into(),
    )
    .unwrap();
}

fn verb() -> impl Strategy<Value = Verb> {
    let addon = || 0..ADDONS.len();
    let (app, alias, yes) = (|| 0..APPS.len(), || prop_oneof![3 => Just(false), 1 => Just(true)], any::<bool>);
    let plan = prop_oneof![6 => Just(Plan::Default), 2 => Just(Plan::Second), 1 => Just(Plan::Unknown)];
    let note =
        prop_oneof![4 => Just(Note::None), 2 => Just(Note::Text), 1 => Just(Note::Refuse), 1 => Just(Note::Panic)];
    let value = prop_oneof![Just(None), Just(Some("hex")), Just(Some("base64url"))];
    prop_oneof![
        2 => addon().prop_map(Verb::Install),
        2 => addon().prop_map(Verb::Uninstall),
        4 => addon().prop_map(Verb::Enable),
        3 => (addon(), yes()).prop_map(|(addon, force)| Verb::Disable { addon, force }),
        9 => (addon(), app(), alias(), plan, note)
            .prop_map(|(addon, app, alias, plan, note)| Verb::Add { addon, app, alias, plan, note }),
        6 => (addon(), app(), alias(), yes())
            .prop_map(|(addon, app, alias, keep)| Verb::Remove { addon, app, alias, keep }),
        2 => (addon(), value).prop_map(|(addon, value)| Verb::Set { addon, value }),
        4 => (addon(), yes()).prop_map(|(addon, bad)| Verb::Upgrade { addon, bad: bad && addon != SECRETS }),
        4 => (addon(), yes()).prop_map(|(addon, force)| Verb::Rollback { addon, force }),
        2 => app().prop_map(Verb::Env),
        2 => (addon(), app(), alias()).prop_map(|(addon, app, alias)| Verb::Url { addon, app, alias }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let by = prop_oneof![3 => Just(By::Embedder), 3 => Just(By::Other), 1 => Just(By::Cli)];
    let leaves_after = prop_oneof![3 => Just(None), 1 => (0..8u32).prop_map(Some)];
    (by, verb(), leaves_after).prop_map(|(by, verb, leaves_after)| {
        let leaves_after = leaves_after.filter(|_| by != By::Cli && verb.is_one_hook());
        Step { by, verb, leaves_after }
    })
}

fn together() -> impl Strategy<Value = Together> {
    prop_oneof![2 => proptest::collection::vec(step(), 1), 1 => proptest::collection::vec(step(), 2..4)]
}

/// One life of a home, which begins with all addons enabled.
fn live(life: Vec<Together>) -> Result<(), TestCaseError> {
    let actors = Actors::new();
    let first = (0..ADDONS.len()).flat_map(|addon| [Verb::Install(addon), Verb::Enable(addon)]);
    let first = first.map(|verb| vec![Step { by: By::Embedder, verb, leaves_after: None }]);
    // What was asked at once can have come about in several ways, of which later only one may still explain what is seen.
    let mut papers = vec![Paper::default()];
    for steps in first.chain(life) {
        let answers = at_once(&actors, &steps);
        let (addons, apps) = actors.look();
        let mut after: Vec<Paper> = Vec::new();
        for paper in papers.iter().flat_map(|paper| explain(paper, &steps, &answers, (&addons, &apps))) {
            if !after.contains(&paper) {
                after.push(paper);
            }
        }
        if after.is_empty() {
            return Err(TestCaseError::fail(format!(
                "no order explains this.\nbefore, one of: {papers:#?}\nasked: {steps:#?}\nanswered: {answers:#?}\nthere is now: \
                 {addons:#}\n{apps:#}\n"
            )));
        }
        papers = after;
        for name in &ADDONS[..SECRETS] {
            let mark = actors.lab.data(&addon(name)).join("at-work");
            if mark.exists() {
                return Err(TestCaseError::fail(format!("a hook was cut in half: {steps:#?}")));
            }
        }
    }
    Ok(())
}

/// Each step in a thread of its own, from the same moment on.
fn at_once(actors: &Actors, steps: &[Step]) -> Vec<Answer> {
    let barrier = Barrier::new(steps.len());
    std::thread::scope(|scope| {
        let running: Vec<_> = steps
            .iter()
            .map(|step| {
                scope.spawn(|| {
                    barrier.wait();
                    actors.does(step)
                })
            })
            .collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// What there is on paper after each order of the steps in which all of them answer so, and that comes to what is seen.
fn explain(before: &Paper, steps: &[Step], answers: &[Answer], seen: (&Value, &Value)) -> Vec<Paper> {
    let alone = steps.len() == 1;
    // What reads takes no lock, and may see what is under way: it must see nothing torn.
    let (reading, changing): (Vec<usize>, Vec<usize>) =
        (0..steps.len()).partition(|step| steps[*step].verb.only_reads() && !alone);
    if !reading.into_iter().all(|step| is_whole(&answers[step])) {
        return Vec::new();
    }
    let mut papers = Vec::new();
    for order in orders(changing) {
        // One that was left has happened, or has not.
        papers.extend((0..1_u32 << order.len()).filter_map(|happened| {
            let mut paper = before.clone();
            for (bit, step) in order.iter().enumerate() {
                let (step, answer) = (&steps[*step], &answers[*step]);
                let happens = happened & (1 << bit) != 0;
                match answer {
                    Answer::Left if !happens => continue,
                    Answer::Left => drop(paper.does(&step.verb, step.by)),
                    // Only where there is somebody to wait for.
                    Answer::Failed(code) if code == "busy" && !alone => continue,
                    // What is being added has its variables until that has failed.
                    Answer::Failed(code) if code == "variable-taken" && has_a_failing_add(steps) => continue,
                    answer if happens && paper.does(&step.verb, step.by) == *answer => {}
                    _ => return None,
                }
            }
            is_seen(&mut paper, seen).then(|| paper.in_short())
        }));
    }
    papers
}

fn has_a_failing_add(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step.verb, Verb::Add { note: Note::Refuse | Note::Panic, .. }))
}

fn orders(steps: Vec<usize>) -> Vec<Vec<usize>> {
    if steps.is_empty() {
        return vec![Vec::new()];
    }
    let begin_with = |first: usize| {
        let rest = steps.iter().copied().filter(|step| *step != first).collect();
        orders(rest).into_iter().map(move |rest| [vec![first], rest].concat())
    };
    steps.iter().copied().flat_map(begin_with).collect()
}

fn is_whole(answer: &Answer) -> bool {
    let whole = |value: &str| value.split('/').all(|part| !part.is_empty());
    match answer {
        Answer::Url(url) => url.strip_prefix("probe://").is_some_and(whole),
        Answer::Variables(all) => all.values().all(|value| whole(value.strip_prefix("probe://").unwrap_or(value))),
        Answer::Failed(code) => [
            "unknown-app",
            "unknown-addon",
            "unknown-resource",
            "resource-state",
            "not-permitted",
            "hook-missing",
            "env-incomplete",
            // Its resource went while it was asked.
            "refused",
        ]
        .contains(&code.as_str()),
        _ => false,
    }
}

/// Whether what is seen is what there is on paper; ids are noted when they are first seen.
fn is_seen(paper: &mut Paper, (addons, apps): (&Value, &Value)) -> bool {
    let (addons, apps) = (addons.as_array().unwrap(), apps.as_object().unwrap());
    let mut left: usize = apps.values().map(|has| has.as_array().unwrap().len()).sum();
    let mut ids = BTreeSet::new();
    for (number, name) in ADDONS.iter().enumerate() {
        let there = addons.iter().find(|addon| addon["id"] == *name);
        let (Some(addon), Some(there)) = (&mut paper.addons[number], there) else {
            if paper.addons[number].is_none() && there.is_none() {
                continue;
            }
            return false;
        };
        let (version, state) =
            (if addon.later { "1.1.0" } else { "1.0.0" }, if addon.enabled { "enabled" } else { "installed" });
        if there["version"] != version || there["state"] != state {
            return false;
        }
        for (place, has) in &mut addon.has {
            let alias = if place.1 { Value::from(ALIAS) } else { Value::Null };
            let of_app = apps.get(APPS[place.0]).and_then(Value::as_array).into_iter().flatten();
            let mut there = of_app.filter(|there| there["addon"] == *name && there["alias"] == alias);
            let (Some(there), None) = (there.next(), there.next()) else { return false };
            let state = if has.detached { "detached" } else { "active" };
            let id = there["id"].as_str().unwrap_or_default();
            let known = has.id.get_or_insert_with(|| id.to_owned());
            if there["state"] != state
                || there["plan"] != has.plan.name()
                || *known != *id
                || !ids.insert(id.to_owned())
            {
                return false;
            }
            left -= 1;
        }
    }
    left == 0
}
