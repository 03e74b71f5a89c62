//! The log of what has happened: from the first time that anybody asks, whoever does it, and from where it was seen last.

use lodger::{Pair, Raised};
use serde_json::{Value, json};

use super::{Listening, Sent, Serving, token};
use crate::support::{Lab, run};

const SHOP: &str = "/v1/apps/shop/addons/good/probe";

fn from(server: &Serving, seen: u64) -> Listening {
    let mut listening = server.listen_as(&server.token, "/v1/events", &format!("Last-Event-ID: {seen}\r\n"));
    let first = listening.next().unwrap();
    assert_eq!((first.id, first.name.as_str()), (Some(seen), "log"));
    listening
}

fn page(server: &Serving, query: &str) -> Value {
    let more = format!("{}Accept: application/json\r\n", server.bearer());
    server.ask("GET", &format!("/v1/events{query}"), &more, b"").is(200).json()
}

fn kinds(sent: &[Sent]) -> Vec<&str> {
    sent.iter().map(|sent| sent.data["kind"].as_str().unwrap()).collect()
}

fn build(number: u32) -> Raised {
    let details = vec![Pair { name: "number".to_owned(), value: number.to_string() }];
    Raised { kind: "build.finished".to_owned(), details, ..Raised::default() }
}

#[test]
fn what_happens_is_told_from_the_first_ask_on_by_whichever_process() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    assert_eq!(lab.json(&["events"]), json!([]), "nobody has asked yet");
    let server = Serving::start(&lab);
    server.put(SHOP, &json!({})).is(201);
    run(async {
        // Opened before anybody has asked.
        let host = lab.host().await;
        host.raise(build(0)).unwrap();
        assert_eq!(lab.json(&["events"]), json!([]), "nobody has asked yet");
        let mut listening = server.listen("/v1/events");
        let log = listening.next().unwrap();
        assert_eq!((log.id, log.name.as_str(), &log.data["after"]), (Some(0), "log", &json!(0)));
        assert!(log.data["since"].as_i64().unwrap() > 0);
        server.delete(SHOP, &json!({})).is(200);
        lab.lodger(&["disable", addon]).ok();
        host.raise(build(1)).unwrap();
        host.enable(&crate::support::addon(addon)).await.unwrap();
        let told: Vec<Sent> = (0..4).map(|_| listening.next().unwrap()).collect();
        assert_eq!(kinds(&told), ["app.removed", "addon.disabled", "build.finished", "addon.enabled"]);
        let numbers: Vec<u64> = told.iter().map(|sent| sent.id.unwrap()).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        let actors: Vec<&Value> = told.iter().map(|sent| &sent.data["actor"]).collect();
        assert_eq!(actors[1..], ["cli", "embedder", "embedder"]);
        assert!(actors[0].as_str().unwrap().starts_with("token "));
        assert_eq!(told[0].data["app"], "shop");
        // The same, page by page, and on the command line.
        let all = page(&server, "");
        let datas: Vec<&Value> = told.iter().map(|sent| &sent.data).collect();
        assert_eq!(all["items"].as_array().unwrap().iter().collect::<Vec<_>>(), datas);
        assert_eq!((&all["since"], &all["lost"], &all["next"]), (&log.data["since"], &json!(false), &json!("4")));
        let mut newest_first = lab.json(&["events"]);
        newest_first.as_array_mut().unwrap().reverse();
        assert_eq!(newest_first, all["items"]);
        let first = page(&server, "?limit=3");
        assert_eq!(page(&server, &format!("?cursor={}", first["next"].as_str().unwrap()))["items"], json!([datas[3]]));
        assert_eq!(
            page(&server, "?after=4"),
            json!({ "items": [], "next": null, "since": all["since"], "lost": false })
        );
        // From where it was seen, or is asked for; else from now on.
        assert_eq!(from(&server, 2).next().unwrap(), told[2]);
        let mut after = server.listen("/v1/events?after=3");
        assert_eq!((after.next().unwrap().name.as_str(), after.next().unwrap()), ("log", Sent::of_event(&told[3])));
        let now = server.listen("/v1/events").next().unwrap();
        assert_eq!(now.id, Some(4));
    });
}

impl Sent {
    fn of_event(other: &Sent) -> Sent {
        Sent { id: other.id, name: String::new(), data: other.data.clone() }
    }
}

#[test]
fn nothing_is_lost_between_two_connections_also_where_the_server_was_away() {
    let lab = Lab::new();
    let addon = lab.well_behaved(|_| ());
    let server = Serving::start(&lab);
    // Cut off before anything has happened, it knows where to go on.
    let seen = server.listen("/v1/events").next().unwrap().id.unwrap();
    drop(server);
    lab.lodger(&["add", "shop", addon]).ok();
    lab.lodger(&["remove", "shop", addon, "--yes"]).ok();
    let server = Serving::start(&lab);
    let mut listening = from(&server, seen);
    let told: Vec<Sent> = (0..2).map(|_| listening.next().unwrap()).collect();
    assert_eq!(kinds(&told), ["app.added", "app.removed"]);
    assert_eq!((told[0].id, told[1].id), (Some(seen + 1), Some(seen + 2)));
}

#[test]
fn what_went_by_retention_is_said_to_be_lost() {
    let lab = Lab::new();
    lab.policy("[retention]\nevents = 10\n");
    let server = Serving::start(&lab);
    page(&server, "");
    run(async {
        let host = lab.host().await;
        for number in 1..=200 {
            host.raise(build(number)).unwrap();
        }
    });
    // Looked through after every 64th.
    let kept = page(&server, "?limit=1000");
    let oldest = kept["items"][0]["sequence"].as_u64().unwrap();
    assert!(oldest > 100 && kept["lost"] == false, "{kept}");
    let mut listening = from(&server, 1);
    let lost = listening.next().unwrap();
    assert_eq!((lost.id, lost.name.as_str()), (Some(oldest - 1), "lost"));
    assert_eq!(lost.data, json!({ "after": 1, "before": oldest }));
    for number in oldest..=200 {
        let sent = listening.next().unwrap();
        assert_eq!((sent.id, &sent.data["details"]["number"]), (Some(number), &json!(number.to_string())));
    }
    assert_eq!(page(&server, "?after=1")["lost"], true);
    assert_eq!(from(&server, oldest - 1).next().unwrap().id, Some(oldest), "nothing is missing");
    // One that has seen more than there was has seen another log.
    let mut listening = from(&server, 1000);
    let lost = listening.next().unwrap();
    assert_eq!((lost.id, lost.name.as_str()), (Some(200), "lost"));
    run(async { lab.host().await.raise(build(201)).unwrap() });
    assert_eq!(listening.next().unwrap().id, Some(201));
}

#[test]
fn events_are_for_those_who_read() {
    let lab = Lab::new();
    let server = Serving::start(&lab);
    for (scope, status) in [("read", 200), ("manage", 200), ("app:shop", 403), ("publish:good", 403)] {
        let more = format!("Authorization: Bearer {}\r\nAccept: application/json\r\n", token(&lab, scope));
        assert_eq!(server.ask("GET", "/v1/events", &more, b"").status, status, "{scope}");
    }
    for query in ["?after=-1", "?after=x", "?after=1&cursor=1", "?other=1", "?limit=x"] {
        let more = format!("{}Accept: application/json\r\n", server.bearer());
        server.ask("GET", &format!("/v1/events{query}"), &more, b"").refuses(422, "invalid-query");
    }
    page(&server, "?after=18446744073709551615&limit=0");
}
