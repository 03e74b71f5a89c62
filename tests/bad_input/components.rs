//! Components that are none, or none of ours.

use serde_json::json;

use super::{manifest, refused, says};
use crate::support::{Lab, component};

#[test]
fn what_is_no_component_of_ours_is_refused_with_what_it_is() {
    let lab = Lab::new();
    let hello = component("hello");
    let text = |text: &str| wat::parse_str(text).unwrap();
    let precompiled = wasmtime::Engine::default().precompile_component(&text("(component)")).unwrap();
    let newer = text(r#"(component (instance $i) (export "lodger:addon/setup@0.2.0" (instance $i)))"#);
    let empty = text(r#"(component (instance $i) (export "lodger:addon/setup@0.1.0" (instance $i)))"#);
    let unknown = text(r#"(component (instance $i) (export "lodger:addon/root@0.1.0" (instance $i)))"#);
    let import = text(
        r#"(component (import "wasi:nuclear/launch@0.2.0" (instance)) (instance $i) (export "lodger:addon/setup@0.1.0" (instance $i)))"#,
    );
    let function =
        text(r#"(component (import "run" (func)) (instance $i) (export "lodger:addon/setup@0.1.0" (instance $i)))"#);
    let mut damaged = hello.clone();
    let middle = damaged.len() / 2;
    damaged[middle..middle + 64].fill(0xff);
    let cases: [(&[u8], &str); 15] = [
        (b"", "an empty file"),
        (b"#!/bin/sh\nexit 0\n", "not a WebAssembly component"),
        (b"\0asm", "not a WebAssembly component"),
        (b"\0asm\x0d\0\x02\0", "not a WebAssembly component"),
        (b"(component)", "WebAssembly text, not a component"),
        (&text("(module)"), "a core module, not a component"),
        (&precompiled, "precompiled code is never loaded from outside"),
        (&hello[..hello.len() / 2], "is out of bounds"),
        (&damaged, ""),
        (&text("(component)"), "exports no hook interface of lodger:addon"),
        (&newer, "exports `lodger:addon/setup@0.2.0`, which this host does not know"),
        (&unknown, "exports `lodger:addon/root@0.1.0`, which this host does not know"),
        (&empty, "enable"),
        (&import, "imports `wasi:nuclear/launch@0.2.0`, which this host does not offer"),
        (&function, "imports `run`, which this host does not offer"),
    ];
    for (bytes, message) in cases {
        let package = lab.package("package", &manifest(), bytes);
        let error = refused(&lab, &package, "invalid-component");
        says(&error, &["component `addon.wasm`", message]);
    }
}

#[test]
fn a_component_that_asks_for_settings_must_declare_them() {
    let lab = Lab::new();
    let package = lab.package("package", &manifest(), component("settings_reach"));
    let error = refused(&lab, &package, "grant-refused");
    assert_eq!(
        error["problems"],
        json!([{
            "path": "component",
            "message": "imports `lodger:addon/settings@0.1.0`, but the manifest declares no settings",
            "hint": "declare them in `settings` of addon.json",
        }])
    );
}
