//! A provider of Scalingo's or Heroku's on the loopback: it does well, and for single requests whatever a test wants of it.
#![expect(clippy::disallowed_methods, reason = "the tests listen where addons ask")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};

use crate::loopback::head_of;

pub const USER: &str = "platform";
pub const PASSWORD: &str = "pr0v1der-pass";
pub const SALT: &str = "pr0v1der-salt";
/// `platform:pr0v1der-pass` in base 64.
pub const BASIC: &str = "cGxhdGZvcm06cHIwdjFkZXItcGFzcw==";

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Does {
    Well,
    /// What it is asked, and says that it is still at it.
    Pending,
    /// What it is asked, and then this is what it answers: a whole response.
    ThenSays(String),
    /// What it is asked, and closes.
    ThenCloses,
    /// What it is asked, and then nothing until its client goes away.
    ThenHangs,
    /// What it is asked, and answers without an end.
    ThenFloods,
    /// Nothing, and answers this.
    Says(u16, Value),
}

/// One resource, as it knows it.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: String,
    pub plan: String,
    pub app: String,
    pub suspended: bool,
    pub config: BTreeMap<String, String>,
}

/// What it was asked.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub head: String,
    pub body: Value,
}

#[derive(Default)]
struct State {
    held: BTreeMap<String, Held>,
    asked: Vec<Asked>,
    next: VecDeque<Does>,
    /// The id of whatever is made, in place of its own.
    always: Option<String>,
    made: usize,
}

pub struct Upstream {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Upstream {
    pub fn start() -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let theirs = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, state) = (stream.unwrap(), theirs.clone());
                // A client that goes away in the middle is what some tests want.
                std::thread::spawn(move || drop(serve(&mut stream, &state)));
            }
        });
        Upstream { port, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// What becomes of the next requests, in turn; of all further ones, what should.
    pub fn next(&self, does: impl IntoIterator<Item = Does>) {
        self.lock().next.extend(does);
    }

    pub fn calls_all(&self, id: &str) {
        self.lock().always = Some(id.to_owned());
    }

    /// By the UUIDs they were asked for with.
    pub fn held(&self) -> BTreeMap<String, Held> {
        self.lock().held.clone()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// `POST /resources` and the like, since `asked` was last emptied so.
    pub fn requests(&self) -> Vec<String> {
        let asked = std::mem::take(&mut self.lock().asked);
        asked.iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect()
    }

    pub fn base_url(&self) -> String {
        format!("http://localhost:{}/resources", self.port)
    }

    /// What it hands to Scalingo.
    pub fn scalingo(&self) -> Value {
        json!({
            "name": "Example", "username": USER, "password": PASSWORD, "sso_salt": SALT,
            "logo_url": "//cdn.example.com/logo.png", "short_description": "An example", "description": "# Example",
            "log_drain": false, "config_vars": ["EXAMPLE_URL", "EXAMPLE_PLAN"],
            "production": { "base_url": self.base_url(), "sso_url": "https://dashboard.example.com/sso" },
            "test": { "base_url": "http://localhost:1/resources", "sso_url": "http://localhost:1/sso" },
            "plans": [
                { "name": "free", "display_name": "Free", "price": 0.0, "description": "d" },
                { "name": "premium", "display_name": "Premium", "price": 30.0, "options": { "size": "512" } },
            ],
        })
    }

    /// What it hands to Heroku, in the third version of its API.
    pub fn heroku(&self) -> Value {
        json!({
            "id": "example", "name": "Example",
            "api": {
                "config_vars": ["EXAMPLE_URL", "EXAMPLE_PLAN"], "regions": ["eu"], "password": PASSWORD, "sso_salt": SALT,
                "version": "3", "requires": ["many_per_app"],
                "production": { "base_url": self.base_url(), "sso_url": "https://dashboard.example.com/login" },
                "test": { "base_url": "http://localhost:1/resources", "sso_url": "http://localhost:1/sso" },
            },
        })
    }
}

/// The lines by which an addon may ask a provider there.
pub fn policy(port: u16) -> String {
    format!("[grant]\nnetwork = [\"localhost:{port}\"]\nnetwork_addresses = [\"127.0.0.0/8\", \"::1/128\"]\n")
}

fn serve(stream: &mut TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let head = String::from_utf8_lossy(&head_of(stream)).into_owned();
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let asked = Asked { method: method.to_owned(), path: path.to_owned(), head: head.clone(), body: body.clone() };
    let (does, answer) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked);
        let does = state.next.pop_front().unwrap_or(Does::Well);
        let known = [USER, "example"].iter().any(|user| head.contains(&basic(user)));
        let answer = match &does {
            Does::Says(status, body) => (*status, body.clone()),
            _ if !known => (401, json!({ "message": "who are you?" })),
            _ => state.does(method, path, &body),
        };
        (does, answer)
    };
    match does {
        Does::Well | Does::Says(..) => stream.write_all(response(answer.0, &answer.1).as_bytes()),
        Does::Pending => {
            let pending = json!({ "id": answer.1["id"], "message": "in a moment" });
            stream.write_all(response(202, &pending).as_bytes())
        }
        Does::ThenSays(whole) => stream.write_all(whole.as_bytes()),
        Does::ThenCloses => Ok(()),
        Does::ThenHangs => {
            while stream.read(&mut [0; 64])? > 0 {}
            Ok(())
        }
        Does::ThenFloods => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            loop {
                stream.write_all(&[b' '; 65536])?;
            }
        }
    }
}

