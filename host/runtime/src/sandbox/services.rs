//! `lodger:addon/services`: what a guest may do with its addon's own services.
//!
//! A guest names a service of its manifest; the instance follows from the hook, so that no guest can name another resource's
//! (law 9, threats 10 and 24).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::component::Resource;
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};

use super::Guest;
use crate::bindings::imports::lodger::addon::services::{Address, Executed, Host};
use crate::bindings::{GuestError, Pair};
use crate::engine::Status;
use crate::error::{Error, Kind};
use crate::manifest::{Service, StartMode};
use crate::network::{Endpoint, Endpoints, Runs};
use crate::registry::Addon;
use crate::render::Instance;
use crate::services::{AtWork, Services};
use crate::store::{InstanceRow, Wanted};
use crate::text::shown;

/// Bounds of the WIT package.
pub(super) const OUTPUT_MAX: usize = 65_536;
const VALUE_MAX: usize = 4096;
/// How long an engine may take to say whether an instance runs.
const VERIFY: Duration = Duration::from_secs(2);

/// The services of one addon, as one call may use them.
pub(crate) struct OwnServices {
    pub services: Arc<Services>,
    pub addon: Arc<Addon>,
    /// The resource the hook is about.
    pub resource: Option<String>,
    /// The engine that was chosen for what this call starts, where a plugin has chosen one.
    pub chosen: Option<String>,
    /// Whether the hook may start and stop.
    pub mutating: bool,
    pub deadline: Instant,
    /// What of it the guest may dial itself.
    pub endpoints: Endpoints,
    /// The command that is at work.
    pub at_work: Option<AtWork>,
}

pub(super) type Answer<T> = Result<T, GuestError>;

impl OwnServices {
    pub(super) fn declared(&self, name: &str) -> Answer<&Service> {
        let services = &self.addon.manifest.services;
        let found = services.iter().find(|service| service.name.as_str() == name);
        found.ok_or_else(|| GuestError::NotFound(format!("the manifest declares no service `{}`", shown(name, 60))))
    }

    fn instance(&self, service: &Service) -> Answer<Instance> {
        let resource = match service.start {
            StartMode::Enable | StartMode::Manual => String::new(),
            StartMode::Provision => self.resource.clone().ok_or_else(|| {
                let message =
                    format!("service `{}` has an instance per resource, and this hook is about none", service.name);
                GuestError::NotFound(message)
            })?,
        };
        Ok(Instance { addon: self.addon.id.clone(), service: service.name.clone(), resource })
    }

    pub(super) fn row(&self, service: &Service) -> Answer<InstanceRow> {
        let row = self.services.store.instance(&self.instance(service)?).map_err(|error| told(&error))?;
        row.ok_or_else(|| GuestError::NotFound(format!("service `{}` was not started", service.name)))
    }

    /// Whether the guest could connect to anything.
    fn dials(&self) -> bool {
        let imports = self.addon.component().into_iter().flat_map(|linked| &linked.facts.imports);
        imports.into_iter().any(|import| import.starts_with("wasi:sockets/") || import.starts_with("wasi:http/"))
    }

    fn to_change(&self, name: &str) -> Answer<&Service> {
        if !self.mutating {
            return Err(GuestError::Denied("services are started and stopped in mutating hooks only".to_owned()));
        }
        let service = self.declared(name)?;
        if service.start == StartMode::Enable {
            let message =
                format!("service `{}` starts and stops with the addon: its `start` is \"enable\"", service.name);
            return Err(GuestError::Denied(message));
        }
        Ok(service)
    }

    async fn start(&self, name: &str, environment: Vec<Pair>) -> Answer<()> {
        let service = self.to_change(name)?;
        let mut values = BTreeMap::new();
        for Pair { name, value } in environment {
            if !service.environment.contains_key(&name) {
                let message = format!("`{}` is not in services[].environment of addon.json", shown(&name, 60));
                return Err(GuestError::Denied(message));
            }
            if value.len() > VALUE_MAX || value.contains('\0') {
                return Err(GuestError::Invalid(format!("the value of `{name}` holds NUL or over {VALUE_MAX} bytes")));
            }
            values.insert(name, value);
        }
        let instance = self.instance(service)?;
        let chosen = self.chosen.as_deref();
        self.services.run(&self.addon, &instance, Some(&values), chosen).await.map_err(|error| told(&error))
    }

    async fn stop(&self, name: &str) -> Answer<()> {
        let service = self.to_change(name)?;
        let instance = self.instance(service)?;
        let stop = async {
            self.services.store.set_wanted(&instance, Wanted::Stopped)?;
            self.services.reconcile(&self.addon.id, Some(&self.addon)).await
        };
        stop.await.map(drop).map_err(|error| told(&error))
    }

