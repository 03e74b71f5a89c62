//! What no Rust guest can be: components written by hand, hostile in how they are made rather than in what they call.

use std::time::Duration;

use lodger::{HookRequest, Host, Limit, Outcome, ResourceRef};
use serde_json::{Value, json};

use crate::support::{Lab, addon, run};

/// A component that exports `setup` and `url`. `cores` defines core modules and instances, of which `$main` has a memory
/// and the functions `enable`, `disable`, `url`, `realloc` and `post`.
fn component(cores: &str) -> Vec<u8> {
    let error = r#"(variant (case "invalid" string) (case "not-found" string) (case "conflict" string)
        (case "denied" string) (case "exhausted" string) (case "unavailable" string) (case "other" string))"#;
    let text = format!(
        r#"(component
            (import "lodger:addon/types@0.1.0" (instance $types
                (type $error' {error})
                (export "error" (type $error (eq $error')))))
            (import "lodger:addon/progress@0.1.0" (instance $progress
                (export "percent" (func (param "value" u8)))))
            (alias export $types "error" (type $error))
            (core func $percent (canon lower (func $progress "percent")))
            {cores}
            (alias core export $main "memory" (core memory $memory))
            (func $enable (result (result (error $error)))
                (canon lift (core func $main "enable") (memory $memory)))
            (func $disable (result (result (error $error)))
                (canon lift (core func $main "disable") (memory $memory)))
            (func $url (param "id" string) (param "private" string) (result (result string (error $error)))
                (canon lift (core func $main "url") (memory $memory) (realloc (core func $main "realloc"))
                    (post-return (core func $main "post"))))
            (instance $setup (export "enable" (func $enable)) (export "disable" (func $disable)))
            (instance $where (export "url" (func $url)))
            (export "lodger:addon/setup@0.1.0" (instance $setup))
            (export "lodger:addon/url@0.1.0" (instance $where)))"#
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// The core module `$main`, well behaved in all that `own` does not define; `own` begins with its imports, if any.
///
/// Whatever lies at 0 is an `ok` without a value, whatever lies at 64 is `ok("x")`.
fn main(own: &str) -> String {
    let functions = [
        ("enable", "(func (export \"enable\") (result i32) i32.const 0)"),
        ("disable", "(func (export \"disable\") (result i32) i32.const 0)"),
        ("url", "(func (export \"url\") (param i32 i32 i32 i32) (result i32) i32.const 64)"),
        ("realloc", "(func (export \"realloc\") (param i32 i32 i32 i32) (result i32) i32.const 1024)"),
        ("post", "(func (export \"post\") (param i32))"),
        ("memory", "(memory (export \"memory\") 1)"),
    ];
    let rest =
        functions.iter().filter(|(name, _)| !own.contains(&format!("(export \"{name}\")"))).map(|(_, text)| *text);
    let data = r#"(data (i32.const 64) "\00\00\00\00\50\00\00\00\01\00\00\00") (data (i32.const 80) "x")"#;
    format!("(core module $Main {own} {} {data})", rest.collect::<Vec<_>>().join(" "))
}

/// A component of one core module.
fn single(own: &str) -> Vec<u8> {
    component(&format!("{} (core instance $main (instantiate $Main))", main(own)))
}

/// Installs and runs one component, as `wat/addon`.
struct Bench {
    host: Host,
    _lab: Lab,
}

impl Bench {
    async fn new(component: &[u8], limits: Value) -> Bench {
        let lab = Lab::new();
        let package = lab.package("package", &manifest(limits), component);
        let host = lab.host().await;
        host.install(host.inspect(&package).await.unwrap(), false).await.unwrap();
        Bench { host, _lab: lab }
    }

    async fn enable(&self) -> (Outcome<()>, lodger::Report) {
        let done = self.host.enable(&addon("wat/addon")).await.unwrap();
        (done.outcome, done.call.unwrap().report)
    }

    async fn url(&self) -> Outcome<String> {
        assert_eq!(self.enable().await.0, Outcome::Completed(()));
        let of = ResourceRef { key: "0".repeat(32), id: "an id".to_owned(), private: String::new() };
        let call = self.host.call(&addon("wat/addon"), HookRequest::Url(of)).await.unwrap();
        call.outcome.map(|answer| match answer {
            lodger::Answer::Url(url) => url,
            other => panic!("{other:?}"),
        })
    }
}

fn manifest(limits: Value) -> Value {
    json!({ "name": "addon", "namespace": "wat", "version": "1.0.0", "component": "addon.wasm", "limits": limits })
}

fn default_limits() -> Value {
    json!({ "memory_bytes": 64 << 20, "deadlines_ms": { "default": 60_000 } })
}

/// How `enable` of a component ends that is installed with the usual limits.
fn enabled(component: &[u8]) -> (Outcome<()>, lodger::Report) {
    run(async { Bench::new(component, default_limits()).await.enable().await })
}

fn asked_for_its_url(component: &[u8], limits: Value) -> Outcome<String> {
    run(async { Bench::new(component, limits).await.url().await })
}

fn stopped(outcome: &Outcome<impl std::fmt::Debug>) -> bool {
    matches!(outcome, Outcome::DeadlineExceeded { deadline } if *deadline == Duration::from_millis(300))
}

fn short() -> Value {
    json!({ "deadlines_ms": { "default": 300 } })
}

/// The template is sound: what is asserted of its variants is due to what varies.
#[test]
fn a_component_written_by_hand_is_an_addon_like_any_other() {
    let plain = single("");
    assert_eq!(enabled(&plain).0, Outcome::Completed(()));
    assert_eq!(asked_for_its_url(&plain, default_limits()), Outcome::Completed("x".to_owned()));
}

/// Three memories, each grown by half the limit: the third has no room, though each by itself would fit.
#[test]
fn memories_are_counted_together() {
    let other = r#"(core module $Other (memory 0)
        (func (export "grow") (param i32) (result i32) local.get 0 memory.grow))"#;
    let main = main(
        r#"(import "a" "grow" (func $a (param i32) (result i32))) (import "b" "grow" (func $b (param i32) (result i32)))
           (func (export "enable") (result i32)
             (if (i32.lt_s (call $a (i32.const 500)) (i32.const 0)) (then unreachable))
             (if (i32.lt_s (call $b (i32.const 500)) (i32.const 0)) (then unreachable))
             (if (i32.ge_s (memory.grow (i32.const 500)) (i32.const 0)) (then unreachable))
             i32.const 0)"#,
    );
    let component = component(&format!(
        "{other} {main} (core instance $a (instantiate $Other)) (core instance $b (instantiate $Other))
         (core instance $main (instantiate $Main (with \"a\" (instance $a)) (with \"b\" (instance $b))))"
    ));
    let (outcome, report) = enabled(&component);
    assert_eq!(outcome, Outcome::Completed(()));
    assert_eq!(report.memory_bytes, 1001 << 16);
}

#[test]
fn a_memory_larger_than_the_limit_from_the_start_is_a_limit_exceeded() {
    let (outcome, report) = enabled(&single(r#"(memory (export "memory") 1025)"#));
    assert_eq!(outcome, Outcome::LimitExceeded { limit: Limit::MemoryBytes, value: 64 << 20 });
    assert_eq!(report.memory_bytes, 0);
}

#[test]
fn tables_are_counted_together() {
    let grown = |second: &str| {
        single(&format!(
            r#"(table $a 0 funcref) (table $b 0 funcref) (func (export "enable") (result i32)
                (drop (table.grow $a (ref.null func) (i32.const 15000)))
                (if (i32.{second} (table.grow $b (ref.null func) (i32.const 15000)) (i32.const 0)) (then unreachable))
                i32.const 0)"#
        ))
    };
    let (refused_in_the_guest, report) = enabled(&grown("ge_s"));
    assert_eq!(refused_in_the_guest, Outcome::Completed(()));
    assert_eq!(report.table_elements, 15_000);
    let (not_taken_for_an_answer, _) = enabled(&grown("lt_s"));
    assert_eq!(not_taken_for_an_answer, Outcome::LimitExceeded { limit: Limit::TableElements, value: 20_000 });
}

/// `realloc` is called by the host, on its way in with the arguments.
#[test]
fn a_realloc_that_is_not_one_is_a_fault_of_the_guest() {
    let realloc = |body: &str| {
        let own = format!(
            r#"(import "host" "percent" (func $percent (param i32)))
               (func (export "realloc") (param i32 i32 i32 i32) (result i32) {body})"#
        );
        component(&format!(
            "{} (core instance $host (export \"percent\" (func $percent)))
             (core instance $main (instantiate $Main (with \"host\" (instance $host))))",
            main(&own)
        ))
    };
    // The last calls out, which a guest may not while it is called in.
    for body in [
        "unreachable",
        "i32.const 0x7fffffff",
        "i32.const -1",
        "i32.const 65535",
        "(call $percent (i32.const 1)) i32.const 1024",
    ] {
        let outcome = asked_for_its_url(&realloc(body), default_limits());
        assert_eq!(outcome.name(), "trapped", "{body}: {outcome:?}");
    }
    let outcome = asked_for_its_url(&realloc("(loop $ever br $ever) i32.const 0"), short());
    assert!(stopped(&outcome), "{outcome:?}");
}

#[test]
fn what_runs_after_the_answer_is_within_the_deadline_and_no_answer_when_it_fails() {
    let post = |body: &str| single(&format!(r#"(func (export "post") (param i32) {body})"#));
    let outcome = asked_for_its_url(&post("(loop $ever br $ever)"), short());
    assert!(stopped(&outcome), "{outcome:?}");
    let outcome = asked_for_its_url(&post("unreachable"), default_limits());
    assert_eq!(outcome.name(), "trapped", "{outcome:?}");
}

#[test]
fn what_runs_before_the_first_function_is_bounded_like_it() {
    let start = |body: &str| single(&format!("(func $start {body}) (start $start)"));
    let (outcome, _) = run(async { Bench::new(&start("(loop $ever br $ever)"), short()).await.enable().await });
    assert!(stopped(&outcome), "{outcome:?}");
    let grows = start("(if (i32.lt_s (memory.grow (i32.const 1024)) (i32.const 0)) (then unreachable))");
    let (outcome, report) = enabled(&grows);
    assert_eq!(outcome, Outcome::LimitExceeded { limit: Limit::MemoryBytes, value: 64 << 20 });
    assert_eq!(report.memory_bytes, 1 << 16);
}

/// A pointer the host must not follow, and lengths that do not add up.
#[test]
fn answers_outside_the_guests_memory_are_faults() {
    for answer in ["65536", "65530", "-1", "0x7fffffff", "1"] {
        let (outcome, _) = enabled(&single(&format!(r#"(func (export "enable") (result i32) i32.const {answer})"#)));
        assert_eq!(outcome.name(), "trapped", "{answer}: {outcome:?}");
    }
    let string = |pointer: &str, length: &str| {
        single(&format!(
            r#"(func (export "url") (param i32 i32 i32 i32) (result i32)
                (i32.store (i32.const 68) (i32.const {pointer})) (i32.store (i32.const 72) (i32.const {length}))
                i32.const 64)"#
        ))
    };
    for (pointer, length) in [("65536", "1"), ("0", "65537"), ("-1", "-1"), ("1", "0x7fffffff"), ("0", "-1")] {
        let outcome = asked_for_its_url(&string(pointer, length), default_limits());
        assert!(["trapped", "limit-exceeded"].contains(&outcome.name()), "{pointer} {length}: {outcome:?}");
    }
}

fn instances(number: usize) -> Vec<u8> {
    let many: String = (0..number).map(|_| "(core instance (instantiate $Empty))").collect();
    component(&format!("(core module $Empty) {many} {} (core instance $main (instantiate $Main))", main("")))
}

#[test]
fn core_instances_over_the_limit_are_a_limit_exceeded() {
    let (outcome, _) = enabled(&instances(40));
    assert_eq!(outcome, Outcome::LimitExceeded { limit: Limit::Instances, value: 32 });
}

/// What cannot be installed: its component, a policy, the error's code and what the message says.
#[test]
fn components_beyond_bounds_are_refused_at_install() {
    let memories: String = (0..4).map(|_| "(core instance (instantiate $One))").collect();
    let five_memories = component(&format!(
        "(core module $One (memory 1)) {memories} {} (core instance $main (instantiate $Main))",
        main("")
    ));
    let nine_tables = single(&"(table 1 funcref)".repeat(9));
    let modules = component(&format!(
        "{} {} (core instance $main (instantiate $Main))",
        "(core module)".repeat(10_000),
        main("")
    ));
    let segment =
        single(&format!(r#"(memory (export "memory") 40) (data (i32.const 4096) "{}")"#, "x".repeat(2 << 20)));
    // Nothing else compiles it, so that it is in no cache.
    let never_compiled = single("(func nop)");
    let mut hundred_megabytes = single("");
    hundred_megabytes.resize(100 << 20, 0);
    let cases: [(&str, &[u8], &str, &str, &str); 8] = [
        ("five memories", &five_memories, "", "invalid-component", "5 Wasm linear memories"),
        ("nine tables", &nine_tables, "", "invalid-component", "tables count of 9"),
        ("300 instances", &instances(300), "", "invalid-component", "core module instances"),
        ("10,000 modules", &modules, "", "invalid-component", "modules"),
        ("a large segment", &segment, "component_bytes = 1048576", "invalid-package", "limits.component_bytes"),
        ("100 MB", &hundred_megabytes, "", "invalid-package", "limits.component_bytes"),
        ("no time", &never_compiled, "compile_ms = 1", "compile-bound", "limits.compile_ms = 1"),
        ("no memory", &never_compiled, "compile_memory_bytes = 1", "compile-bound", "limits.compile_memory_bytes = 1"),
    ];
    for (what, component, policy, code, says) in cases {
        let lab = Lab::new();
        lab.policy(&format!("[limits]\n{policy}\n"));
        let package = lab.package("package", &manifest(json!({})), component);
        let ran = lab.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]);
        let error = ran.fails_with(1, code);
        assert!(error["message"].as_str().unwrap().contains(says), "{what}: {error}");
        assert_eq!(lab.json(&["list"]), json!([]), "{what}");
        assert!(lab.installed_files().is_empty(), "{what}");
    }
}

/// A function as large as the format lets it be, that uses every `step`th of its variables.
fn fifty_thousand_locals(step: usize) -> Vec<u8> {
    let use_it = |n| format!("(local.set {n} (i64.add (local.get {n}) (i64.const {n})))");
    let body: String = (0..50_000).step_by(step).map(use_it).collect();
    single(&format!("(func (local {}) {body})", "i64 ".repeat(50_000)))
}

/// Slow to compile: it ends within bounds, whichever way, and the host goes on.
#[test]
fn a_function_of_fifty_thousand_locals_compiles_or_is_refused() {
    let component = fifty_thousand_locals(7);
    let lab = Lab::new();
    lab.policy("[limits]\ncompile_ms = 20000\ncompile_memory_bytes = 1073741824\n");
    let package = lab.package("package", &manifest(json!({})), component);
    let ran = lab.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]);
    match ran.code {
        0 => assert_eq!(lab.json(&["enable", "addon"])["state"], "enabled"),
        _ => {
            let code = ran.json()["error"]["code"].clone();
            assert!(code == "compile-bound" || code == "invalid-component", "{ran:?}");
            assert_eq!(lab.json(&["list"]), json!([]));
        }
    }
}
