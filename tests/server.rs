//! The server: the real binary on a port of its own, asked over plain sockets, so that a test can say anything.
#![expect(clippy::disallowed_methods, reason = "the tests ask the server, and start it")]

mod access;
mod anything;
mod api;
mod bad_input;
mod end;
mod events;
pub mod manager;
pub mod market;
mod openapi;
mod operations;
mod providers;
mod remote;
mod shop;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::{Value, json};

use crate::support::{Lab, Ran};

const PACKAGE: &str = "application/vnd.lodger.package+gzip";

/// A server at work; killed when it is dropped.
pub struct Serving {
    child: Option<Child>,
    address: String,
    /// Of a token that may do everything.
    token: String,
}

/// What was answered.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    head: String,
    body: Vec<u8>,
    /// The body came to its end; else the connection broke off.
    whole: bool,
}

impl Serving {
    /// In a home that may hold something already.
    pub fn start(lab: &Lab) -> Serving {
        Serving::start_with(lab, &[], &[])
    }

    fn start_with(lab: &Lab, args: &[&str], environment: &[(&str, &str)]) -> Serving {
        Serving::try_start(lab, args, environment).unwrap()
    }

    /// `None` where it has died before it listened.
    fn try_start(lab: &Lab, args: &[&str], environment: &[(&str, &str)]) -> Option<Serving> {
        let token = token(lab, "manage");
        let mut command = lab.command(&[&["--json", "serve", "--listen", "127.0.0.1:0"], args].concat());
        let log = File::options().create(true).append(true).open(lab.path("log")).unwrap();
        let mut child = command.envs(environment.iter().copied()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            child.wait().unwrap();
            return None;
        }
        let listening: Value = serde_json::from_str(&line).unwrap();
        let address = listening["listening"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        Some(Serving { child: Some(child), address, token })
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).unwrap()
    }

    /// Sends a request and does not wait for its answer.
    fn send(&self, method: &str, path: &str, more: &str, body: &[u8]) -> TcpStream {
        self.send_over(self.connect(), method, path, more, body)
    }

    /// `None` where the server has died.
    fn try_ask(&self, method: &str, path: &str, more: &str, body: &[u8]) -> Option<Reply> {
        let stream = TcpStream::connect(&self.address).ok()?;
        let more = format!("{}{more}", self.bearer());
        Some(Reply::read(self.send_over(stream, method, path, &more, body))).filter(|reply| reply.status != 0)
    }

