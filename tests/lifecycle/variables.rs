//! The variables of an app: as JSON, for a shell, in a file, and in the environment of a command.

use serde_json::json;

use super::outcomes;
use crate::support::{Lab, Ran};

/// Everything a shell or a reader of files could take for more than itself.
const NASTY: &str = r#"it's "$HOME" `id` $(id) \ \\ \n ; & | # * ? ~ ! {a,b} %s é 	<>"#;

fn shop(lab: &Lab) {
    lab.well_behaved(|manifest| manifest["provider"] = json!({ "regions": [NASTY] }));
    lab.lodger(&["add", "shop", "probe"]).ok();
}

#[test]
fn what_env_prints_for_a_shell_is_read_back_as_it_was() {
    let lab = Lab::new();
    shop(&lab);
    let env = lab.json(&["env", "shop"]);
    assert_eq!(env["PROBE_REGION"], NASTY);
    let exports = lab.lodger(&["env", "shop"]).ok().stdout;
    assert_eq!(exports, lab.lodger(&["env", "shop", "--format", "export"]).ok().stdout);
    let script = r#"eval "$1"; printf '%s\n' "$PROBE_URL" "$PROBE_PLAN"; printf %s "$PROBE_REGION""#;
    let args = ["-c", script, "sh", &exports];
    let read = Ran::of(&args, lab.command_of("sh", &args).output().unwrap()).ok();
    let expected = format!("{}\n\n{NASTY}", env["PROBE_URL"].as_str().unwrap());
    assert_eq!((read.stdout, read.stderr), (expected, String::new()));
}

#[test]
fn the_formats_of_env_say_the_same() {
    let lab = Lab::new();
    shop(&lab);
    let env = lab.json(&["env", "shop"]);
    let ran = lab.lodger(&["env", "shop", "--format", "json"]).ok();
    assert_eq!(ran.json(), env);
    let dotenv = lab.lodger(&["env", "shop", "--format", "dotenv"]).ok().stdout;
    let quoted = NASTY.replace('\\', r"\\").replace('"', r#"\""#).replace('$', r"\$").replace('`', r"\`");
    let url = env["PROBE_URL"].as_str().unwrap();
    assert_eq!(dotenv, format!("PROBE_PLAN=\"\"\nPROBE_REGION=\"{quoted}\"\nPROBE_URL=\"{url}\"\n"));
}

#[test]
fn a_command_runs_with_the_variables_and_its_exit_code_is_ours() {
    let lab = Lab::new();
    shop(&lab);
    let ran = lab.lodger(&["run", "shop", "--", "sh", "-c", "printf %s \"$PROBE_REGION\"; exit 7"]).exits(7);
    assert_eq!(ran.stdout, NASTY);
    let ran = lab.lodger(&["run", "shop", "--", "printf", "%s|", "a b", "$HOME", "--json"]).ok();
    assert_eq!(ran.stdout, "a b|$HOME|--json|");
    lab.lodger(&["--json", "run", "shop", "--", "no-such-program"]).fails_with(1, "failed");
    lab.lodger(&["--json", "run", "nobody", "--", "true"]).fails_with(1, "unknown-app");
    // What is asked for a command is recorded too.
    assert!(outcomes(&lab).iter().filter(|(hook, _)| hook == "url").count() >= 3);
}

#[test]
fn one_failing_hook_gives_no_variables_unless_a_part_is_asked_for() {
    let lab = Lab::new();
    shop(&lab);
    lab.lodger(&["add", "shop", "probe", "--as", "second"]).ok();
    let whole = lab.json(&["env", "shop"]);
    let id = lab.json(&["apps"])["shop"][0]["id"].as_str().unwrap().to_owned();
    std::fs::remove_file(lab.data(&"good/probe".parse().unwrap()).join(&id)).unwrap();

    let ran = lab.lodger(&["--json", "env", "shop"]);
    let error = ran.fails_with(1, "env-incomplete");
    assert_eq!(error["message"], "2 hooks of app `shop` gave no values");
    let told =
        ["url", "config-vars"].map(|hook| format!("good/probe: `{hook}`: refused (not-found): no resource {id}"));
    assert_eq!(ran.stderr.lines().collect::<Vec<_>>(), told);
    lab.lodger(&["run", "shop", "--", "true"]).exits(1);

    let part = lab.json(&["env", "shop", "--partial"]);
    let names = ["SECOND_PLAN", "SECOND_REGION", "SECOND_URL"];
    assert_eq!(part.as_object().unwrap().keys().collect::<Vec<_>>(), names);
    assert!(names.iter().all(|name| part[name] == whole[name]), "{part}");
}