    /// The guest itself may dial the port from then on, while the instance runs and is ours: this very address, not the name
    /// alone, and not without asking the engine again, since another program may take the port when the container is gone
    /// (threat 24).
    async fn endpoint(&self, name: &str, port: u16) -> Answer<Address> {
        let service = self.declared(name)?;
        let undeclared = || GuestError::Denied(format!("port {port} is not in services[].ports of `{}`", service.name));
        let row = self.row(service)?;
        let (host, reached) = self.services.address(&row, port).ok_or_else(undeclared)?;
        // Where apps reach it is known without the engine; one that is slow to say more must not delay that.
        if self.dials()
            && let Some(address) = dialled(&self.services, &row, port).await
        {
            let services = self.services.clone();
            let runs: Runs = Arc::new(move || {
                let (services, row) = (services.clone(), row.clone());
                Box::pin(async move { dialled(&services, &row, port).await == Some(address) })
            });
            self.endpoints.add(Endpoint { name: Some(host.clone()), address, runs });
        }
        Ok(Address { host, port: reached })
    }

    /// After the call: ends the command that outlived it, where the engine took longer than the time kept for that. What
    /// cannot be ended now stays noted, and is ended by whoever looks after the instance next.
    pub async fn end(self) {
        let Some(at_work) = self.at_work else { return };
        let service = at_work.row.instance.service.clone();
        let ended = self.services.restart(&at_work.row).await.and_then(|()| at_work.ended());
        if let Err(error) = ended {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%service, error, "a command goes on after its call, until its service is looked after");
        }
    }

    async fn logs(&self, name: &str) -> Answer<String> {
        let row = self.row(self.declared(name)?)?;
        let mut log = self.services.logs(&self.addon, &row, OUTPUT_MAX).await.map_err(|error| told(&error))?;
        // Escaping has made it longer.
        log.drain(..log.ceil_char_boundary(log.len().saturating_sub(OUTPUT_MAX)));
        Ok(log)
    }
}

/// Where this host reaches a port of an instance that runs now, as far as its engine says so soon.
async fn dialled(services: &Services, row: &InstanceRow, port: u16) -> Option<SocketAddr> {
    let asked = async {
        let engine = services.engines.get(&row.engine)?;
        let there =
            services.own_container(&*engine, &row.instance).await?.filter(|there| there.status == Status::Running);
        Ok::<_, Error>(there.and_then(|there| services.reached_at(row, &there, port)))
    };
    tokio::time::timeout(VERIFY, asked).await.ok()?.ok()?
}

/// The host's error, as a guest may know it: with what was about its own services, without what the engine said.
pub(super) fn told(error: &Error) -> GuestError {
    match error {
        Error::ServiceNotReady { .. } | Error::Service { .. } => GuestError::Unavailable(error.to_string()),
        _ if error.kind() == Kind::Host => GuestError::Unavailable(error.code().to_owned()),
        _ => GuestError::Denied(error.to_string()),
    }
}

impl Guest {
    fn own_services(&mut self) -> wasmtime::Result<&mut OwnServices> {
        self.services.as_mut().ok_or_else(|| wasmtime::format_err!("this call is given no services"))
    }
}

impl Host for Guest {
    async fn start(&mut self, service: String, environment: Vec<Pair>) -> wasmtime::Result<Answer<()>> {
        Ok(self.own_services()?.start(&service, environment).await)
    }

    async fn stop(&mut self, service: String) -> wasmtime::Result<Answer<()>> {
        Ok(self.own_services()?.stop(&service).await)
    }

    async fn endpoint(&mut self, service: String, port: u16) -> wasmtime::Result<Answer<Address>> {
        Ok(self.own_services()?.endpoint(&service, port).await)
    }

    async fn exec(
        &mut self,
        service: String,
        command: Vec<String>,
        stdin: Vec<u8>,
    ) -> wasmtime::Result<Answer<Executed>> {
        Ok(self.own_services()?.exec(&service, command, stdin).await)
    }

    async fn pipe(
        &mut self,
        service: String,
        command: Vec<String>,
        stdin: Option<Resource<DynInputStream>>,
        stdout: Option<Resource<DynOutputStream>>,
    ) -> wasmtime::Result<Answer<Executed>> {
        // Out of the table while they are used: the guest waits, and nobody else can ask for them.
        let (mut from, mut to) = (None, None);
        if let Some(stdin) = &stdin {
            from = Some(std::mem::replace(self.table.get_mut(stdin)?, Box::new(ClosedInputStream)));
        }
        if let Some(stdout) = &stdout {
            to = Some(std::mem::replace(self.table.get_mut(stdout)?, Box::new(ClosedOutputStream)));
        }
        let answer = self.own_services()?.pipe(&service, command, from.as_mut(), to.as_mut()).await;
        if let (Some(stdin), Some(from)) = (&stdin, from) {
            *self.table.get_mut(stdin)? = from;
        }
        if let (Some(stdout), Some(to)) = (&stdout, to) {
            *self.table.get_mut(stdout)? = to;
        }
        Ok(answer)
    }

    async fn logs(&mut self, service: String) -> wasmtime::Result<Answer<String>> {
        Ok(self.own_services()?.logs(&service).await)
    }
}

impl Services {
    /// Ends all that runs in an instance, at once, and starts it again.
    pub(super) async fn restart(&self, row: &InstanceRow) -> crate::error::Result<()> {
        let engine = self.engines.get(&row.engine)?;
        if let Some(there) = self.own_container(&*engine, &row.instance).await? {
            engine.stop(&there.id, Duration::ZERO).await?;
            engine.start(&there.id).await?;
        }
        Ok(())
    }
}