    fn send_over(&self, mut stream: TcpStream, method: &str, path: &str, more: &str, body: &[u8]) -> TcpStream {
        let (address, length) = (&self.address, body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        let length = if method == "GET" { String::new() } else { format!("Content-Length: {length}\r\n") };
        // The server may refuse what it has read only the head of.
        let _ = stream.write_all(format!("{head}{length}{more}\r\n").as_bytes()).and_then(|()| stream.write_all(body));
        stream
    }

    pub fn ask(&self, method: &str, path: &str, more: &str, body: &[u8]) -> Reply {
        let reply = Reply::read(self.send(method, path, more, body));
        openapi::assert_documented(method, path, &reply);
        reply
    }

    /// As whoever has this token.
    fn as_(&self, token: &str, method: &str, path: &str, body: &Value) -> Reply {
        let more = format!("Authorization: Bearer {token}\r\nContent-Type: application/json\r\n");
        self.ask(method, path, &more, body.to_string().as_bytes())
    }

    pub fn get(&self, path: &str) -> Reply {
        self.as_(&self.token, "GET", path, &json!({}))
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.as_(&self.token, "POST", path, body)
    }

    fn put(&self, path: &str, body: &Value) -> Reply {
        self.as_(&self.token, "PUT", path, body)
    }

    pub fn delete(&self, path: &str, body: &Value) -> Reply {
        self.as_(&self.token, "DELETE", path, body)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    /// Gives it a package, which `accepts` the grant where it is not empty.
    fn install(&self, packed: &[u8], accepts: &str) -> Reply {
        let query = if accepts.is_empty() { String::new() } else { format!("?accept_grant={accepts}") };
        let more = format!("{}Content-Type: {PACKAGE}\r\n", self.bearer());
        self.ask("POST", &format!("/v1/addons{query}"), &more, packed)
    }

    /// The same with a grant that was shown, and enabled.
    fn install_and_enable(&self, packed: &[u8], addon: &str) {
        let grant = self.install(packed, "").is(409).json()["grant"]["digest"].as_str().unwrap().to_owned();
        self.install(packed, &grant).is(201);
        self.post(&format!("/v1/addons/{addon}/enable"), &json!({})).is(200);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let child = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_raw(child).unwrap(), signal).unwrap();
    }

    fn wait(mut self) -> Ran {
        Ran::of(&["serve"], self.child.take().unwrap().wait_with_output().unwrap())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Reply {
    fn read(mut stream: TcpStream) -> Reply {
        let mut bytes = Vec::new();
        // What came before a connection was reset counts.
        let _ = stream.read_to_end(&mut bytes);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Reply { status: 0, head: String::new(), body: bytes, whole: false };
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let (body, whole) = match head.contains("transfer-encoding: chunked") {
            true => unchunk(&bytes[end + 4..]),
            false => (bytes[end + 4..].to_vec(), true),
        };
        Reply { status, head, body, whole }
    }

    #[track_caller]
    pub fn is(self, status: u16) -> Reply {
        assert!(self.status == status && self.whole, "{} {}", self.status, String::from_utf8_lossy(&self.body));
        self
    }

    /// A problem with this code.
    #[track_caller]
    pub fn refuses(self, status: u16, code: &str) -> Value {
        assert!(self.head.contains("content-type: application/problem+json"), "{self:?}");
        let problem = self.is(status).json();
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)), "{problem}");
        assert_eq!(problem["type"], format!("urn:lodger:problem:{code}"));
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        problem
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Server-sent events, as they come.
pub struct Listening {
    stream: BufReader<TcpStream>,
    text: String,
}

/// One of them.
#[derive(Debug, PartialEq)]
pub struct Sent {
    id: Option<u64>,
    name: String,
    data: Value,
}

impl Serving {
    fn listen(&self, path: &str) -> Listening {
        self.listen_as(&self.token, path, "")
    }

    fn listen_as(&self, token: &str, path: &str, more: &str) -> Listening {
        let more = format!("Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n{more}");
        let mut stream = BufReader::new(self.send("GET", path, &more, b""));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
        }
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
        Listening { stream, text: String::new() }
    }
}

impl Listening {
    /// Waits for the next; `None` where they have come to their end.
    fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if !block.starts_with(':') {
                    return Some(Sent::of(&block));
                }
            } else if !self.read_chunk() {
                assert_eq!(self.text, "", "an event broke off");
                return None;
            }
        }
    }

    fn read_chunk(&mut self) -> bool {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).expect("the events have an end, or go on");
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        self.text.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
        size > 0
    }

    /// All that is left, up to the end.
    fn rest(mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

impl Sent {
    fn of(block: &str) -> Sent {
        let mut sent = Sent { id: None, name: String::new(), data: Value::Null };
        for line in block.lines() {
            match line.split_once(": ").unwrap() {
                ("id", id) => sent.id = Some(id.parse().unwrap()),
                ("event", name) => sent.name = name.to_owned(),
                ("data", data) => sent.data = serde_json::from_str(data).unwrap(),
                _ => panic!("{block}"),
            }
        }
        sent
    }
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return (body, true);
        }
        if rest.len() < size + 2 {
            return (body, false);
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// Makes a token.
fn token(lab: &Lab, scopes: &str) -> String {
    lab.json(&["token", "create", "--scope", scopes])["token"].as_str().unwrap().to_owned()
}

/// The package of a directory, as an archive.
fn packed(lab: &Lab, dir: &str) -> Vec<u8> {
    let to = lab.path("packed.tar.gz");
    lab.lodger(&["pack", dir, "--output", to.to_str().unwrap()]).ok();
    std::fs::read(to).unwrap()
}

/// What the server has written of itself.
fn log(lab: &Lab) -> String {
    std::fs::read_to_string(lab.path("log")).unwrap()
}

/// A server that was not asked anything yet, for what ends at once.
fn refused(lab: &Lab, args: &[&str]) -> Value {
    let command = lab.command(&[&["--json", "serve"], args].concat()).stderr(Stdio::piped()).output().unwrap();
    Ran::of(args, command).json()["error"].clone()
}
