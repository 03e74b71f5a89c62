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

#[test]
fn a_dump_brings_back_its_keys_and_no_others_here_or_in_another_app() {
    let site = Site::new();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    for app in ["shop", "blog"] {
        site.lodger(&["add", app, &redis]).ok();
    }
    let (shop, blog) = (url(&site, "shop"), url(&site, "blog"));
    let mut client = Client::new(&shop);
    for words in [&["SET", "basket", "full"][..], &["EXPIRE", "basket", "10000"], &["RPUSH", "list", "a", "b"]] {
        assert!(!client.ask(words).starts_with('-'), "{words:?}");
    }
    let dump = site.lab.path("shop.rdb");
    let dump = dump.to_str().unwrap();
    let dumped = site.lab.json(&["dump", "shop", &redis, "--output", dump]);
    let bytes = std::fs::read(dump).unwrap();
    assert_eq!((dumped["bytes"].as_u64(), &bytes[..5]), (Some(bytes.len() as u64), &b"REDIS"[..]));

    // Over what is there, and twice.
    assert_eq!(client.ask(&["SET", "later", "1"]), "+OK");
    for _ in 0..2 {
        let restored = site.lab.json(&["restore", "shop", &redis, "--input", dump]);
        assert_eq!(restored["bytes"], dumped["bytes"]);
        assert_eq!(url(&site, "shop"), shop);
        let mut client = Client::new(&shop);
        assert_eq!((client.ask(&["DBSIZE"]), client.ask(&["GET", "basket"])), (":2".into(), "full".into()));
        assert!(client.ask(&["TTL", "basket"]).trim_start_matches(':').parse::<u32>().unwrap() > 9000);
        assert_eq!(client.ask(&["LLEN", "list"]), ":2");
    }
    // Under another's password; and what was restored is kept like any data, also where all else is made anew.
    site.lodger(&["restore", "blog", &redis, "--input", dump]).ok();
    assert_eq!(Client::new(&blog).ask(&["GET", "basket"]), "full");
    assert_eq!(Client::new(&blog).ask(&["SET", "after", "1"]), "+OK");
    for name in site.has("containers") {
        docker(&["rm", "--force", &name]);
    }
    site.lodger(&["reconcile"]).ok();
    wait_for(&blog);
    assert_eq!(Client::new(&blog).ask(&["DBSIZE"]), ":3");

    // Into what is there only now.
    site.lodger(&["remove", "shop", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    let shop = url(&site, "shop");
    assert_eq!(Client::new(&shop).ask(&["DBSIZE"]), ":0");
    site.lodger(&["restore", "shop", &redis, "--input", dump]).ok();
    assert_eq!(Client::new(&shop).ask(&["GET", "basket"]), "full");
    assert_eq!(site.lab.json(&["reconcile"]), serde_json::json!([]), "nothing more to do");
}

#[test]
fn what_is_no_dump_replaces_nothing() {
    let site = Site::new();
    let redis = site.example("redis");
    site.lodger(&["enable", &redis]).ok();
    site.lodger(&["add", "shop", &redis]).ok();
    let shop = url(&site, "shop");
    assert_eq!(Client::new(&shop).ask(&["SET", "basket", "full"]), "+OK");
    let dump = site.lab.path("dump");
    site.lodger(&["dump", "shop", &redis, "--output", dump.to_str().unwrap()]).ok();
    let whole = std::fs::read(&dump).unwrap();
    let container = site.has("containers").remove(0);
    let started = || docker(&["inspect", "--format", "{{.State.StartedAt}}", &container]);
    let first = started();
    for wrong in [
        &whole[..whole.len() - 1],
        &whole[..20],
        &[&whole[..], b"more"].concat(),
        b"",
        b"garbage",
        b"*1\r\n$8\r\nFLUSHALL\r\n",
    ] {
        let file = site.lab.write("wrong", wrong);
        let refused = site.lodger(&["restore", "shop", &redis, "--input", file.to_str().unwrap()]).exits(1);
        assert!(refused.stderr.contains("that is no whole RDB file; what was there has stayed"), "{refused:?}");
    }
    assert_eq!(started(), first, "nor was anybody disturbed");
    assert_eq!(Client::new(&shop).ask(&["GET", "basket"]), "full");

    // In order, but more than the container may hold: what was there comes back.
    let file = site.lab.write("large", large_rdb(200, 1 << 20));
    let refused = site.lodger(&["restore", "shop", &redis, "--input", file.to_str().unwrap()]).exits(1);
    assert!(refused.stderr.contains("(unavailable): what was there is back"), "{refused:?}");
    assert_eq!((url(&site, "shop"), Client::new(&shop).ask(&["DBSIZE"])), (shop.clone(), ":1".to_owned()));
    assert_eq!(Client::new(&shop).ask(&["GET", "basket"]), "full");
    let left = docker(&["exec", &site.has("containers")[0], "ls", "/data"]);
    assert!(!left.contains("new-") && !left.contains("old-"), "{left}");
    site.lodger(&["restore", "shop", &redis, "--input", dump.to_str().unwrap()]).ok();
    assert_eq!(Client::new(&shop).ask(&["GET", "basket"]), "full");
}

/// A file of so many strings of this length, without a checksum.
fn large_rdb(keys: u8, length: u32) -> Vec<u8> {
    let mut file = b"REDIS0010\xfe\x00".to_vec();
    for key in 0..keys {
        file.extend([0, 1, key, 0x80]);
        file.extend(length.to_be_bytes());
        file.resize(file.len() + length as usize, b'x');
    }
    file.push(0xff);
    file.extend([0; 8]);
    file
}
