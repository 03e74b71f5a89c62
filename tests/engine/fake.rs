//! A socket that answers like an engine of any version, and keeps what it was asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

pub struct Fake {
    dir: TempDir,
    serving: Option<JoinHandle<()>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// One that is down.
    pub fn new() -> Fake {
        Fake { dir: TempDir::new().unwrap(), serving: None, asked: Arc::default() }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("engine.sock")
    }

    /// Comes up, in place of what ran before. It knows the versions of its API from `oldest` to `newest`, in the 1.x that
    /// Docker counts.
    pub fn up(&mut self, oldest: u32, newest: u32) {
        self.down();
        let listener = UnixListener::bind(self.socket()).unwrap();
        let asked = Arc::clone(&self.asked);
        self.serving = Some(tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let request = serve(stream, oldest, newest).await;
                asked.lock().unwrap().push(request);
            }
        }));
    }

    pub fn down(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        if Path::exists(&self.socket()) {
            std::fs::remove_file(self.socket()).unwrap();
        }
    }

    /// The heads of all requests since this was last asked.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// What it keeps, as Docker and as Podman write names.
const CONTAINERS: &str = r#"[{"Id":"1","Names":["/a"],"SizeRw":7,"SizeRootFs":8},{"Id":"2","Names":["b"]}]"#;
const VOLUMES: &str = r#"[{"Name":"v","UsageData":{"Size":9,"RefCount":1}},
    {"Name":"unknown","UsageData":{"Size":-1,"RefCount":-1}},{"Name":"untold","UsageData":null}]"#;

async fn serve(mut stream: UnixStream, oldest: u32, newest: u32) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let version = path.strip_prefix("/v1.").and_then(|rest| rest.split('/').next()?.parse::<u32>().ok());
    let (status, body) = match version {
        Some(version) if version > newest => (400, message(&format!("client version 1.{version} is too new"))),
        Some(version) if version < oldest => (400, message(&format!("client version 1.{version} is too old"))),
        _ if path.ends_with("/version") => {
            (200, format!(r#"{{"Version":"fake","ApiVersion":"1.{newest}","MinAPIVersion":"1.{oldest}"}}"#))
        }
        _ if path.contains("/containers/json") => (200, "[]".to_owned()),
        Some(52..) if path.contains("/system/df?") => {
            (200, format!(r#"{{"ContainerUsage":{{"Items":{CONTAINERS}}},"VolumeUsage":{{"Items":{VOLUMES}}}}}"#))
        }
        _ if path.contains("/system/df?") => {
            (200, format!(r#"{{"LayersSize":1,"Images":null,"Containers":{CONTAINERS},"Volumes":{VOLUMES}}}"#))
        }
        _ if path.contains("/images/create") => (404, message("manifest unknown")),
        _ => (404, message("page not found")),
    };
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
    head
}

fn message(text: &str) -> String {
    format!(r#"{{"message":"{text}"}}"#)
}
