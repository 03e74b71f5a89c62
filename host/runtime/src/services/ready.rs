//! Waiting until a service that runs also serves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt as _;

use super::{LOG_KEPT, Services};
use crate::engine::{Container, Engine, Exec, Status};
use crate::error::{Error, Result};
use crate::manifest::{Probe, Service};
use crate::registry::Addon;
use crate::store::InstanceRow;

/// Between two looks: short at first, since most services are ready soon.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How long one probe may take.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// A connection that lives this long was taken by the service, not by an engine's proxy that closes it at once.
const HELD: Duration = Duration::from_millis(150);
/// A service without a probe has started when it still runs after this.
const SETTLED: Duration = Duration::from_millis(250);

impl Services {
    /// # Errors
    /// [`Error::ServiceNotReady`] with the end of its log, when it ends or its time is over.
    pub(super) async fn wait_ready(
        &self,
        engine: &dyn Engine,
        addon: &Addon,
        service: &Service,
        row: &InstanceRow,
    ) -> Result<()> {
        let began = Instant::now();
        let name = row.instance.container_name(&self.marks());
        let timeout = service.ready.as_ref().map_or(SETTLED, |ready| ready.timeout);
        let mut pause = PAUSE_MIN;
        loop {
            let there = engine.container(&name).await?;
            let why = match there.as_ref().map(|container| (container, container.status)) {
                None => "its container was removed".to_owned(),
                Some((_, Status::Exited(code))) => match code {
                    Some(code) => format!("it ended with exit code {code}"),
                    None => "it ended".to_owned(),
                },
                Some((container, Status::Running)) => match &service.ready {
                    Some(ready) if self.answers(engine, row, container, &ready.probe).await? => return Ok(()),
                    None if began.elapsed() >= timeout => return Ok(()),
                    _ if began.elapsed() < timeout => String::new(),
                    _ => format!("it was not ready within {} ms", timeout.as_millis()),
                },
                Some(_) if began.elapsed() < timeout.max(PROBE_MAX) => String::new(),
                Some(_) => "it did not start".to_owned(),
            };
            if !why.is_empty() {
                let log = match there {
                    Some(container) => self.readable(&engine.logs(&container.id, LOG_KEPT).await?, addon, row)?,
                    None => String::new(),
                };
                return Err(Error::ServiceNotReady {
                    addon: addon.id.clone(),
                    service: service.name.clone(),
                    why,
                    log,
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn answers(
        &self,
        engine: &dyn Engine,
        row: &InstanceRow,
        container: &Container,
        probe: &Probe,
    ) -> Result<bool> {
        match probe {
            Probe::Exec(command) => {
                let exec = Exec { command: command.clone(), output_max: 0, timeout: PROBE_MAX, ..Exec::default() };
                // Between two looks the container may have ended: the next look tells.
                Ok(engine.exec(&container.id, &exec).await.is_ok_and(|executed| executed.exit_code == Some(0)))
            }
            Probe::Port(port) => match self.reached_at(row, container, *port) {
                Some(address) => Ok(self.holds(address).await),
                None if self.engines.is_remote(&row.engine) => Err(Error::Service {
                    addon: row.instance.addon.clone(),
                    service: row.instance.service.clone(),
                    message: format!("its port {port} on engine `{}` is not reached from this machine", row.engine),
                    hint: format!(
                        "`ready` of addon.json with `exec`, or reach = \"host\" in lodger.toml and `apps_address` of [[engine]] `{}`",
                        row.engine
                    ),
                }),
                None => Ok(false),
            },
        }
    }

    /// Whether somebody takes a connection and keeps it.
    async fn holds(&self, address: SocketAddr) -> bool {
        let until = tokio::time::Instant::now() + PROBE_MAX;
        let Ok(mut stream) = self.outbound.connect_exactly(address, until).await else { return false };
        match tokio::time::timeout(HELD, stream.read(&mut [0; 1])).await {
            // It says nothing, and waits to be asked.
            Err(_) => true,
            Ok(read) => read.is_ok_and(|bytes| bytes > 0),
        }
    }
}
