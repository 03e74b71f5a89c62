//! What a guest may import: a subset of WASI 0.2, our own interfaces, and the embedder's.
//!
//! The network is always linked, since language runtimes import it anyway; what is not granted is denied when it is used.

use wasmtime::component::{HasData, HasSelf, Linker, ResourceTable};
use wasmtime_wasi::cli::{WasiCli, WasiCliCtxView};
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksCtxView};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};
use wasmtime_wasi_http::WasiHttp;
use wasmtime_wasi_http::p2::bindings::http;

use super::{Guest, ProgressEvent};
use crate::bindings::imports::lodger::addon as ours;
use crate::grant::SettingAccess;
use crate::meter::Meter;
use crate::text::{redact, shown};
use crate::wasi_fs::{Fs, HasFs};
use crate::wasi_http::Http;
use crate::wasi_sockets::{HasSockets, Sockets};

/// Most progress events one call passes on.
pub(super) const PROGRESS_MAX: u32 = 1000;
/// Longest progress step, in bytes.
const STEP_MAX: usize = 200;

/// An embedder's own imports for its addons, beside Lodger's.
pub struct Extension {
    /// Interfaces the component may import, such as `acme:game/log`, without version.
    pub imports: Vec<String>,
    /// Interfaces the component may export in place of hooks, such as `acme:game/rules`, without version.
    pub exports: Vec<String>,
    /// Adds the functions behind `imports` to the linker.
    pub link: fn(&mut Linker<Guest>) -> wasmtime::Result<()>,
}

/// What an import is to the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Import {
    /// Always there.
    Given,
    /// Denied when it is used, unless something is granted.
    Network,
    /// Denied whatever is granted: UDP.
    Never,
    /// `lodger:addon/settings`: there when the manifest declares settings.
    Settings,
    /// `lodger:addon/services`: there when the manifest asks for `capabilities.services`.
    Services,
    Unknown,
}

const GIVEN: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "lodger:addon/progress",
    "lodger:addon/types",
];

const NETWORK: &[&str] = &[
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
];

/// Names are compared without their version; whether the version fits is for the linker to say.
pub(crate) fn classify_import(name: &str, extension: Option<&Extension>) -> Import {
    let bare = name.split('@').next().unwrap_or(name);
    if GIVEN.contains(&bare) || extension.is_some_and(|ours| ours.imports.iter().any(|import| import == bare)) {
        Import::Given
    } else if bare == "lodger:addon/settings" {
        Import::Settings
    } else if bare == "lodger:addon/services" {
        Import::Services
    } else if NETWORK.contains(&bare) {
        Import::Network
    } else if bare == "wasi:sockets/udp" || bare == "wasi:sockets/udp-create-socket" {
        Import::Never
    } else {
        Import::Unknown
    }
}

struct HasTable;

impl HasData for HasTable {
    type Data<'a> = &'a mut ResourceTable;
}

struct HasRandom;

impl HasData for HasRandom {
    type Data<'a> = Random<'a>;
}

struct Random<'a> {
    wasi: &'a mut wasmtime_wasi::random::WasiRandomCtx,
    meter: &'a mut Meter,
}

impl Guest {
    fn cli(&mut self) -> WasiCliCtxView<'_> {
        WasiCliCtxView { ctx: self.wasi.cli(), table: &mut self.table }
    }

    fn clocks(&mut self) -> WasiClocksCtxView<'_> {
        WasiClocksCtxView { ctx: self.wasi.clocks(), table: &mut self.table }
    }

    fn sockets(&mut self) -> WasiSocketsCtxView<'_> {
        WasiSocketsCtxView { ctx: self.wasi.sockets(), table: &mut self.table }
    }

    fn tcp(&mut self) -> Sockets<'_> {
        let wasi = WasiSocketsCtxView { ctx: self.wasi.sockets(), table: &mut self.table };
        Sockets { wasi, network: &mut self.network }
    }

    fn http(&mut self) -> Http<'_> {
        Http { network: &mut self.network, ctx: &mut self.http, table: &mut self.table }
    }

    fn random(&mut self) -> Random<'_> {
        Random { wasi: self.wasi.random(), meter: &mut self.meter }
    }

    fn files(&mut self) -> Fs<'_> {
        let wasi = WasiFilesystemCtxView { ctx: self.wasi.filesystem(), table: &mut self.table };
        Fs { wasi, mounts: &mut self.mounts, meter: &mut self.meter }
    }
}

