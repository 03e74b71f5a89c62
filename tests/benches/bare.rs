//! The bare thing: wasmtime with the host's own engine, component pre-linked, a fresh store per call, one preopened
//! directory, on the caller's thread; and SQLite with the host's durability.

use std::path::{Path, PathBuf};

use wasmtime::Store;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime_wasi::filesystem::FsPerms;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

macro_rules! hooks {
    ($module:ident, $world:literal) => {
        pub mod $module {
            wasmtime::component::bindgen!({ path: "../../wit", world: $world, exports: { default: async } });
        }
    };
}

hooks!(setup, "setup-hooks");
hooks!(provider, "provider-hooks");
hooks!(url, "url-hooks");

pub struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

pub struct Bare {
    engine: wasmtime::Engine,
    data: PathBuf,
    setup: setup::SetupHooksPre<State>,
    provider: provider::ProviderHooksPre<State>,
    url: url::UrlHooksPre<State>,
}

impl Bare {
    pub fn new(engine: &wasmtime::Engine, wasm: &[u8], dir: &Path) -> wasmtime::Result<Bare> {
        let data = dir.join("bare");
        std::fs::create_dir(&data)?;
        let component = Component::from_binary(engine, wasm)?;
        let mut linker = Linker::<State>::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        let pre: InstancePre<State> = linker.instantiate_pre(&component)?;
        Ok(Bare {
            engine: engine.clone(),
            data,
            setup: setup::SetupHooksPre::new(pre.clone())?,
            provider: provider::ProviderHooksPre::new(pre.clone())?,
            url: url::UrlHooksPre::new(pre)?,
        })
    }

    fn store(&self, perms: FsPerms) -> wasmtime::Result<Store<State>> {
        let mut wasi = WasiCtx::builder();
        wasi.allow_blocking_current_thread(true).preopened_dir(&self.data, "/data", perms)?;
        let mut store = Store::new(&self.engine, State { wasi: wasi.build(), table: ResourceTable::new() });
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Ok(store)
    }

    pub async fn url(&self) -> wasmtime::Result<()> {
        let mut store = self.store(FsPerms::ReadOnly)?;
        let hooks = self.url.instantiate_async(&mut store).await?;
        let answer = hooks.lodger_addon_url().call_url(&mut store, "shop", "password").await?;
        accepted(answer)
    }

    pub async fn files(&self) -> wasmtime::Result<()> {
        let mut store = self.store(FsPerms::ReadWrite)?;
        let hooks = self.setup.instantiate_async(&mut store).await?;
        let answer = hooks.lodger_addon_setup().call_enable(&mut store).await?;
        accepted(answer)
    }

    pub async fn provision(&self) -> wasmtime::Result<()> {
        use provider::exports::lodger::addon::provider::ProvisionRequest;
        let request = ProvisionRequest {
            key: "new".to_owned(),
            app: "shop".to_owned(),
            alias: String::new(),
            plan: None,
            plan_options: Vec::new(),
            options: Vec::new(),
            region: None,
            log_input: None,
        };
        let mut store = self.store(FsPerms::ReadWrite)?;
        let hooks = self.provider.instantiate_async(&mut store).await?;
        let answer = hooks.lodger_addon_provider().call_provision(&mut store, &request).await?;
        accepted(answer)
    }

    pub async fn unprovision(&self) -> wasmtime::Result<()> {
        use provider::exports::lodger::addon::provider::{UnprovisionReason, UnprovisionRequest};
        let request = UnprovisionRequest { key: "none".to_owned(), id: None, reason: UnprovisionReason::Removed };
        let mut store = self.store(FsPerms::ReadWrite)?;
        let hooks = self.provider.instantiate_async(&mut store).await?;
        let answer = hooks.lodger_addon_provider().call_unprovision(&mut store, &request).await?;
        accepted(answer)
    }
}

fn accepted<T, E: std::fmt::Debug>(answer: Result<T, E>) -> wasmtime::Result<()> {
    answer.map(drop).map_err(|error| wasmtime::format_err!("the hook said {error:?}"))
}

/// Bare SQLite commits with the durability of the store: WAL, synced.
pub struct Floor(rusqlite::Connection);

impl Floor {
    pub fn new(dir: &Path) -> anyhow::Result<Floor> {
        let connection = rusqlite::Connection::open(dir.join("floor.db"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute_batch("CREATE TABLE call (id INTEGER PRIMARY KEY, note TEXT)")?;
        Ok(Floor(connection))
    }

    pub fn commit(&self, note: &str) -> anyhow::Result<()> {
        self.0.prepare_cached("INSERT INTO call (note) VALUES (?1)")?.execute([note])?;
        Ok(())
    }
}
