//! What a request costs beside the bare framework, which answers the same bytes from the same database.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::response::IntoResponse;
use axum::routing::{get, put};
use axum::{Router, body::Bytes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rusqlite::OpenFlags;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::bare::{Bare, Floor};
use crate::{Bench, Figures, ROUNDS, TURN, Target, any, compare, component, median};

/// How the benchmark starts itself as the bare server of a home.
pub const SERVE_BARE: &str = "--serve-bare";

/// That read at a time, each on a connection that stays.
const CLIENTS: usize = 8;

const READ: &str = "/v1/apps/shop";
const WANTED: &[u8] = b"{}";

pub async fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let Bench { host, home, .. } = Bench::new(tempfile::tempdir()?).await?;
    let bare = Bare::new(host.engine(), &std::fs::read(component())?, home.path()).map_err(any)?;
    let floor = Floor::new(home.path())?;
    drop(host);
    let dir = home.path().join("home");
    let lodger = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lodger"));
        command.arg("--json").arg("--home").arg(&dir).args(arguments);
        command
    };
    let made: Value = serde_json::from_slice(&lodger(&["token", "create", "--scope", "manage"]).output()?.stdout)?;
    let token = made.get("token").and_then(Value::as_str).context("no token")?;
    let ours = Server::start(&mut lodger(&["serve", "--listen", "127.0.0.1:0"]), token)?;
    let mut command = Command::new(std::env::current_exe()?);
    let theirs = Server::start(command.arg(SERVE_BARE).arg(&dir), token)?;

    let (said, expected) = (ours.connect().await?.get().await?, theirs.connect().await?.get().await?);
    ensure!(said == expected, "{said:?} is answered, and {expected:?} by the bare server");
    let (mut alone, mut served, mut ratio) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (a, b) = (theirs.per_second().await?, ours.per_second().await?);
        // The first warms both up.
        if round > 0 {
            alone.push(a);
            served.push(b);
            ratio.push(b / a);
        }
    }
    figures.add("http_read_bare_per_second", median(alone), None);
    figures.add("http_read_per_second", median(served), None);
    figures.add("http_read_over_bare", median(ratio), Some(Target::AtLeast(0.8)));

    let (mut to_us, mut to_them) = (ours.connect().await?, theirs.connect().await?);
    let floored = async || {
        floor.commit("started")?;
        bare.provision().await.map_err(any)?;
        floor.commit("finished")?;
        to_them.put("/bare").await
    };
    let mut apps = 0;
    let provisioned = async || {
        apps += 1;
        to_us.put(&format!("/v1/apps/app-{apps}/addons/local/bench")).await
    };
    let (floor_us, us, ratio) = compare(floored, provisioned).await?;
    figures.add("http_provision_floor_us", floor_us, None);
    figures.add("http_provision_us", us, None);
    figures.add("http_provision_over_floor", ratio, Some(Target::AtMost(1.4)));

    for dialect in ["scalingo", "heroku"] {
        let asked = ["provider", "credentials", "local/bench", "--dialect", dialect];
        let known: Value = serde_json::from_slice(&lodger(&asked).output()?.stdout)?;
        let text = |key: &str| known.get(key).and_then(Value::as_str).context("no credentials");
        let proof = format!("Basic {}", STANDARD.encode(format!("{}:{}", text("username")?, text("password")?)));
        let path = format!("/providers/local/bench/{dialect}/resources");
        let mut orders = ours.connect().await?;
        let mut number = 0;
        let natively = async || {
            apps += 1;
            to_us.put(&format!("/v1/apps/app-{apps}/addons/local/bench")).await
        };
        let ordered = async || {
            number += 1;
            // Each of an app of its own, as the ones they are compared with are.
            let (uuid, app) = (format!("{dialect}-{number}"), format!("app-{number}"));
            let order = json!({ "uuid": uuid, "app_id": app, "plan": "default" });
            orders.ask(Method::POST, &path, &proof, order.to_string().into()).await.map(drop)
        };
        let (_, us, ratio) = compare(natively, ordered).await?;
        figures.add(if dialect == "heroku" { "order_heroku_us" } else { "order_scalingo_us" }, us, None);
        let over = if dialect == "heroku" { "order_heroku_over_http" } else { "order_scalingo_over_http" };
        figures.add(over, ratio, None);
    }
    Ok(())
}

