//! Images from a registry that is really there, as at a site without a way out: what addons ask docker.io for comes from the
//! mirror the policy names, is pinned by what it is, and stays that.

use std::io::Write as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use lodger::ProgressEvent;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::private::PrivateEngine;
use super::{Site, docker};
use crate::loopback::Loopback;
use crate::registry::{PASSWORD, Registry, USER};
use crate::support::{LODGER, Ran, Told, run};

const SHELL: &str = "lodger-test/shell:1";

/// A registry with an image of a name that no other test has. The engine has none of it in the end.
struct Shelf {
    registry: Registry,
    name: String,
}

/// An image that is nowhere but in the registry.
struct Put {
    /// Of its manifest, by which it is asked for.
    digest: String,
    /// Of its configuration, by which containers are made.
    id: String,
}

impl Shelf {
    fn new(registry: Registry, site: &Site) -> Shelf {
        Shelf { registry, name: site.namespace.clone() }
    }

    /// Makes an image that holds `word`, and gives it the tag, which another may have had.
    fn put(&self, tag: &str, word: &str) -> Put {
        // Enough to be told of on its way.
        let content = format!("{word} of {}\n", self.name).repeat(100_000);
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let container = docker(&["create", SHELL]).trim().to_owned();
        docker(&["cp", file.path().to_str().unwrap(), &format!("{container}:/word")]);
        let id = docker(&["commit", &container]).trim().to_owned();
        docker(&["rm", &container]);
        // Which takes it from the engine.
        let digest = self.registry.push(&id, &format!("library/{}:{tag}", self.name));
        Put { digest, id }
    }

    /// As manifests name it.
    fn image(&self, tag: &str) -> String {
        format!("docker.io/library/{}:{tag}", self.name)
    }

    /// The policy's lines for docker.io.
    fn mirror(&self, more: &str) -> String {
        format!("[[registry]]\nname = \"docker.io\"\nmirror = \"{}\"\n{more}", self.registry.address())
    }

    /// Has the engine forget all images of the name.
    fn forget(&self) {
        let mut said = String::new();
        // It keeps one that is just being looked at; and one that was listed twice is gone by then.
        for _ in 0..100 {
            let listed = docker(&["image", "ls", "--no-trunc", "--format", "{{.Repository}} {{.ID}}"]);
            let all = listed.lines().filter_map(|line| line.split_once(' '));
            let ours = all.filter(|(repository, _)| repository.rsplit('/').next() == Some(self.name.as_str()));
            let ids: Vec<&str> = ours.map(|(_, id)| id).collect();
            if ids.is_empty() {
                return;
            }
            for id in ids {
                let removed = Command::new("docker").args(["rmi", "--force", id]).output().unwrap();
                said = String::from_utf8_lossy(&removed.stderr).into_owned();
            }
        }
        assert!(std::thread::panicking(), "the engine keeps {}: {said}", self.name);
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        self.forget();
    }
}

fn service(image: &str) -> Value {
    json!([{ "service_name": "main", "image": image }])
}

/// The id of the image that the only container of an addon runs.
fn runs(addon: &str) -> String {
    let label = format!("label=lodger.addon={addon}");
    let container = docker(&["ps", "--no-trunc", "--quiet", "--filter", &label]);
    docker(&["inspect", "--format", "{{.Image}}", container.trim()]).trim().to_owned()
}

/// Tries to install a service of this image, which must be refused for it.
fn refused(site: &Site, image: &str) -> Ran {
    let package = site.package(json!({ "name": "bad", "version": "1.0.0", "services": service(image) }));
    let ran = site.lodger(&["--json", "install", package.to_str().unwrap(), "--yes"]);
    assert_eq!(site.lab.json(&["list"]), json!([]), "nothing half-installed");
    ran
}

#[track_caller]
fn says(ran: &Ran, words: &[&str]) {
    let error = ran.fails_with(1, "image");
    let message = error["message"].as_str().unwrap();
    for word in words {
        assert!(message.contains(word), "`{word}` in: {message}");
    }
    assert!(error["hint"].as_str().unwrap().contains("[[registry]]"), "{error}");
    assert!(!format!("{ran:?}").contains(PASSWORD), "{ran:?}");
}

#[test]
fn an_image_comes_from_the_mirror_and_stays_the_one_it_was() {
    let (site, later) = (Site::new(), Site::new());
    let shelf = Shelf::new(Registry::new(), &site);
    site.lab.policy(&shelf.mirror(""));
    let old = shelf.put("1", "old");
    let addon = site.install("kept", service(&shelf.image("1")));
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(runs(&addon), old.id);

    // The tag moves; whoever has it stays, whatever is started, made anew or fetched again.
    let new = shelf.put("1", "new");
    assert!(new.id != old.id && shelf.registry.digest(&format!("library/{}", shelf.name), "1") == new.digest);
    assert_eq!(site.lab.json(&["reconcile"]), json!([]));
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(runs(&addon), old.id);
    site.lodger(&["disable", &addon]).ok();
    shelf.forget();
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(runs(&addon), old.id, "fetched by its digest");
    docker(&["rm", "--force", &site.has("containers")[0]]);
    shelf.forget();
    assert_eq!(site.lab.json(&["reconcile"])[0]["what"], "made");
    assert_eq!(runs(&addon), old.id);

    // Who comes later has what the tag means then.
    later.lab.policy(&shelf.mirror(""));
    let other = later.install("later", service(&shelf.image("1")));
    later.lodger(&["enable", &other]).ok();
    assert_eq!((runs(&other), runs(&addon)), (new.id, old.id));
    for (site, addon) in [(&site, addon), (&later, other)] {
        site.lodger(&["disable", &addon]).ok();
        site.lodger(&["uninstall", &addon]).ok();
        site.has_nothing();
    }
}

