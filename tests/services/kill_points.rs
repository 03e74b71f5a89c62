//! The program killed between two requests to an engine, and between those and what it notes of them: see
//! [`crate::kill_points`].

use serde_json::{Value, json};

use super::{Site, redis};
use crate::kill_points::{kill_at, points, repeat};

/// Points tried of each verb where not all are.
const TRIED: usize = 4;

/// A site with Redis, which one app has since before.
struct Kept {
    site: Site,
    addon: String,
    url: String,
}

impl Kept {
    fn new() -> Kept {
        let site = Site::new();
        let addon = site.example("redis");
        site.lodger(&["enable", &addon]).ok();
        site.lodger(&["add", "wiki", &addon]).ok();
        let url = redis::url(&site, "wiki");
        assert_eq!(redis::Client::new(&url).ask(&["SET", "page", "first"]), "+OK");
        Kept { site, addon, url }
    }

    /// What one app has had since before is there under its URL, and there is nothing on the engine but what should be.
    #[track_caller]
    fn is_well(&self, point: &str) {
        assert_eq!(redis::url(&self.site, "wiki"), self.url, "{point}");
        redis::wait_for(&self.url);
        assert_eq!(redis::Client::new(&self.url).ask(&["GET", "page"]), "first", "{point}");
        let apps = self.site.lab.json(&["apps"]).as_object().unwrap().len();
        assert_eq!((self.site.has("containers").len(), self.site.has("volumes").len()), (apps, apps), "{point}");
        assert_eq!(self.site.lab.json(&["reconcile"]), json!([]), "{point}");
    }
}

/// The points of a verb that are tried: others in every run, and all where that is asked for.
pub(super) fn chosen(verb: &str, all: usize) -> Vec<usize> {
    let step = if std::env::var_os("LODGER_TEST_FULL").is_some() { 1 } else { all.div_ceil(TRIED).max(1) };
    let chosen: Vec<usize> = (1 + std::process::id() as usize % step..=all).step_by(step).collect();
    println!("{verb} with services: {} of {all} kill points", chosen.len());
    chosen
}

/// Kills `verb` at its points; `undo` leads back to where it begins.
fn kill_everywhere(kept: &Kept, verb: &[&str], undo: &[&str]) {
    let lab = &kept.site.lab;
    let all = points(lab, verb).len();
    lab.lodger(undo).ok();
    for number in chosen(verb[0], all) {
        let point = format!("{verb:?} killed at {number} of {all}");
        kill_at(lab, verb, number);
        let repairs = lab.lodger(&["--json", "reconcile"]).ok().json();
        assert!(
            repairs.as_array().unwrap().iter().all(|repair: &Value| repair["what"] != "failed"),
            "{point}: {repairs}"
        );
        kept.is_well(&point);
        repeat(lab, verb);
        kept.is_well(&point);
        lab.lodger(undo).ok();
        kept.is_well(&point);
    }
}

#[test]
fn of_add_and_remove() {
    let kept = Kept::new();
    let (add, remove) = (["add", "shop", &*kept.addon], ["remove", "shop", &*kept.addon]);
    kill_everywhere(&kept, &add, &remove);
    kept.site.lodger(&add).ok();
    kill_everywhere(&kept, &remove, &add);
}

#[test]
fn of_dump_and_restore() {
    let kept = Kept::new();
    let file = kept.site.lab.path("wiki.rdb");
    let dump = ["dump", "wiki", &*kept.addon, "--output", file.to_str().unwrap()];
    let restore = ["restore", "wiki", &*kept.addon, "--input", file.to_str().unwrap()];
    kept.site.lodger(&dump).ok();
    let whole = std::fs::read(&file).unwrap();
    // A dump changes nothing, so that what undoes it may be what follows it.
    kill_everywhere(&kept, &dump, &restore);
    kill_everywhere(&kept, &restore, &dump);
    assert!(whole.starts_with(b"REDIS") && std::fs::read(&file).unwrap().starts_with(b"REDIS"));
    let commands = kept.site.lab.home().join("locks/commands");
    assert_eq!(std::fs::read_dir(commands).unwrap().count(), 0, "no command is left at work");
}

#[test]
fn of_upgrade_and_rollback() {
    let kept = Kept::new();
    let later = kept.site.version("redis", "1.1.0", |manifest| {
        manifest["services"][0]["limits"]["memory_bytes"] = json!(100_663_296);
    });
    let (upgrade, rollback) = (["upgrade", &*kept.addon, &later], ["rollback", &*kept.addon, "--yes"]);
    kill_everywhere(&kept, &upgrade, &rollback);
    kept.site.lodger(&upgrade).ok();
    kill_everywhere(&kept, &rollback, &upgrade);
}

#[test]
fn of_enable_disable_and_uninstall() {
    let site = Site::new();
    let addon = site.install_with(json!({
        "name": "web", "version": "1.0.0", "services": [super::web("one"), super::web("two")],
    }));
    let package = site.lab.path("web");
    let install = &["install", package.to_str().unwrap(), "--yes"][..];
    let (enable, disable, uninstall) =
        (&["enable", &*addon][..], &["disable", &*addon][..], &["uninstall", &*addon][..]);
    // Each verb with those that lead to where it begins, from wherever it was killed.
    for (verb, before) in [
        (enable, &[install, enable, disable][..]),
        (disable, &[install, enable]),
        (uninstall, &[install, enable, disable]),
        (install, &[disable, uninstall]),
    ] {
        before.iter().for_each(|before| repeat(&site.lab, before));
        let all = points(&site.lab, verb).len();
        for number in chosen(verb[0], all) {
            before.iter().for_each(|before| repeat(&site.lab, before));
            let point = format!("{verb:?} killed at {number} of {all}");
            kill_at(&site.lab, verb, number);
            site.lodger(&["reconcile"]).ok();
            repeat(&site.lab, verb);
            let running = if verb[0] == "enable" { 2 } else { 0 };
            assert_eq!(site.has("containers").len(), running, "{point}");
            if verb[0] != "enable" {
                assert_eq!(site.has("networks"), Vec::<String>::new(), "{point}");
            }
        }
    }
    repeat(&site.lab, uninstall);
    site.has_nothing();
}
