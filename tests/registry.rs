//! A registry to pull from: Debian's own, at a port nobody else has, empty at first and gone with its test.
//!
//! It speaks plain HTTP, which engines take from 127.0.0.0/8 without being told to.
#![expect(clippy::disallowed_methods, reason = "the tests start a registry and ask it")]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::until;

/// Whom a registry with a password admits.
pub const USER: &str = "lodger";
pub const PASSWORD: &str = "secret";
/// `USER:PASSWORD` in base 64.
const CREDENTIALS: &str = "bG9kZ2VyOnNlY3JldA==";
/// The two as a line of htpasswd.
const HTPASSWD: &str = "lodger:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

pub struct Registry {
    process: Child,
    address: String,
    files: TempDir,
}

impl Registry {
    /// Open to everybody.
    pub fn new() -> Registry {
        Registry::start(false)
    }

    /// Open to [`USER`] with [`PASSWORD`].
    pub fn with_password() -> Registry {
        Registry::start(true)
    }

    fn start(password: bool) -> Registry {
        let files = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut config = json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": files.path().join("storage") }, "delete": { "enabled": true } },
            // The system chooses the port; the log says which.
            "http": { "addr": "127.0.0.1:0", "secret": "of no use with one registry" },
        });
        if password {
            let path = files.path().join("htpasswd");
            fs::write(&path, HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "tests", "path": path } });
        }
        let registry = Registry::serve(files, &config, &[]);
        let auths = json!({ "auths": { &registry.address: { "auth": CREDENTIALS } } });
        fs::write(registry.files.path().join("config.json"), auths.to_string()).unwrap();
        let expected = if password { "HTTP/1.1 401 " } else { "HTTP/1.1 200 " };
        let answer = registry.ask("/v2/", "");
        assert!(answer.starts_with(expected), "{answer}");
        registry
    }

    /// The same images at the same address, in the network that a process has for itself.
    pub fn in_network_of(&self, process: u32) -> Registry {
        let config = json!({
            "version": "0.1",
            "storage": { "filesystem": { "rootdirectory": self.files.path().join("storage") } },
            "http": { "addr": &self.address, "secret": "of no use with one registry" },
        });
        let network = format!("--net=/proc/{process}/ns/net");
        Registry::serve(TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap(), &config, &["nsenter", &network])
    }

    fn serve(files: TempDir, config: &Value, within: &[&str]) -> Registry {
        // JSON is YAML.
        let config_path = files.path().join("config.yml");
        fs::write(&config_path, config.to_string()).unwrap();
        let log = files.path().join("log");
        let words = [within, &["docker-registry", "serve"]].concat();
        let mut process = Command::new(words[0])
            .args(&words[1..])
            .arg(config_path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("docker-registry is there: run `cargo xtask engine`");
        // It listens before it says so.
        let address = until(|| {
            let log = fs::read_to_string(&log).unwrap();
            assert!(process.try_wait().unwrap().is_none(), "{log}");
            let (_, address) = log.split_once("listening on ")?;
            Some(address.split_once('"')?.0.to_owned())
        });
        Registry { process, address, files }
    }

    /// From one moment to the next.
    pub fn stop(&mut self) {
        // It fails where it has ended of itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Makes the registry lie: who asks for the manifest or the blob `digest` is given another one.
    pub fn answer(&self, digest: &str, with: &str) {
        let blob = |digest: &str| {
            let hex = digest.strip_prefix("sha256:").unwrap();
            self.files.path().join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
        };
        fs::copy(blob(with), blob(digest)).unwrap();
    }

    /// Host and port, as they stand before the name of an image.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Pushes an image of the engine as `name`, which may say a tag. Returns the digest of its manifest, `sha256:…`.
    pub fn push(&self, image: &str, name: &str) -> String {
        let reference = format!("{}/{name}", self.address);
        self.docker(&["image", "tag", image, &reference]);
        let pushed = self.docker(&["image", "push", &reference]);
        // The engine is to have nothing of it that it did not have before.
        self.docker(&["image", "rm", &reference]);
        let (_, digest) = pushed.split_once("digest: ").unwrap_or_else(|| panic!("{pushed}"));
        digest.split_once(' ').unwrap().0.to_owned()
    }

    /// What the registry itself says is the digest of the manifest of a tag.
    pub fn digest(&self, name: &str, tag: &str) -> String {
        let headers = format!(
            "Authorization: Basic {CREDENTIALS}\r\nAccept: application/vnd.docker.distribution.manifest.v2+json\r\n"
        );
        let answer = self.ask(&format!("/v2/{name}/manifests/{tag}"), &headers);
        let header = answer.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
        header.unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    /// The whole answer to a `GET`.
    fn ask(&self, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n{headers}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The engine's command line, with this registry's credentials and not those of whoever runs the tests.
    fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").arg("--config").arg(self.files.path()).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

#[test]
fn an_image_that_was_pushed_is_in_the_registry_under_its_digest_and_no_longer_tagged_for_it() {
    for registry in [Registry::new(), Registry::with_password()] {
        let pushed = registry.push("lodger-test/web:1", "sites/web:2");
        assert_eq!(pushed, registry.digest("sites/web", "2"));
        let left = registry.docker(&["image", "ls", "--quiet", &format!("{}/sites/web", registry.address())]);
        assert_eq!(left, "");
    }
}

#[test]
fn a_registry_with_a_password_gives_nothing_without_it() {
    let registry = Registry::with_password();
    registry.push("lodger-test/web:1", "web");
    let answer = registry.ask("/v2/web/manifests/latest", "");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}