#[test]
fn a_digest_in_the_manifest_is_the_image_whatever_its_tag_says() {
    let site = Site::new();
    let mut shelf = Shelf::new(Registry::new(), &site);
    site.lab.policy(&shelf.mirror(""));
    let old = shelf.put("1", "old");
    shelf.put("1", "new");
    let bare = format!("docker.io/library/{}@{}", shelf.name, old.digest);
    let tagged = format!("{}@{}", shelf.image("1"), old.digest);
    for (name, image) in [("bare", &bare), ("tagged", &tagged)] {
        let addon = site.install(name, service(image));
        shelf.forget();
        site.lodger(&["enable", &addon]).ok();
        assert_eq!(runs(&addon), old.id);
        site.lodger(&["disable", &addon]).ok();
    }
    // What the engine has of a mirror it need not be asked for again.
    shelf.registry.stop();
    let addon = site.install("offline", service(&bare));
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(runs(&addon), old.id);
    site.lodger(&["disable", &addon]).ok();
}

#[test]
fn an_image_that_cannot_be_had_is_named_with_its_registry() {
    let site = Site::new();
    let shelf = Shelf::new(Registry::new(), &site);
    let address = shelf.registry.address().to_owned();
    site.lab.policy(&shelf.mirror(""));
    let (old, new) = (shelf.put("1", "old"), shelf.put("2", "new"));
    let missing = shelf.image("3");
    says(&refused(&site, &missing), &[&missing, &address, "manifest unknown"]);
    let unknown = format!("docker.io/library/{}-x:1", shelf.name);
    says(&refused(&site, &unknown), &[&unknown, &address]);
    // Nothing listens there.
    let elsewhere = format!("127.0.0.1:1/{}:1", shelf.name);
    says(&refused(&site, &elsewhere), &[&elsewhere, "from 127.0.0.1:1:", "refused"]);

    let digest = |put: &Put| format!("docker.io/library/{}@{}", shelf.name, put.digest);
    let addon = site.install("kept", service(&shelf.image("2")));
    site.lodger(&["enable", &addon]).ok();
    docker(&["rm", "--force", &site.has("containers")[0]]);
    shelf.forget();
    // The registry lies: what it gives for one digest is another image. An engine may still have the manifest, never the
    // description of an image that it has removed.
    shelf.registry.answer(&new.digest, &old.digest);
    shelf.registry.answer(&new.id, &old.id);
    let repair = &site.lodger(&["--json", "reconcile"]).exits(1).json()[0];
    assert_eq!(repair["what"], "failed", "{repair}");
    let why = repair["why"].as_str().unwrap();
    assert!(why.contains(&digest(&new)) && why.contains(&address) && why.contains("verification failed"), "{why}");
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();
    let lie = digest(&new);
    says(&refused(&site, &lie), &[&lie, &address, "verification failed"]);
    site.has_nothing();
}

#[test]
fn a_password_is_for_its_registry_and_nobody_else() {
    let site = Site::new();
    let shelf = Shelf::new(Registry::with_password(), &site);
    let put = shelf.put("1", "guarded");
    let (image, address) = (shelf.image("1"), shelf.registry.address().to_owned());
    site.lab.policy(&shelf.mirror(""));
    says(&refused(&site, &image), &[&image, &address, "no basic auth credentials"]);
    let file = site.lab.write("password", "not the password\n");
    let lines = format!("user = \"{USER}\"\npassword_file = \"{}\"\n", file.display());
    site.lab.policy(&shelf.mirror(&lines));
    let ran = refused(&site, &image);
    says(&ran, &[&image, &address, "unauthorized"]);
    assert!(!format!("{ran:?}").contains("not the password"), "{ran:?}");
    std::fs::remove_file(&file).unwrap();
    let error = refused(&site, &image).fails_with(4, "io");
    assert!(error["message"].as_str().unwrap().contains(file.to_str().unwrap()), "{error}");
    std::fs::write(&file, format!("{PASSWORD}\n")).unwrap();

    // Another registry asks for a password, too.
    static TOLD: AtomicBool = AtomicBool::new(false);
    let curious = Loopback::raw(|stream| asks_for_a_password(stream, &TOLD));
    let elsewhere = format!("127.0.0.1:{}/{}:1", curious.port, shelf.name);
    says(&refused(&site, &elsewhere), &[&elsewhere, "no basic auth credentials"]);
    assert!(curious.accepted() > 0 && !TOLD.load(Ordering::Relaxed));

    let addon = site.install("guarded", service(&image));
    site.lodger(&["enable", &addon]).ok();
    assert_eq!(runs(&addon), put.id);
    site.lodger(&["disable", &addon]).ok();
    site.lodger(&["uninstall", &addon]).ok();

    // The one it is for may say what it was told, and to whom does not matter.
    let own = format!("127.0.0.1:{}", curious.port);
    site.lab.policy(&format!("[[registry]]\nname = \"{own}\"\n{lines}"));
    let ran = refused(&site, &elsewhere);
    assert!(TOLD.load(Ordering::Relaxed));
    says(&ran, &[&elsewhere, &own, "your password is [redacted]"]);
}

