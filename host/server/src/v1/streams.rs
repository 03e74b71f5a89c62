//! Dumps and what they are restored from: bodies of any length, as fast as the slower side.

use axum::body::Body;
use axum::extract::State;
use bytes::{Bytes, BytesMut};
use futures_util::stream::try_unfold;
use lodger::{Done, HookFailed};
use tokio::io::{AsyncReadExt as _, DuplexStream};
use tokio::task::JoinHandle;

use super::apps::Which;
use super::{Answer, ok};
use crate::body::{Asked, OfAddon, OfApp, STREAM, Streamed, plain};
use crate::gate::Caller;
use crate::problem::{Problem, Refusal};
use crate::shared::{App, ended};

/// What is held of a dump between the addon and its reader.
const BUFFER: usize = 64 << 10;

/// A dump on its way: what was read first, the rest, and how it ends.
struct Dump {
    first: Option<Bytes>,
    from: DuplexStream,
    ends: Option<JoinHandle<Result<Done<u64>, Problem>>>,
    what: String,
}

/// What is refused before the first byte has a status of its own. After it only a dump that completed has an end: of any
/// other the connection breaks off.
pub async fn dump(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Asked(Which { alias }): Asked<Which>,
) -> Answer {
    let (to, from) = tokio::io::duplex(BUFFER);
    let what = addon.to_string();
    let work = async move |host: std::sync::Arc<lodger::Host>| Ok(host.dump(&name, &addon, alias.as_ref(), to).await?);
    let ends = Some(app.start(&caller, work));
    let mut dump = Dump { first: None, from, ends, what };
    let first = dump.read().await?;
    if first.is_empty() {
        dump.ended().await?;
    }
    dump.first = Some(first);
    let body = try_unfold(dump, async |mut dump| {
        let chunk = match dump.first.take() {
            Some(first) => first,
            None => dump.read().await.map_err(|_| std::io::Error::other("the dump broke off"))?,
        };
        if chunk.is_empty() {
            dump.ended().await.map_err(|_| std::io::Error::other("the dump was not completed"))?;
            return Ok(None);
        }
        Ok::<_, std::io::Error>(Some((chunk, dump)))
    });
    Ok(plain(STREAM, Body::from_stream(body)))
}

impl Dump {
    /// The next bytes; none at the end.
    async fn read(&mut self) -> Result<Bytes, Problem> {
        let mut chunk = BytesMut::with_capacity(BUFFER);
        self.from.read_buf(&mut chunk).await.map_err(|_| Refusal::Lost)?;
        Ok(chunk.freeze())
    }

    /// Once nothing more comes: whether that was all.
    async fn ended(&mut self) -> Result<(), Problem> {
        let Some(ends) = self.ends.take() else { return Ok(()) };
        let done = ended(ends.await)?;
        done.completed(&self.what).map(drop).map_err(|failed: HookFailed| {
            tracing::warn!(addon = self.what, code = failed.code, "a dump was not completed");
            failed.into()
        })
    }
}

/// The addon's lock is held until the body has ended, or the hook's deadline is over.
pub async fn restore(
    State(app): State<App>,
    caller: Caller,
    OfApp(name): OfApp,
    OfAddon(addon): OfAddon,
    Asked(Which { alias }): Asked<Which>,
    Streamed(from): Streamed,
) -> Answer {
    let restored = app.change(&caller, async move |host| {
        let done = host.restore(&name, &addon, alias.as_ref(), from).await?;
        let bytes = done.completed(&addon)?;
        Ok(lodger::Streamed { app: name, addon, alias, bytes })
    });
    ok(&restored.await?)
}
