//! An add-on provider on the loopback, of either dialect: one that does all that platforms ask, but for its one vice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use crate::loopback::{Loopback, head_of};

pub const PASSWORD: &str = "samyoiHissowdOnHugyorOidepguJa";
pub const SALT: &str = "esidTavOnreboudWavwoadBildyon3";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Scalingo,
    /// People are signed on by a link, as in kensa's first manifests.
    HerokuGet,
    HerokuPost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vice {
    None,
    /// Knows neither suspension nor use nor PATCH.
    Old,
    /// Answers every third request 429.
    Limits,
    /// Answers 202 and calls back.
    Later,
    /// Answers 202 and does not.
    Never,
    /// Calls back that it has given up.
    GivesUp,
    CallsBackNonsense,
    LetsAllIn,
    /// Compares as many characters as it is given.
    ComparesPrefix,
    /// Says 404 before 401.
    LooksUpFirst,
    ErrorPages,
    NoId,
    EmptyId,
    IdsLeadElsewhere,
    UndeclaredVariable,
    NumberForVariable,
    NoUrl,
    NoLogDrain,
    ForgetsUuids,
    OneForAll,
    EmptyChange,
    TakesNoPlan,
    DeleteTells,
    DeleteBreaks,
    TakesAnyToken,
    TakesLateTokens,
    TakesEarlyTokens,
    TakesTokensTwice,
    NoHeader,
    Redirects,
    Floods,
    EndlessHead,
    Garbage,
    Silent,
    HangsInTheMiddle,
    HangsOnChange,
    ClosesInTheMiddle,
    EchoesSecrets,
}

pub struct Resource {
    pub uuid: String,
    pub plan: String,
}

#[derive(Default)]
pub struct State {
    pub resources: BTreeMap<String, Resource>,
    made: usize,
    tokens: BTreeSet<String>,
    /// First lines of requests, with their bodies.
    pub asked: Vec<String>,
}

pub struct Fake {
    pub kind: Kind,
    server: Loopback,
    state: &'static Mutex<State>,
}

/// A request.
struct Asked {
    method: String,
    path: String,
    query: String,
    head: String,
    body: String,
}

/// Status, head, body.
type Answered = (u16, String, String);

