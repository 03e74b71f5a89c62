//! The compiled cache: what is not authentic is never loaded, and made anew.

use std::fs;
use std::path::PathBuf;

use crate::support::{Lab, component, probe_manifest};

/// The one file of the cache, after `data_survives` was installed and enabled in a home of its own.
fn filled(lab: &Lab) -> PathBuf {
    let package = lab.package("package", &probe_manifest("good", 60_000), component("data_survives"));
    lab.lodger(&["install", package.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "probe"]).ok();
    let files: Vec<_> = fs::read_dir(lab.home().join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [file] = &files[..] else { panic!("{files:?}") };
    file.clone()
}

#[test]
fn code_that_was_changed_replaced_or_lost_is_compiled_again() {
    let (lab, other) = (Lab::cold(), Lab::cold());
    let (file, of_another_home) = (filled(&lab), filled(&other));
    let authentic = fs::read(&file).unwrap();
    let flip = |place: usize| {
        let mut bytes = authentic.clone();
        bytes[place] ^= 1;
        bytes
    };
    let foreign = fs::read(of_another_home).unwrap();
    assert_ne!(foreign[..32], authentic[..32], "each home has a key of its own");
    assert!(foreign[32..] == authentic[32..], "the same component gives the same code");
    let mut expected = String::from("enable\n");
    let damages: [Option<Vec<u8>>; 8] = [
        Some(flip(0)),
        Some(flip(32)),
        Some(flip(authentic.len() / 2)),
        Some(flip(authentic.len() - 1)),
        Some(authentic[..authentic.len() - 1].to_vec()),
        Some(Vec::new()),
        Some(foreign),
        None,
    ];
    for damage in damages {
        match damage {
            Some(bytes) => fs::write(&file, bytes).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        lab.lodger(&["disable", "probe"]).ok();
        lab.lodger(&["enable", "probe"]).ok();
        expected += "disable\nenable\n";
        assert!(fs::read(&file).unwrap() == authentic, "it is as it was");
    }
    let calls = fs::read_to_string(lab.data(&"good/probe".parse().unwrap()).join("calls")).unwrap();
    assert_eq!(calls, expected);
}

#[test]
fn a_component_that_was_changed_where_it_is_installed_is_not_compiled() {
    let lab = Lab::cold();
    let file = filled(&lab);
    let installed = lab.home().join("addons/good/probe/1.0.0/component.wasm");
    fs::write(&installed, component("endless_loop")).unwrap();
    fs::remove_file(&file).unwrap();
    let error = lab.lodger(&["--json", "disable", "probe"]).fails_with(1, "invalid-component");
    assert_eq!(error["message"], "component `good/probe`: its file was changed after it was installed");
    assert_eq!(error["hint"], "uninstall the addon with --keep-data and install it again");
    fs::remove_file(&installed).unwrap();
    lab.lodger(&["--json", "disable", "probe"]).fails_with(4, "io");
    fs::write(&installed, component("data_survives")).unwrap();
    lab.lodger(&["disable", "probe"]).ok();
}
