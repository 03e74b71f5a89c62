//! The program killed at every point at which something lasts, of the verbs that ask a provider. After each kill the home is
//! mended, and then the provider has what the store says it has: nothing is lost, nothing is there twice.

use super::{ADDON, agree, enabled, lab};
use crate::kill_points::{kill_at, points, repeat};
use crate::support::Lab;
use crate::upstream::{Does, Upstream};

fn ready() -> (Upstream, Lab) {
    let upstream = Upstream::start();
    let lab = enabled(&upstream, &upstream.scalingo());
    (upstream, lab)
}

fn in_use() -> (Upstream, Lab) {
    let (upstream, lab) = ready();
    for app in ["wiki", "shop"] {
        lab.lodger(&["add", app, ADDON]).ok();
    }
    (upstream, lab)
}

/// Kills a verb at each of its points, with a provider that does as `does` meanwhile.
fn kill_everywhere(prepare: fn() -> (Upstream, Lab), does: &[Does], verb: &[&str]) {
    let (upstream, lab) = prepare();
    upstream.next(does.to_vec());
    let points = points(&lab, verb);
    agree(&lab, &upstream, "undisturbed");
    let after = upstream.held().len();
    assert!(points.len() >= 4, "{points:?}");
    for (number, point) in (1..).zip(&points) {
        let point = format!("{} killed at {number} of {}, {point}", verb[0], points.len());
        let (upstream, lab) = prepare();
        upstream.next(does.to_vec());
        kill_at(&lab, verb, number);
        // Which plan is wanted is for a person to say.
        let mended = lab.lodger(&["reconcile"]);
        assert!(mended.code == 0 || verb[0] == "plan", "{point}: {mended:?}");
        if verb[0] != "plan" {
            agree(&lab, &upstream, &point);
        }
        repeat(&lab, verb);
        agree(&lab, &upstream, &point);
        assert_eq!(upstream.held().len(), after, "{point}");
        if verb[0] == "plan" {
            let held = upstream.held().into_values().find(|held| held.app == "shop").unwrap();
            assert_eq!(lab.json(&["env", "shop"]), serde_json::json!(held.config), "{point}");
        }
        lab.lodger(&["doctor"]).ok();
    }
}

#[test]
fn of_add() {
    kill_everywhere(ready, &[], &["add", "shop", ADDON]);
}

#[test]
fn of_add_at_a_provider_that_takes_its_time() {
    kill_everywhere(ready, &[Does::Pending], &["add", "shop", ADDON]);
}

#[test]
fn of_remove() {
    kill_everywhere(in_use, &[], &["remove", "shop", ADDON]);
}

#[test]
fn of_plan() {
    kill_everywhere(in_use, &[], &["plan", "shop", ADDON, "premium"]);
}

#[test]
fn of_suspend() {
    kill_everywhere(in_use, &[], &["suspend", "shop", ADDON]);
}

#[test]
fn of_disable() {
    kill_everywhere(in_use, &[], &["disable", ADDON, "--force"]);
}

#[test]
fn of_import() {
    let import = ["import", "manifest.json", "--yes"];
    let upstream = Upstream::start();
    let points = points(&lab(&upstream, &upstream.scalingo()), &import);
    for number in 1..=points.len() {
        let lab = lab(&upstream, &upstream.scalingo());
        kill_at(&lab, &import, number);
        lab.lodger(&["reconcile"]).ok();
        // What was installed already comes with the same grant.
        repeat(&lab, &import);
        lab.lodger(&["enable", ADDON]).ok();
        lab.lodger(&["add", "shop", ADDON]).ok();
        lab.lodger(&["open", "shop", ADDON]).ok();
        lab.lodger(&["remove", "shop", ADDON]).ok();
    }
}

#[test]
fn what_was_undone_half_way_is_undone() {
    let undone = || {
        let (upstream, lab) = ready();
        upstream.next([Does::ThenCloses]);
        (upstream, lab)
    };
    let (upstream, lab) = undone();
    let add = ["add", "shop", ADDON];
    let file = lab.path("points");
    let output = lab.command(&add).env("LODGER_POINTS", &file).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    agree(&lab, &upstream, "undisturbed");
    let points = std::fs::read_to_string(&file).unwrap().lines().count();
    for number in 1..=points {
        let (upstream, lab) = undone();
        kill_at(&lab, &add, number);
        lab.lodger(&["reconcile"]);
        lab.lodger(&["doctor", "--fix"]);
        agree(&lab, &upstream, &format!("killed at {number} of {points}"));
    }
}