impl Fake {
    pub fn start(kind: Kind, vice: Vice) -> Fake {
        // Served until the tests end.
        let state: &'static Mutex<State> = Box::leak(Box::default());
        let server = Loopback::raw(move |stream| {
            let asked = read(stream);
            let line = format!("{} {} {}", asked.method, asked.path, asked.body);
            state.lock().unwrap().asked.push(line.trim_end().to_owned());
            if let Some(ended) = break_off(stream, vice, &asked) {
                return ended;
            }
            let (status, head, body) = Provider { kind, vice, state: state.lock().unwrap() }.answer(&asked);
            let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
            let body = if status == 204 && vice != Vice::DeleteTells { String::new() } else { body };
            write!(stream, "HTTP/1.1 {status} Whatever\r\n{head}{length}\r\n{body}")
        });
        Fake { kind, server, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// Its own.
    pub fn manifest(&self) -> Value {
        let root = self.root();
        match self.kind {
            Kind::Scalingo => json!({
                "name": "Fake", "username": "user", "password": PASSWORD, "sso_salt": SALT, "logo_url": "//cdn/logo.png",
                "short_description": "a fake", "description": "# Fake", "config_vars": ["FAKE_URL", "FAKE_KEY"],
                "log_drain": true,
                "production": { "base_url": "https://fake.example/resources", "sso_url": "https://fake.example/sso" },
                "test": { "base_url": format!("{root}/resources"), "sso_url": format!("{root}/sso") },
                "plans": [
                    { "name": "free", "display_name": "Free", "price": 0.0, "description": "d" },
                    { "name": "premium", "display_name": "P", "price": 30.0, "description": "d", "options": { "size": "512" } }
                ]
            }),
            Kind::HerokuGet => self.heroku(json!("https://fake.example/"), json!(root)),
            Kind::HerokuPost => self.heroku(
                json!({ "base_url": "https://fake.example/heroku/resources", "sso_url": "https://fake.example/sso" }),
                json!({ "base_url": format!("{root}/heroku/resources"), "sso_url": format!("{root}/sso") }),
            ),
        }
    }

    fn heroku(&self, production: Value, test: Value) -> Value {
        json!({
            "id": "fake", "api": {
                "config_vars": ["FAKE_URL", "FAKE_KEY"], "regions": ["us", "eu"], "requires": ["syslog_drain", "many_per_app"],
                "password": PASSWORD, "sso_salt": SALT, "production": production, "test": test,
            }
        })
    }
}

fn read(stream: &mut TcpStream) -> Asked {
    let head = String::from_utf8_lossy(&head_of(stream)).into_owned();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body);
    let mut words = head.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    Asked { method, path, query, body: String::from_utf8_lossy(&body).into_owned(), head }
}

/// What is no answer.
fn break_off(stream: &mut TcpStream, vice: Vice, asked: &Asked) -> Option<std::io::Result<()>> {
    let endless = |stream: &mut TcpStream, begin: &[u8]| {
        stream.write_all(begin)?;
        loop {
            stream.write_all(&[b'x'; 4096])?;
        }
    };
    Some(match vice {
        Vice::Floods => endless(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\n\r\n"),
        Vice::EndlessHead => endless(stream, b"HTTP/1.1 200 OK\r\nx-long: "),
        Vice::Garbage => stream.write_all(b"\x00\xff\x1b[31mSSH-2.0-nope\r\n\r\n"),
        Vice::ClosesInTheMiddle => stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{\"id\":\"a"),
        Vice::Silent => until_gone(stream),
        Vice::HangsInTheMiddle => {
            let begun = stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 99\r\n\r\n{");
            begun.and_then(|()| until_gone(stream))
        }
        Vice::HangsOnChange if asked.method == "PUT" && asked.path.contains("addon-id-1") => until_gone(stream),
        _ => return None,
    })
}

/// A client that gives up closes its end.
fn until_gone(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read(&mut [0]).map(|_| ())
}

struct Provider {
    kind: Kind,
    vice: Vice,
    state: MutexGuard<'static, State>,
}

impl Provider {
    fn answer(&mut self, asked: &Asked) -> Answered {
        if self.vice == Vice::Limits && self.state.asked.len().is_multiple_of(3) {
            return (429, "Retry-After: 0\r\n".to_owned(), String::new());
        }
        let base = if self.kind == Kind::Scalingo { "/resources" } else { "/heroku/resources" };
        let is_sso = asked.path == "/sso" || asked.method == "GET" && !asked.query.starts_with("from=");
        if is_sso {
            return self.sign_on(asked);
        }
        let rest = asked.path.strip_prefix(base).unwrap_or("/?").trim_start_matches('/');
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        let is_there = id.is_empty() || self.state.resources.contains_key(id);
        if self.vice == Vice::LooksUpFirst && !is_there {
            return (404, String::new(), "{}".to_owned());
        }
        if !self.lets_in(&asked.head) {
            return (401, "WWW-Authenticate: Basic\r\n".to_owned(), "{}".to_owned());
        }
        let body: Value = serde_json::from_str(&asked.body).unwrap_or_default();
        match (asked.method.as_str(), id, what) {
            ("POST", "", "") => self.provision(&body),
            ("DELETE", id, "") => self.deprovision(id),
            _ if !is_there => (404, String::new(), "{}".to_owned()),
            ("PATCH", ..) | ("POST", _, _) | ("GET", ..) if self.vice == Vice::Old => {
                (404, String::new(), "<h1>no route</h1>".to_owned())
            }
            ("PUT" | "PATCH", id, "") => self.change(id, &body),
            ("POST", _, "suspend" | "resume") => (204, String::new(), String::new()),
            ("GET", _, "usage") => (200, String::new(), r#"{"disk_used":{"instance-1":10.5}}"#.to_owned()),
            _ => (404, String::new(), "{}".to_owned()),
        }
    }

    fn lets_in(&self, head: &str) -> bool {
        let user = if self.kind == Kind::Scalingo { "user" } else { "fake" };
        let given = head.lines().find_map(|line| line.strip_prefix("authorization: Basic ")).unwrap_or_default();
        let given = String::from_utf8(STANDARD.decode(given).unwrap()).unwrap();
        let (username, password) = given.split_once(':').unwrap_or_default();
        match self.vice {
            Vice::LetsAllIn => true,
            Vice::ComparesPrefix => username == user && PASSWORD.starts_with(password),
            _ => username == user && password == PASSWORD,
        }
    }

    fn provision(&mut self, body: &Value) -> Answered {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let uuid = text("uuid");
        match self.vice {
            Vice::ErrorPages => return (500, String::new(), "<html><h1>\u{1b}[31mRuby!</h1></html>".to_owned()),
            Vice::Redirects => return (302, "Location: http://192.0.2.1/\r\n".to_owned(), String::new()),
            Vice::EchoesSecrets => {
                return (
                    422,
                    String::new(),
                    json!({ "message": format!("no {PASSWORD} and {SALT}\u{202e}") }).to_string(),
                );
            }
            _ => {}
        }
        let known = self.state.resources.iter().find(|(_, resource)| resource.uuid == uuid).map(|(id, _)| id.clone());
        let known = match self.vice {
            Vice::ForgetsUuids => None,
            Vice::OneForAll => self.state.resources.keys().next().cloned(),
            _ => known,
        };
        let id = known.unwrap_or_else(|| {
            self.state.made += 1;
            format!("addon-id-{}", self.state.made)
        });
        self.state.resources.insert(id.clone(), Resource { uuid, plan: text("plan") });
        let mut answer = json!({
            "id": id, "message": "here you are",
            "config": { "FAKE_URL": "redis://:pw@localhost:1/0", "FAKE_KEY": "secret-of-the-resource" },
            "log_drain_url": "syslog://logs.example:9999",
        });
        match self.vice {
            Vice::NoId => answer["id"] = Value::Null,
            Vice::EmptyId => answer["id"] = json!(""),
            Vice::IdsLeadElsewhere => answer["id"] = json!(".."),
            Vice::UndeclaredVariable => answer["config"]["OTHER"] = json!("x"),
            Vice::NumberForVariable => answer["config"]["FAKE_KEY"] = json!(7),
            Vice::NoUrl => answer["config"]["FAKE_URL"] = json!("localhost"),
            Vice::NoLogDrain => answer["log_drain_url"] = Value::Null,
            Vice::Later | Vice::Never | Vice::GivesUp | Vice::CallsBackNonsense => {
                let config = answer["config"].take();
                let asks = callbacks(self.kind, self.vice, &config);
                let url = text("callback_url");
                std::thread::spawn(move || call_back(&url, &asks));
                return (202, String::new(), answer.to_string());
            }
            _ => {}
        }
        (201, String::new(), answer.to_string())
    }

    fn change(&mut self, id: &str, body: &Value) -> Answered {
        let plan = body["plan"].as_str().unwrap_or_default();
        if plan.is_empty() && self.vice != Vice::TakesNoPlan {
            return (422, String::new(), r#"{"error":"update resource need a plan"}"#.to_owned());
        }
        if let Some(resource) = self.state.resources.get_mut(id) {
            resource.plan = plan.to_owned();
        }
        let answer = if self.vice == Vice::EmptyChange { "" } else { r#"{"message":"changed","config":{}}"# };
        (200, String::new(), answer.to_owned())
    }

    fn deprovision(&mut self, id: &str) -> Answered {
        if self.vice == Vice::DeleteBreaks && !self.state.resources.contains_key(id) {
            return (500, String::new(), "nil".to_owned());
        }
        match self.state.resources.remove(id) {
            Some(_) if self.vice == Vice::DeleteTells => (200, String::new(), r#"{"gone":true}"#.to_owned()),
            Some(_) => (204, String::new(), String::new()),
            None => (410, String::new(), "{}".to_owned()),
        }
    }

    fn sign_on(&mut self, asked: &Asked) -> Answered {
        let told = if asked.method == "POST" { &asked.body } else { &asked.query };
        let field = |name: &str| {
            let value = told.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().to_owned()
        };
        let id = match self.kind {
            Kind::HerokuGet => asked.path.rsplit('/').next().unwrap_or_default().to_owned(),
            _ => field("id"),
        };
        let at: i64 = field("timestamp").parse().unwrap_or(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        let hex: String = Sha1::digest(format!("{id}:{SALT}:{at}")).iter().map(|byte| format!("{byte:02x}")).collect();
        let (early, late) = (self.vice == Vice::TakesEarlyTokens, self.vice == Vice::TakesLateTokens);
        let is_now = (at > now - 300 || late) && (at < now + 300 || early);
        let is_good = field("token") == hex && is_now && self.state.resources.contains_key(&id);
        let is_first = self.state.tokens.insert(field("token")) || self.vice == Vice::TakesTokensTwice;
        if !(is_good && is_first || self.vice == Vice::TakesAnyToken) {
            return match self.kind {
                Kind::Scalingo => (302, "Location: https://fake.example/\r\n".to_owned(), String::new()),
                _ => (403, String::new(), "<p>no</p>".to_owned()),
            };
        }
        let page =
            if self.vice == Vice::NoHeader { "<p>heroku-header</p>" } else { r#"<div id="heroku-header"></div>"# };
        let cookie =
            format!("Set-Cookie: session=x; HttpOnly\r\nSet-Cookie: heroku-nav-data={}\r\n", field("nav-data"));
        (200, cookie, format!("<html>{page}</html>"))
    }
}

/// What is sent to the URL that was given, and below it.
type Callback = (&'static str, &'static str, String);

/// As kensa has it, or Heroku's documents; Scalingo names no URL.
fn callbacks(kind: Kind, vice: Vice, config: &Value) -> Vec<Callback> {
    let list = config.as_object().unwrap().iter().map(|(name, value)| json!({ "name": name, "value": value }));
    let list: Vec<Value> = list.collect();
    match (vice, kind) {
        (Vice::Never, _) | (_, Kind::Scalingo) => vec![],
        (Vice::GivesUp, _) => vec![("POST", "/actions/deprovision", String::new())],
        (Vice::CallsBackNonsense, _) => vec![("PUT", "", "nonsense".to_owned())],
        (_, Kind::HerokuGet) => vec![("PUT", "", json!({ "id": "x", "config": config }).to_string())],
        (_, Kind::HerokuPost) => vec![
            ("PATCH", "/config", json!({ "config": list }).to_string()),
            ("POST", "/actions/provision", String::new()),
        ],
    }
}

fn call_back(url: &str, asks: &[Callback]) {
    for (method, what, body) in asks {
        let (authority, path) = url.trim_start_matches("http://").split_once('/').unwrap();
        // Who asked may have gone meanwhile.
        let Ok(mut stream) = TcpStream::connect(authority) else { return };
        let head =
            format!("{method} /{path}{what} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
        let _ = stream.read(&mut [0; 1024]);
    }
}
