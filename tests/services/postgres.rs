//! One PostgreSQL server for all apps, used as they would: with `psql`, through the URL each was given.

use std::process::Command;

use super::{Site, docker};
use crate::support::LODGER;

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

/// What a dump has to bring back, and what of it can be seen.
const MAKE: &str = "CREATE TABLE basket (id serial PRIMARY KEY, what text UNIQUE);
    CREATE VIEW full_basket AS SELECT what FROM basket; CREATE EXTENSION citext; CREATE SCHEMA other;
    CREATE FUNCTION other.count() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM public.basket';
    INSERT INTO basket (what) VALUES ('bread'), (E'a\\nb'), (repeat('x', 100000)); SELECT lo_from_bytea(4711, 'large')";
const SEE: &str = "SELECT other.count(), max(length(what)), min(what), nextval('basket_id_seq') > 3,
    convert_from(lo_get(4711), 'utf8'), 'A'::citext = 'a' FROM full_basket";
const SEEN: &str = "3|100000|a\nb|t|large|t";

#[test]
fn a_dump_brings_back_its_database_and_nothing_else_here_or_in_another_app() {
    let (site, postgres) = enabled();
    for app in ["shop", "blog"] {
        site.lodger(&["add", app, &postgres]).ok();
    }
    let (shop, blog) = (url(&site, "shop"), url(&site, "blog"));
    ask(&shop, MAKE);
    let server = site.has("containers").remove(0);
    let started = || docker(&["inspect", "--format", "{{.State.StartedAt}}", &server]);
    let first = started();
    let dump = site.lab.path("shop.dump");
    let dump = dump.to_str().unwrap();
    let dumped = site.lab.json(&["dump", "shop", &postgres, "--output", dump]);
    let bytes = std::fs::read(dump).unwrap();
    assert_eq!((dumped["bytes"].as_u64(), &bytes[..5]), (Some(bytes.len() as u64), &b"PGDMP"[..]));

    // Over what has become of it, twice. Whoever is connected is sent away at the end, but not from other databases.
    ask(&shop, "DROP VIEW full_basket; DELETE FROM basket; CREATE TABLE later (id int REFERENCES basket)");
    let asleep = || superuser(&site, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'");
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let sleep = "SELECT pg_sleep(600)";
            let (connected, other) = (scope.spawn(|| try_ask(&shop, sleep)), scope.spawn(|| try_ask(&blog, sleep)));
            crate::support::until(|| (asleep() == "2").then_some(()));
            let restored = site.lab.json(&["restore", "shop", &postgres, "--input", dump]);
            assert_eq!(restored["bytes"], dumped["bytes"]);
            assert!(connected.join().unwrap().unwrap_err().contains("terminating connection"));
            assert_eq!(asleep(), "1");
            superuser(
                &site,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'",
            );
            assert!(other.join().unwrap().is_err());
        });
        assert_eq!(ask(&shop, SEE), SEEN);
        assert_eq!(ask(&shop, "SELECT to_regclass('later') IS NULL"), "t");
    }
    // Another app has it as its own, and still nobody else's.
    ask(&blog, "CREATE TABLE before ()");
    site.lodger(&["restore", "blog", &postgres, "--input", dump]).ok();
    assert_eq!(ask(&blog, SEE), SEEN);
    ask(&blog, "ALTER TABLE basket ADD COLUMN mine int; DROP SCHEMA other CASCADE");
    let others = format!("{}/{}", blog.rsplit_once('/').unwrap().0, parts(&shop).2);
    refused(&others, "SELECT 1", "permission denied for database");
    let everyone = superuser(&site, "SELECT count(*) FROM pg_database WHERE datname LIKE 'app%' AND datacl IS NULL");
    assert_eq!((superuser(&site, APPS), everyone), ("2\n2".to_owned(), "0".to_owned()));

    // Into what is there only now.
    site.lodger(&["remove", "shop", &postgres]).ok();
    site.lodger(&["add", "shop", &postgres]).ok();
    let shop = url(&site, "shop");
    site.lodger(&["restore", "shop", &postgres, "--input", dump]).ok();
    assert_eq!(ask(&shop, SEE), SEEN);
    assert_eq!(started(), first);
    site.lodger(&["disable", &postgres, "--force"]).ok();
    site.lodger(&["uninstall", &postgres]).ok();
    site.has_nothing();
}

#[test]
fn what_is_no_dump_replaces_nothing_and_does_nothing() {
    let (site, postgres) = enabled();
    for app in ["shop", "blog"] {
        site.lodger(&["add", app, &postgres]).ok();
    }
    let (shop, blog) = (url(&site, "shop"), url(&site, "blog"));
    ask(&shop, MAKE);
    let dump = site.lab.path("dump");
    site.lodger(&["dump", "shop", &postgres, "--output", dump.to_str().unwrap()]).ok();
    let whole = std::fs::read(&dump).unwrap();
    for wrong in [&whole[..whole.len() / 2], &whole[..100], b"", b"garbage", b"SELECT 1;"] {
        let file = site.lab.write("wrong", wrong);
        let refused = site.lodger(&["restore", "shop", &postgres, "--input", file.to_str().unwrap()]).exits(1);
        assert!(refused.stderr.contains("refused (invalid): pg_restore: "), "{refused:?}");
        assert_eq!(superuser(&site, APPS), "2\n2", "nothing is left of it");
    }
    assert_eq!(ask(&shop, SEE), SEEN);

    // What is code in a dump does what its app may, whoever restores it.
    ask(
        &blog,
        "CREATE FUNCTION bait() RETURNS boolean LANGUAGE plpgsql AS 'BEGIN
            IF current_setting(''is_superuser'') = ''on'' THEN CREATE ROLE taken_over; END IF; RETURN true; END';
        CREATE TABLE trap (id int CHECK (bait())); INSERT INTO trap VALUES (1)",
    );
    site.lodger(&["dump", "blog", &postgres, "--output", dump.to_str().unwrap()]).ok();
    site.lodger(&["restore", "shop", &postgres, "--input", dump.to_str().unwrap()]).ok();
    assert_eq!(ask(&shop, "TABLE trap"), "1");
    assert_eq!(superuser(&site, "SELECT FROM pg_roles WHERE rolname = 'taken_over'"), "");
}

#[test]
fn a_reader_that_goes_away_ends_the_dump_and_leaves_the_server() {
    let (site, postgres) = enabled();
    site.lodger(&["add", "shop", &postgres]).ok();
    let shop = url(&site, "shop");
    ask(&shop, "CREATE TABLE large AS SELECT md5(n::text) || md5((-n)::text) FROM generate_series(1, 1000000) n");
    let server = site.has("containers").remove(0);
    let started = || docker(&["inspect", "--format", "{{.State.StartedAt}}", &server]);
    let first = started();
    let dump = format!("lodger dump shop {postgres} | head -c 100000 | wc -c; echo ${{PIPESTATUS[0]}}");
    let path =
        format!("{}:{}", std::path::Path::new(LODGER).parent().unwrap().display(), std::env::var("PATH").unwrap());
    let piped = site.lab.command_of("bash", &["-c", &dump]).env("PATH", path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&piped.stdout), "100000\n1\n");
    let said = String::from_utf8_lossy(&piped.stderr);
    assert!(said.contains("(broken-stream): what was dumped cannot be written: Broken pipe"), "{said}");
    assert!(said.contains("what was written of it is no dump"), "{said}");
    assert!(!docker(&["top", &server]).contains("pg_dump"));
    assert_eq!((started(), ask(&shop, "SELECT count(*) FROM large")), (first, "1000000".to_owned()));
}
