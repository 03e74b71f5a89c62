//! `lodger:addon/services`: what a guest may do with its addon's own services.
//!
//! A guest names a service of its manifest; the instance follows from the hook, so that no guest can name another resource's
//! (law 9, threats 10 and 24).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::Guest;
use crate::bindings::imports::lodger::addon::services::{Address, Executed, Host};
use crate::bindings::{GuestError, Pair};
use crate::engine::{Exec, Status};
use crate::error::{Error, Kind};
use crate::manifest::{Service, StartMode};
use crate::network::{Endpoint, Endpoints};
use crate::registry::Addon;
use crate::render::Instance;
use crate::services::Services;
use crate::store::{InstanceRow, Wanted};
use crate::text::shown;

/// Bounds of the WIT package.
const OUTPUT_MAX: usize = 65_536;
const STDIN_MAX: usize = 1 << 20;
const ARGUMENTS_MAX: usize = 256;
const ARGUMENT_MAX: usize = 4096;
const VALUE_MAX: usize = 4096;
/// Commands at a time in one instance.
const EXECS_MAX: usize = 4;
/// Kept of a call's time to restart a container whose command has not ended.
const RESTART: Duration = Duration::from_secs(2);
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
    /// Where a command is at work.
    pub at_work: Option<InstanceRow>,
}

type Answer<T> = Result<T, GuestError>;

impl OwnServices {
    fn declared(&self, name: &str) -> Answer<&Service> {
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

    fn row(&self, service: &Service) -> Answer<InstanceRow> {
        let row = self.services.store.instance(&self.instance(service)?).map_err(|error| told(&error))?;
        row.ok_or_else(|| GuestError::NotFound(format!("service `{}` was not started", service.name)))
    }

    /// Whether the guest could connect to anything.
    fn dials(&self) -> bool {
        let imports = self.addon.component.iter().flat_map(|linked| &linked.facts.imports);
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

    /// The guest itself may dial the port from then on, if the instance runs and is ours: this very address, not the name
    /// alone, since another program may take the port when the container is gone (threat 24).
    async fn endpoint(&self, name: &str, port: u16) -> Answer<Address> {
        let service = self.declared(name)?;
        let undeclared = || GuestError::Denied(format!("port {port} is not in services[].ports of `{}`", service.name));
        let row = self.row(service)?;
        let (host, reached) = self.services.address(&row, port).ok_or_else(undeclared)?;
        if self.dials() {
            // Where apps reach it is known without the engine; an engine that is slow to say more must not delay that.
            let dialled = tokio::time::timeout(VERIFY, self.services.dialled(&row, port)).await;
            if let Ok(Ok(Some(address))) = dialled {
                self.endpoints.add(Endpoint { name: Some(host.clone()), address });
            }
        }
        Ok(Address { host, port: reached })
    }

    async fn exec(&mut self, name: &str, command: Vec<String>, stdin: Vec<u8>) -> Answer<Executed> {
        let bad = command.is_empty() || command.len() > ARGUMENTS_MAX || stdin.len() > STDIN_MAX;
        if bad || command.iter().any(|word| word.len() > ARGUMENT_MAX || word.contains('\0')) {
            let message = format!("1 to {ARGUMENTS_MAX} arguments of {ARGUMENT_MAX} bytes, {STDIN_MAX} bytes of stdin");
            return Err(GuestError::Invalid(message));
        }
        let row = self.row(self.declared(name)?)?;
        let turns = self.services.turns(&row.instance);
        let turn = tokio::time::timeout(self.time_left(), turns.acquire()).await;
        let timeout = self.time_left();
        // A command that was not given any time would only be started to have the container restarted.
        if turn.is_err() || timeout.is_zero() {
            let message = format!("too little time is left in this call to run a command in `{name}`");
            return Err(GuestError::Unavailable(message));
        }
        let exec = Exec { command, stdin, output_max: OUTPUT_MAX, timeout };
        // Stays so when the call ends here.
        self.at_work = Some(row.clone());
        let executed = self.services.exec(&row, &exec).await;
        self.at_work = None;
        let executed = executed.map_err(|error| told(&error))?;
        let Some(exit_code) = executed.exit_code else {
            let message = format!("the command in `{name}` had not ended in time; the service was restarted");
            return Err(GuestError::Unavailable(message));
        };
        Ok(Executed {
            exit_code: i32::try_from(exit_code).unwrap_or(-1),
            stdout: executed.stdout,
            stderr: executed.stderr,
            truncated: executed.truncated,
        })
    }

    /// After the call: ends the command that outlived it, where the engine took longer than the time kept for that.
    pub async fn end(self) {
        let Some(row) = &self.at_work else { return };
        if let Err(error) = self.services.restart(row).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(service = %row.instance.service, error, "a command may go on after its call");
        }
    }

    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now()).saturating_sub(RESTART)
    }

    async fn logs(&self, name: &str) -> Answer<String> {
        let row = self.row(self.declared(name)?)?;
        let mut log = self.services.logs(&self.addon, &row, OUTPUT_MAX).await.map_err(|error| told(&error))?;
        // Escaping has made it longer.
        log.drain(..log.ceil_char_boundary(log.len().saturating_sub(OUTPUT_MAX)));
        Ok(log)
    }
}