/// A registry that wants to be told a password, and passes it on.
fn asks_for_a_password(stream: &mut TcpStream, told: &AtomicBool) -> std::io::Result<()> {
    let mut first = [0];
    if stream.peek(&mut first)? == 1 && first[0] == 0x16 {
        // TLS: closed at once, so that it is tried without.
        return Ok(());
    }
    let head = String::from_utf8_lossy(&crate::loopback::head_of(stream)).to_ascii_lowercase();
    let (status, body) = if head.contains("authorization: ") {
        told.store(true, Ordering::Relaxed);
        (403, format!(r#"{{"errors":[{{"code":"DENIED","message":"your password is {PASSWORD}"}}]}}"#))
    } else {
        (401, "{}".to_owned())
    };
    write!(
        stream,
        "HTTP/1.1 {status} X\r\nDocker-Distribution-Api-Version: registry/2.0\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[test]
fn an_engine_that_does_not_have_the_image_fetches_the_very_same() {
    let site = Site::new();
    let shelf = Shelf::new(Registry::new(), &site);
    let second = PrivateEngine::new(&[SHELL]);
    let loopback = ["run", "--rm", "--net=host", "--cap-add=NET_ADMIN", SHELL, "ip", "link", "set", "lo", "up"];
    assert!(second.docker().args(loopback).status().unwrap().success());
    let there = shelf.registry.in_network_of(second.process());
    assert_eq!(there.address(), shelf.registry.address());
    let engine = |name: &str, socket: &str| format!("[[engine]]\nname = \"{name}\"\nsocket = \"{socket}\"\n");
    site.lab.policy(&format!(
        "[grant]\nunpinned = [\"docker.io/{SHELL}\"]\n{}{}{}",
        shelf.mirror(""),
        engine("a", "/var/run/docker.sock"),
        engine("b", &second.socket())
    ));
    // Pinned on the one engine, and when it is enabled the other has more room.
    let old = shelf.put("1", "old");
    let addon = site.install("kept", service(&shelf.image("1")));
    let filler = site.install("filler", service(SHELL));
    site.lodger(&["enable", &filler]).ok();
    shelf.put("1", "new");
    site.lodger(&["enable", &addon]).ok();
    let label = format!("label=lodger.addon={addon}");
    let listed = second.docker().args(["ps", "--quiet", "--filter", &label]).output().unwrap();
    let container = String::from_utf8(listed.stdout).unwrap();
    let image = second.docker().args(["inspect", "--format", "{{.Image}}", container.trim()]).output().unwrap();
    assert_eq!(String::from_utf8(image.stdout).unwrap().trim(), old.id);
    for addon in [&addon, &filler] {
        site.lodger(&["disable", addon]).ok();
        site.lodger(&["uninstall", addon]).ok();
    }
    site.has_nothing();
    assert_eq!(second.containers(), 0);
}

#[test]
fn how_far_a_fetch_has_come_is_told() {
    let site = Site::new();
    let shelf = Shelf::new(Registry::new(), &site);
    site.lab.policy(&shelf.mirror(""));
    shelf.put("1", "large");
    let manifest = json!({ "name": "told", "version": "1.0.0", "services": service(&shelf.image("1")) });
    let package = site.package(manifest);
    let told = Told::default();
    run(async {
        let host = site.lab.host_with(|config| told.listen(config)).await;
        host.install(host.inspect(&package).await.unwrap(), false).await.unwrap();
    });
    let step = format!("pulling {}/library/{}:1", shelf.registry.address(), shelf.name);
    let told = told.all();
    assert_eq!(told.first(), Some(&ProgressEvent::Step(step.clone())));
    assert_eq!(told.last(), Some(&ProgressEvent::Percent(100)), "{told:?}");

    // And on a terminal, which `script` is.
    site.lodger(&["uninstall", &format!("{}/told", site.namespace), "--yes"]).ok();
    shelf.forget();
    let install = format!("stty cols 200; {LODGER} install {} --yes", package.display());
    let mut script = site.lab.command_of("script", &["--quiet", "--return", "--command", &install, "/dev/null"]);
    let shown = Ran::of(&["script"], script.env("TERM", "xterm").output().unwrap()).ok();
    assert!(shown.stdout.contains(&step) && shown.stdout.contains("% "), "{shown:?}");
}