/// What proves who asks: the provider of Heroku's manifest is asked by its id.
fn basic(user: &str) -> String {
    match user {
        USER => format!("Basic {BASIC}"),
        // `example:pr0v1der-pass`
        _ => "Basic ZXhhbXBsZTpwcjB2MWRlci1wYXNz".to_owned(),
    }
}

impl State {
    fn does(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let Some(below) = path.strip_prefix("/resources") else { return (404, Value::Null) };
        let mut parts = below.split('/').skip(1);
        let (name, what) = (parts.next(), parts.next());
        let Some(name) = name else { return self.makes(body) };
        let of = |(uuid, held): (&String, &Held)| (uuid == name || held.id == name).then(|| uuid.clone());
        let Some(uuid) = self.held.iter().find_map(of) else { return (410, json!({ "message": "it is gone" })) };
        if method == "DELETE" {
            self.held.remove(&uuid);
            return (204, Value::Null);
        }
        let held = self.held.get_mut(&uuid).unwrap();
        match (method, what) {
            ("PUT", None) => {
                held.plan = body["plan"].as_str().unwrap().to_owned();
                held.config.insert("EXAMPLE_PLAN".to_owned(), held.plan.clone());
                (200, json!({ "message": format!("it is {} now", held.plan), "config": { "EXAMPLE_PLAN": held.plan } }))
            }
            ("POST", Some("suspend" | "resume")) => {
                held.suspended = what == Some("suspend");
                (200, Value::Null)
            }
            _ => (405, Value::Null),
        }
    }

    /// One for a UUID, however often.
    fn makes(&mut self, body: &Value) -> (u16, Value) {
        let (Some(uuid), Some(plan)) = (body["uuid"].as_str(), body["plan"].as_str()) else {
            return (422, json!({ "error": "a resource needs a uuid and a plan" }));
        };
        let app = body["app_id"].as_str().or(body["heroku_id"].as_str()).unwrap_or_default().to_owned();
        if !self.held.contains_key(uuid) {
            self.made += 1;
            let letter = char::from(b'a' + u8::try_from(self.made % 26).unwrap());
            let id = self.always.clone().unwrap_or_else(|| format!("res-{}", String::from(letter).repeat(8)));
            let url = format!("https://app:hush-{uuid}@{id}.example.com/");
            let config = [("EXAMPLE_URL".to_owned(), url), ("EXAMPLE_PLAN".to_owned(), plan.to_owned())].into();
            let held = Held { id, plan: plan.to_owned(), app, suspended: false, config };
            self.held.insert(uuid.to_owned(), held);
        }
        let held = &self.held[uuid];
        (201, json!({ "id": held.id, "config": held.config, "message": "there you are" }))
    }
}

pub fn response(status: u16, body: &Value) -> String {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    format!("HTTP/1.1 {status} Status\r\n{kind}Content-Length: {}\r\n\r\n{body}", body.len())
}
