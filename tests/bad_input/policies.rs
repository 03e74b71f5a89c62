//! `lodger.toml`: one that cannot be read keeps the host from opening, and nothing falls back.

use serde_json::json;

use super::says;
use crate::support::Lab;

#[test]
fn a_policy_with_a_mistake_is_an_error_that_names_it() {
    let lab = Lab::new();
    lab.well_behaved(|_| ());
    let list = lab.json(&["list"]);
    let large = format!("#{}", "x".repeat(1 << 20));
    let cases: [(&[u8], &str); 22] = [
        (b"[limits]\nmemory_bites = 1\n", "limits.memory_bites: unknown key"),
        (b"[limits]\nmemory_bytes = \"1\"\n", "invalid type: string"),
        (b"[limits]\nmemory_bytes = -1\n", "invalid value"),
        (b"[limits]\nmemory_bytes = 1.5\n", "invalid type: floating point"),
        (b"[limits]\nmemory_bytes = 0\n", "limits.memory_bytes: must be above 0"),
        (b"[limits]\nstack_bytes = 1\n", "limits.stack_bytes: must be 65536 to 1048576"),
        (b"[limits]\nconcurrent_calls = 5000\n", "limits.concurrent_calls: at most 1000"),
        (b"[limits]\nmemory_bytes = 1\nmemory_bytes = 2\n", "duplicate key"),
        (b"[grants]\n", "unknown field `grants`"),
        (b"[grant]\nnetworks = [\"*\"]\n", "unknown field `networks`"),
        (b"[grant]\nnetwork = [\"*\"]\n", "grant.network: `*` is not a name and a port"),
        (b"[grant]\nnetwork = [\"*:443\"]\n", "grant.network: `*:443` is not a name and a port"),
        (b"[grant]\nnetwork = [\"10.0.0.1:443\"]\n", "that is an address, and only names are taken"),
        (b"[grant]\nnetwork_addresses = [\"10.0.0.1\"]\n", "grant.network_addresses: `10.0.0.1` is no network"),
        (b"[grant]\nnetwork_addresses = [\"10.0.0.1/8\"]\n", "grant.network_addresses: `10.0.0.1/8` is no network"),
        (b"[grant]\nnetwork_addresses = [\"all\"]\n", "grant.network_addresses: `all` is no network"),
        (b"[grant]\nenv_names = \"A\"\n", "invalid type: string"),
        (b"[grant]\nenv_names = [\"LD_PRELOAD\"]\n", "grant.env_names: `LD_PRELOAD` can never be given"),
        (b"[grant]\nenv_names = [\"a b\"]\n", "grant.env_names: `a b` can never be given"),
        (b"limits = 1\n", "invalid type: integer"),
        (b"[limits\n", "lodger.toml"),
        (b"[limits]\n\xff\n", "not UTF-8"),
    ];
    for (text, message) in cases.into_iter().chain([(large.as_bytes(), "larger than 1048576 bytes")]) {
        std::fs::write(lab.home().join("lodger.toml"), text).unwrap();
        for verb in [&["list"][..], &["enable", "probe"], &["doctor"]] {
            let error = lab.lodger(&[&["--json"], verb].concat()).fails_with(4, "invalid-policy");
            says(&error, &["policy `lodger.toml`: ", message]);
        }
    }
    lab.policy("");
    assert_eq!(lab.json(&["list"]), list);
}

#[test]
fn a_name_the_policy_lists_may_be_given_and_only_then() {
    let lab = Lab::new();
    lab.policy("[grant]\nenv_names = [\"DATABASE_URL\"]\n");
    lab.well_behaved(|manifest| manifest["config_vars"] = json!(["DATABASE_URL", "PROBE_PLAN", "PROBE_REGION"]));
    let added = lab.json(&["add", "shop", "probe"]);
    assert!(added["config"]["DATABASE_URL"].is_string(), "{added}");
    lab.policy("");
    lab.lodger(&["--json", "url", "shop", "probe"]).fails_with(1, "grant-revoked");
}