/// The host's error, as a guest may know it: with what was about its own services, without what the engine said.
fn told(error: &Error) -> GuestError {
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

    async fn logs(&mut self, service: String) -> wasmtime::Result<Answer<String>> {
        Ok(self.own_services()?.logs(&service).await)
    }
}

impl Services {
    /// Where commands in an instance take turns, for as long as any is at work or waits.
    fn turns(&self, instance: &Instance) -> Arc<Semaphore> {
        let mut all = self.execs.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turns| turns.strong_count() > 0);
        all.get(instance).and_then(Weak::upgrade).unwrap_or_else(|| {
            let turns = Arc::new(Semaphore::new(EXECS_MAX));
            all.insert(instance.clone(), Arc::downgrade(&turns));
            turns
        })
    }

    /// Runs a command in an instance. One that has not ended is ended by restarting the container.
    async fn exec(&self, row: &InstanceRow, exec: &Exec) -> crate::error::Result<crate::engine::Executed> {
        let engine = self.engines.get(&row.engine)?;
        let name = self.running(&*engine, row).await?;
        let executed = engine.exec(&name, exec).await?;
        if executed.left_running() {
            self.restart(row).await?;
        }
        Ok(executed)
    }

    /// Ends all that runs in an instance, at once, and starts it again.
    async fn restart(&self, row: &InstanceRow) -> crate::error::Result<()> {
        let engine = self.engines.get(&row.engine)?;
        if let Some(there) = self.own_container(&*engine, &row.instance).await? {
            engine.stop(&there.id, Duration::ZERO).await?;
            engine.start(&there.id).await?;
        }
        Ok(())
    }

    /// The address this host reaches a port at, of an instance that runs now.
    async fn dialled(&self, row: &InstanceRow, port: u16) -> crate::error::Result<Option<SocketAddr>> {
        let engine = self.engines.get(&row.engine)?;
        let there = self.own_container(&*engine, &row.instance).await?.filter(|there| there.status == Status::Running);
        Ok(there.and_then(|there| there.reached_at(port)))
    }

    /// The id of the instance's own container, which runs.
    async fn running(&self, engine: &dyn crate::engine::Engine, row: &InstanceRow) -> crate::error::Result<String> {
        let there = self.own_container(engine, &row.instance).await?;
        let running = there.filter(|there| there.status == Status::Running);
        running.map(|there| there.id).ok_or_else(|| Error::Service {
            addon: row.instance.addon.clone(),
            service: row.instance.service.clone(),
            message: "does not run".to_owned(),
            hint: format!("`lodger reconcile {}`", row.instance.addon),
        })
    }
}
