//! One Redis per app, used as an app would.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use super::{Site, docker};

/// A connection to the Redis of a URL, after its password was given.
pub struct Client(BufReader<TcpStream>);

impl Client {
    pub fn new(url: &str) -> Client {
        let (user, password, address) = parts(url);
        let mut client = Client::anonymous(&address);
        assert_eq!(client.ask(&["AUTH", &user, &password]), "+OK");
        client
    }

    fn anonymous(address: &str) -> Client {
        Client(BufReader::new(TcpStream::connect(address).unwrap()))
    }

    /// The first line of the answer, or the value where it is one.
    pub fn ask(&mut self, words: &[&str]) -> String {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request += &format!("${}\r\n{word}\r\n", word.len());
        }
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let line = self.line();
        if line.starts_with('$') && line != "$-1" { self.line() } else { line }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

/// User, password and address of a `redis://` URL.
fn parts(url: &str) -> (String, String, String) {
    let (user, rest) = url.strip_prefix("redis://").unwrap().split_once(':').unwrap();
    let (password, rest) = rest.split_once('@').unwrap();
    (user.to_owned(), password.to_owned(), rest.strip_suffix("/0").unwrap().to_owned())
}

pub fn url(site: &Site, app: &str) -> String {
    site.lab.json(&["env", app])["REDIS_URL"].as_str().unwrap().to_owned()
}

#[test]
fn every_app_has_a_redis_of_its_own_that_outlives_its_container() {
    let site = Site::new();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    for app in ["shop", "blog"] {
        assert_eq!(site.lab.json(&["add", app, &redis])["created"], true);
    }
    assert_eq!(site.lab.json(&["add", "shop", &redis])["created"], false);
    let (shop, blog) = (url(&site, "shop"), url(&site, "blog"));
    assert_eq!(Client::new(&shop).ask(&["SET", "basket", "full"]), "+OK");
    assert_eq!(Client::new(&shop).ask(&["GET", "basket"]), "full");
    assert_eq!(Client::new(&blog).ask(&["GET", "basket"]), "$-1");

    // Nobody gets in without the password, nor with another app's.
    let (_, _, address) = parts(&shop);
    let refused = Client::anonymous(&address).ask(&["GET", "basket"]);
    assert!(refused.starts_with("-NOAUTH"), "{refused}");
    let refused = Client::anonymous(&address).ask(&["AUTH", "default", &parts(&blog).1]);
    assert!(refused.starts_with("-WRONGPASS"), "{refused}");

    // All containers are removed behind our back, the networks too: the same data under the same URL.
    let containers = site.has("containers");
    assert_eq!(containers.len(), 2);
    for name in &containers {
        docker(&["rm", "--force", name]);
    }
    for name in site.has("networks") {
        docker(&["network", "rm", &name]);
    }
    let repaired = site.lab.json(&["reconcile"]);
    assert!(repaired.as_array().unwrap().iter().all(|repair| repair["what"] == "made"), "{repaired}");
    assert_eq!(site.has("containers"), containers);
    assert_eq!(url(&site, "shop"), shop);
    wait_for(&shop);
    assert_eq!(Client::new(&shop).ask(&["GET", "basket"]), "full");
    assert_eq!(site.lab.json(&["reconcile"]), serde_json::json!([]), "nothing more to do");

    // The password is nowhere but in the container's environment and the app's.
    let password = parts(&shop).1;
    for verb in [&["calls", &*redis][..], &["logs", &redis], &["info", &redis], &["explain", &redis], &["doctor"]] {
        let ran = site.lodger(verb);
        assert!(!ran.stdout.contains(&password) && !ran.stderr.contains(&password), "{verb:?}");
    }

    for app in ["shop", "blog"] {
        site.lodger(&["remove", app, &redis]).ok();
    }
    assert_eq!(site.has("containers"), Vec::<String>::new());
    assert_eq!(site.has("volumes"), Vec::<String>::new());
    site.lodger(&["disable", &redis]).ok();
    site.lodger(&["uninstall", &redis]).ok();
    site.has_nothing();
}

/// What was repaired without a verb that waits for it takes a moment.
pub fn wait_for(url: &str) {
    let (user, password, address) = parts(url);
    crate::support::until(|| {
        let stream = TcpStream::connect(&address).ok()?;
        let mut client = Client(BufReader::new(stream));
        let request = format!("AUTH {user} {password}\r\nPING\r\n");
        client.0.get_mut().write_all(request.as_bytes()).ok()?;
        let mut line = String::new();
        (client.0.read_line(&mut line).ok()? > 0 && client.line() == "+PONG").then_some(())
    });
}

#[test]
fn what_an_app_had_is_kept_without_its_container() {
    let site = Site::new();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    let before = url(&site, "shop");
    assert_eq!(Client::new(&before).ask(&["SET", "basket", "full"]), "+OK");
    site.lodger(&["remove", "shop", &redis, "--keep-data"]).ok();
    assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 1));
    site.lodger(&["disable", &redis]).ok();
    site.lodger(&["enable", &redis]).ok();
    assert_eq!(site.has("containers").len(), 0, "no app has it");

    site.lodger(&["add", "shop", &redis]).ok();
    assert_eq!(url(&site, "shop"), before);
    assert_eq!(Client::new(&before).ask(&["GET", "basket"]), "full");
}
