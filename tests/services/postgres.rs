//! One PostgreSQL server for all apps, used as they would: with `psql`, through the URL each was given.

use std::process::Command;

use super::{Site, docker};

const IMAGE: &str = "docker.io/library/postgres:16";
/// Words differ between versions, codes do not.
const INSUFFICIENT_PRIVILEGE: &str = "ERROR:  42501";

pub fn enabled() -> (Site, String) {
    let site = Site::with_policy("env_names = [\"DATABASE_URL\"]\n");
    let postgres = site.example("postgres");
    site.lodger(&["enable", &postgres]).ok();
    (site, postgres)
}

pub fn url(site: &Site, app: &str) -> String {
    site.lab.json(&["env", app])["DATABASE_URL"].as_str().unwrap().to_owned()
}

/// User, password and database of a URL; the address is between them.
fn parts(url: &str) -> (&str, &str, &str) {
    let (user, rest) = url.strip_prefix("postgres://").unwrap().split_once(':').unwrap();
    let (password, rest) = rest.split_once('@').unwrap();
    (user, password, rest.split_once('/').unwrap().1)
}

/// What `psql` prints, or what it complains about. It is an app here: it has the URL, and the network of the machine.
fn try_ask(url: &str, sql: &str) -> Result<String, String> {
    let run = ["run", "--rm", "--network=host", IMAGE, "psql", "-qAtX", "-vVERBOSITY=verbose", url, "-c", sql];
    let output = Command::new("docker").args(run).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[track_caller]
pub fn ask(url: &str, sql: &str) -> String {
    try_ask(url, sql).unwrap()
}

#[track_caller]
fn refused(url: &str, sql: &str, words: &str) {
    let error = try_ask(url, sql).unwrap_err();
    assert!(error.contains(words), "{words} in {error}");
}

/// The server, asked from within as its superuser.
fn superuser(site: &Site, sql: &str) -> String {
    let server = site.has("containers").remove(0);
    docker(&["exec", &server, "psql", "-qAtX", "-U", "postgres", "-c", sql]).trim_end().to_owned()
}

const APPS: &str = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'app%'
    UNION ALL SELECT count(*) FROM pg_database WHERE datname LIKE 'app%'";

#[test]
fn the_refused_variable_names_the_line_that_allows_it() {
    let site = Site::new();
    let text = std::fs::read(crate::support::root().join("guest-examples/postgres/addon.json")).unwrap();
    let package = site.package(serde_json::from_slice(&text).unwrap());
    let error = site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]).fails_with(1, "grant-refused");
    assert_eq!(error["problems"].as_array().unwrap().len(), 1, "{error}");
    let hint = error["problems"][0]["hint"].as_str().unwrap();
    assert!(hint.contains("add `DATABASE_URL` to env_names under [grant] in lodger.toml"), "{hint}");
}

