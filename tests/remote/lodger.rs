//! One Lodger as the platform of another's addons: either dialect from the manifest that one hands out to the variables that
//! an app has of the other.

use serde_json::{Value, json};

use super::lab_at;
use crate::server::Serving;
use crate::support::Lab;

#[test]
fn an_addon_of_one_home_serves_the_apps_of_another() {
    let far = Lab::new();
    far.well_behaved(|manifest| {
        manifest["plans"] = json!([{ "name": "small" }, { "name": "large" }]);
        manifest["config_vars"] = json!(["PROBE_URL", "PROBE_PLAN", "PROBE_REGION"]);
    });
    let server = Serving::start(&far);
    let port: u16 = server.url("").rsplit(':').next().unwrap().parse().unwrap();
    for dialect in ["scalingo", "heroku"] {
        far.lodger(&["provider", "credentials", "good/probe", "--dialect", dialect]).ok();
        let offer = ["provider", "manifest", "good/probe", "--dialect", dialect, "--url", "https://addons.example.com"];
        let manifest =
            far.json(&offer).to_string().replace("https://addons.example.com", &format!("http://localhost:{port}"));
        let near = lab_at(port, &serde_json::from_str::<Value>(&manifest).unwrap());
        let import = ["import", "manifest.json", "--name", "probe", "--plan", "small", "--plan", "large", "--yes"];
        near.lodger(&import).ok();
        near.lodger(&["enable", "probe"]).ok();
        let added = near.json(&["add", "shop", "probe", "--plan", "small"]);
        assert_eq!(added["config"]["PROBE_PLAN"], "small", "{added}");
        near.lodger(&["plan", "shop", "probe", "large"]).ok();
        assert_eq!(near.json(&["env", "shop"])["PROBE_PLAN"], "large");
        let apps = far.json(&["apps"]);
        let there: Vec<&Value> = apps.as_object().unwrap().values().flat_map(|all| all.as_array().unwrap()).collect();
        assert_eq!((there.len(), &there[0]["plan"]), (1, &json!("large")), "{apps}");
        if dialect == "scalingo" {
            near.lodger(&["suspend", "shop", "probe"]).ok();
            assert!(far.json(&["apps"]).to_string().contains("suspended"));
            near.lodger(&["resume", "shop", "probe"]).ok();
            let link = near.lodger(&["open", "shop", "probe"]).ok().stdout;
            let path = link.trim().split_once(&port.to_string()).unwrap().1;
            assert_eq!(server.ask("GET", path, "", b"").status, 200, "{link}");
        }
        near.lodger(&["remove", "shop", "probe"]).ok();
        assert_eq!((far.json(&["apps"]), near.json(&["apps"])), (json!({}), json!({})));
    }
}