/// A server in a process of its own; ended when it is dropped.
struct Server {
    child: Child,
    address: String,
    token: String,
}

impl Server {
    fn start(command: &mut Command, token: &str) -> anyhow::Result<Server> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let mut server = Server { child, address: String::new(), token: token.to_owned() };
        let mut line = String::new();
        BufReader::new(server.child.stdout.as_mut().context("no stdout")?).read_line(&mut line)?;
        let listening: Value = serde_json::from_str(&line).context("the server does not listen")?;
        let url = listening.get("listening").and_then(Value::as_str).context("no address")?;
        server.address = url.replace("http://", "");
        Ok(server)
    }

    async fn connect(&self) -> anyhow::Result<Connection<'_>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Connection { server: self, sender })
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    /// Answers, with all clients asking again as soon as they have one.
    async fn per_second(&self) -> anyhow::Result<f64> {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(self.connect().await?);
        }
        let began = Instant::now();
        let asking = clients.iter_mut().map(async |client| {
            let mut answers = 0u32;
            while began.elapsed() < TURN {
                client.get().await?;
                answers += 1;
            }
            anyhow::Ok(answers)
        });
        let answers: u32 = futures_util::future::try_join_all(asking).await?.iter().sum();
        Ok(f64::from(answers) / began.elapsed().as_secs_f64())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Connection<'a> {
    server: &'a Server,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection<'_> {
    async fn get(&mut self) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, READ, &self.server.bearer(), Bytes::new()).await
    }

    async fn put(&mut self, path: &str) -> anyhow::Result<()> {
        self.ask(Method::PUT, path, &self.server.bearer(), Bytes::from_static(WANTED)).await.map(drop)
    }

    async fn ask(&mut self, method: Method, path: &str, proof: &str, body: Bytes) -> anyhow::Result<Bytes> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.server.address)
            .header(AUTHORIZATION, proof)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

/// The bare framework: a connection to the store, one statement, and its rows as JSON.
pub async fn serve_bare(home: &Path) -> anyhow::Result<()> {
    let store = rusqlite::Connection::open_with_flags(home.join("lodger.db"), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let router = Router::new()
        .route(READ, get(read))
        .route("/bare", put(async |body: Bytes| serde_json::from_slice::<Value>(&body).map_or("", |_| "{}")))
        .with_state(Arc::new(Mutex::new(store)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "listening": format!("http://{}", listener.local_addr()?) }));
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

#[derive(serde::Serialize)]
struct Shown {
    app: String,
    addon: String,
    id: Option<String>,
    plan: Option<String>,
    state: String,
    variables: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    created_at: i64,
}

async fn read(State(store): State<Arc<Mutex<rusqlite::Connection>>>) -> Result<impl IntoResponse, StatusCode> {
    let store = store.lock().await;
    let rows = || -> rusqlite::Result<Vec<Shown>> {
        let sql =
            "SELECT app, addon, guest_id, plan, state, variables, message, created_at FROM resource WHERE app = ?1";
        let mut statement = store.prepare_cached(sql)?;
        let row = |row: &rusqlite::Row| {
            let variables: String = row.get(5)?;
            Ok(Shown {
                app: row.get(0)?,
                addon: row.get(1)?,
                id: row.get(2)?,
                plan: row.get(3)?,
                state: row.get(4)?,
                variables: serde_json::from_str(&variables).unwrap_or_default(),
                message: row.get(6)?,
                created_at: row.get(7)?,
            })
        };
        statement.query_map(["shop"], row)?.collect()
    };
    let rows = rows().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let body = serde_json::to_vec(&rows).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, "application/json")], body))
}