pub(super) fn linker(engine: &wasmtime::Engine, extension: Option<&Extension>) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    let l = &mut linker;
    io::error::add_to_linker::<Guest, HasTable>(l, |guest| &mut guest.table)?;
    io::poll::add_to_linker::<Guest, HasTable>(l, |guest| &mut guest.table)?;
    io::streams::add_to_linker::<Guest, HasTable>(l, |guest| &mut guest.table)?;
    clocks::wall_clock::add_to_linker::<Guest, WasiClocks>(l, Guest::clocks)?;
    clocks::monotonic_clock::add_to_linker::<Guest, WasiClocks>(l, Guest::clocks)?;
    random::random::add_to_linker::<Guest, HasRandom>(l, Guest::random)?;
    random::insecure::add_to_linker::<Guest, HasRandom>(l, Guest::random)?;
    random::insecure_seed::add_to_linker::<Guest, HasRandom>(l, Guest::random)?;
    cli::exit::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::environment::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stdin::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stdout::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::stderr::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_input::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_output::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdin::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stdout::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    cli::terminal_stderr::add_to_linker::<Guest, WasiCli>(l, Guest::cli)?;
    filesystem::types::add_to_linker::<Guest, HasFs>(l, Guest::files)?;
    filesystem::preopens::add_to_linker::<Guest, HasFs>(l, Guest::files)?;
    sockets::tcp::add_to_linker::<Guest, HasSockets>(l, Guest::tcp)?;
    sockets::tcp_create_socket::add_to_linker::<Guest, HasSockets>(l, Guest::tcp)?;
    sockets::ip_name_lookup::add_to_linker::<Guest, HasSockets>(l, Guest::tcp)?;
    // Denied by the context, in which it is never allowed.
    sockets::udp::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::udp_create_socket::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::instance_network::add_to_linker::<Guest, WasiSockets>(l, Guest::sockets)?;
    sockets::network::add_to_linker::<Guest, WasiSockets>(l, &Default::default(), Guest::sockets)?;
    http::types::add_to_linker::<Guest, WasiHttp>(l, &Default::default(), |guest| guest.http().wasi())?;
    crate::wasi_http::add_handler_to_linker(l, Guest::http)?;
    ours::types::add_to_linker::<Guest, HasSelf<Guest>>(l, |guest| guest)?;
    ours::settings::add_to_linker::<Guest, HasSelf<Guest>>(l, |guest| guest)?;
    ours::progress::add_to_linker::<Guest, HasSelf<Guest>>(l, |guest| guest)?;
    ours::services::add_to_linker::<Guest, HasSelf<Guest>>(l, |guest| guest)?;
    if let Some(extension) = extension {
        (extension.link)(l)?;
    }
    Ok(linker)
}

impl random::random::Host for Random<'_> {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.draw_random(len)?;
        self.wasi.get_random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.meter.draw_random(8)?;
        self.wasi.get_random_u64()
    }
}

impl random::insecure::Host for Random<'_> {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.meter.draw_random(len)?;
        self.wasi.get_insecure_random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        self.meter.draw_random(8)?;
        self.wasi.get_insecure_random_u64()
    }
}

impl random::insecure_seed::Host for Random<'_> {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        self.wasi.insecure_seed()
    }
}

impl ours::types::Host for Guest {}

impl ours::settings::Host for Guest {
    fn get(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, ours::types::Error>> {
        Ok(self.settings.read(&name, SettingAccess::Plain).map_err(ours::types::Error::Denied))
    }

    fn secret(&mut self, name: String) -> wasmtime::Result<Result<Option<String>, ours::types::Error>> {
        Ok(self.settings.read(&name, SettingAccess::Secret).map_err(ours::types::Error::Denied))
    }
}

impl ours::progress::Host for Guest {
    fn step(&mut self, message: String) -> wasmtime::Result<()> {
        self.tell(|secrets| ProgressEvent::Step(shown(&redact(&message, secrets), STEP_MAX)));
        Ok(())
    }

    fn percent(&mut self, value: u8) -> wasmtime::Result<()> {
        self.tell(|_| ProgressEvent::Percent(value.min(100)));
        Ok(())
    }
}

impl Guest {
    fn tell(&mut self, event: impl FnOnce(&[String]) -> ProgressEvent) {
        let Some(sink) = &self.progress.sink else { return };
        if self.progress.left > 0 {
            self.progress.left -= 1;
            sink(event(self.settings.secrets()));
        }
    }
}