#[test]
fn every_app_has_a_database_of_its_own_in_one_server() {
    let (site, postgres) = enabled();
    for app in ["shop", "blog"] {
        assert_eq!(site.lab.json(&["add", app, &postgres])["created"], true);
        assert_eq!(site.lab.json(&["add", app, &postgres])["created"], false);
    }
    let containers = site.has("containers");
    assert_eq!(containers.len(), 1, "one server for all");
    let (shop, blog) = (url(&site, "shop"), url(&site, "blog"));
    for (url, word) in [(&shop, "full"), (&blog, "empty")] {
        ask(url, &format!("CREATE TABLE basket (is_it text); INSERT INTO basket VALUES ('{word}')"));
    }
    assert_eq!((ask(&shop, "TABLE basket"), ask(&blog, "TABLE basket")), ("full".to_owned(), "empty".to_owned()));

    // Nobody gets into another's database, nor into the server's own, nor in as another.
    let (user, password, _) = parts(&shop);
    let (other_user, _, database) = parts(&blog);
    let to = |database: &str| format!("{}/{database}", shop.rsplit_once('/').unwrap().0);
    for database in [database, "postgres", "template1"] {
        refused(&to(database), "SELECT 1", "permission denied for database");
    }
    refused(&shop.replace(password, "wrong"), "SELECT 1", "password authentication failed");
    refused(&blog.replace(parts(&blog).1, password), "SELECT 1", "password authentication failed");
    for sql in [
        format!("SET ROLE {other_user}"),
        format!("DROP DATABASE {database}"),
        format!("ALTER ROLE {user} CREATEDB"),
        "CREATE ROLE another SUPERUSER".to_owned(),
        "COPY basket TO PROGRAM 'cat'".to_owned(),
        "SELECT pg_read_file('PG_VERSION')".to_owned(),
    ] {
        refused(&shop, &sql, INSUFFICIENT_PRIVILEGE);
    }

    // The container and the networks are removed behind our back: the same data under the same URL, and the next app is
    // served by a server that has only just come back.
    docker(&["rm", "--force", &containers[0]]);
    for name in site.has("networks") {
        docker(&["network", "rm", &name]);
    }
    let repaired = site.lab.json(&["reconcile"]);
    assert_eq!((&repaired[0]["service"], &repaired[0]["what"]), (&"server".into(), &"made".into()), "{repaired}");
    site.lodger(&["add", "wiki", &postgres]).ok();
    assert_eq!(site.has("containers"), containers);
    assert_eq!((url(&site, "shop"), ask(&shop, "TABLE basket")), (shop.clone(), "full".to_owned()));
    assert_eq!(site.lab.json(&["reconcile"]), serde_json::json!([]), "nothing more to do");

    // The superuser's is a file of the server, and none of it is in what the engine shows.
    let data = site.lab.home().join("data").join(&postgres);
    let superuser_password = std::fs::read_to_string(data.join("superuser")).unwrap();
    let read = docker(&["exec", "--user", "postgres", &containers[0], "cat", "/run/secrets/POSTGRES_PASSWORD"]);
    assert_eq!((superuser_password.len(), &read), (48, &superuser_password));
    let shown = docker(&["inspect", &containers[0]]);
    assert!(shown.contains("POSTGRES_PASSWORD_FILE=/run/secrets/POSTGRES_PASSWORD"), "{shown}");
    assert!(!shown.contains(&superuser_password) && !shown.contains(password), "{shown}");

    // Passwords are nowhere but with the server and the apps, not even in what it says of a statement that failed.
    for verb in [
        &["calls", &*postgres][..],
        &["logs", &postgres],
        &["logs", &postgres, "--service", "server"],
        &["info", &postgres],
        &["explain", &postgres],
        &["doctor"],
    ] {
        let ran = site.lodger(verb);
        assert!(!ran.stdout.contains(password) && !ran.stderr.contains(password), "{verb:?}");
    }

    for app in ["shop", "blog", "wiki"] {
        site.lodger(&["remove", app, &postgres]).ok();
    }
    refused(&shop, "SELECT 1", "password authentication failed");
    assert_eq!(superuser(&site, APPS), "0\n0");
    site.lodger(&["disable", &postgres]).ok();
    assert_eq!(site.has("containers"), Vec::<String>::new());
    site.lodger(&["uninstall", &postgres]).ok();
    site.has_nothing();
}

#[test]
fn removing_an_app_ends_its_connections_and_nothing_another_app_does_is_in_the_way() {
    let (site, postgres) = enabled();
    for app in ["shop", "blog"] {
        site.lodger(&["add", app, &postgres]).ok();
    }
    let (shop, blog) = (url(&site, "shop"), url(&site, "blog"));
    let role = parts(&shop).0;
    // What a role was granted in a database keeps its name from being dropped.
    let grants = format!(
        "CREATE TABLE bait (); GRANT ALL ON bait TO {role}; GRANT ALL ON DATABASE {} TO {role}",
        parts(&blog).2
    );
    ask(&blog, &grants);
    std::thread::scope(|scope| {
        let connected = scope.spawn(|| try_ask(&shop, "SELECT pg_sleep(600)"));
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'";
        crate::support::until(|| (superuser(&site, sleeps) == "1").then_some(()));
        site.lodger(&["remove", "shop", &postgres]).ok();
        let error = connected.join().unwrap().unwrap_err();
        assert!(error.contains("terminating connection"), "{error}");
    });
    assert_eq!(superuser(&site, "SELECT rolcanlogin FROM pg_roles WHERE rolname LIKE 'app%' ORDER BY 1"), "f\nt");
    assert_eq!(superuser(&site, APPS), "2\n1");
    site.lodger(&["remove", "blog", &postgres]).ok();
    assert_eq!(superuser(&site, APPS), "0\n0", "the name goes with what kept it");
}

#[test]
fn what_was_made_is_found_again() {
    let (site, postgres) = enabled();
    // Killed as soon as there is something, at whichever step that is.
    let adding = site.lab.start(&["add", "shop", &postgres]);
    crate::support::until(|| (superuser(&site, APPS) != "0\n0").then_some(()));
    adding.kill();
    site.lodger(&["add", "shop", &postgres]).ok();
    assert_eq!(superuser(&site, APPS), "1\n1", "under the same key");
    let shop = url(&site, "shop");
    ask(&shop, "CREATE TABLE basket ()");

    // Neither the app's data nor the server's go with what was only put aside.
    site.lodger(&["remove", "shop", &postgres, "--keep-data"]).ok();
    site.lodger(&["disable", &postgres]).ok();
    assert_eq!((site.has("containers").len(), site.has("volumes").len()), (0, 1));
    site.lodger(&["enable", &postgres]).ok();
    site.lodger(&["add", "shop", &postgres]).ok();
    assert_eq!(url(&site, "shop"), shop);
    ask(&shop, "TABLE basket");
    site.lodger(&["disable", &postgres, "--force"]).ok();
    site.lodger(&["uninstall", &postgres]).ok();
    site.has_nothing();
}
