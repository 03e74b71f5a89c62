//! The engines the policy names, connected to when first needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::policy::EngineAt;

pub(crate) struct Engines {
    at: Vec<EngineAt>,
    connected: Mutex<BTreeMap<String, Arc<dyn Engine>>>,
    /// Told when there is one more of them.
    pub one_more: Arc<Notify>,
}

impl Engines {
    pub fn new(at: Vec<EngineAt>) -> Engines {
        Engines { at, connected: Mutex::default(), one_more: Arc::default() }
    }

    /// Whether its ports are those of another machine.
    pub fn is_remote(&self, name: &str) -> bool {
        self.at.iter().any(|engine| engine.name.as_str() == name && engine.is_remote())
    }

    pub fn names(&self) -> Vec<String> {
        self.at.iter().map(|engine| engine.name.to_string()).collect()
    }

    /// Those that this process has spoken to.
    pub fn connected(&self) -> Vec<Arc<dyn Engine>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Those of the policy.
    pub fn all(&self) -> &[EngineAt] {
        &self.at
    }

    /// The one engine there is; `None` where there are several.
    pub fn only(&self) -> Option<String> {
        match &self.at[..] {
            [only] => Some(only.name.to_string()),
            _ => None,
        }
    }

    /// The engines that publish ports on the machine this one does.
    pub fn on_machine_of(&self, name: &str) -> Vec<String> {
        if self.is_remote(name) {
            return vec![name.to_owned()];
        }
        let here = self.at.iter().map(|engine| engine.name.to_string());
        here.filter(|other| !self.is_remote(other)).chain([name.to_owned()]).collect()
    }

    /// # Errors
    /// [`Error::UnknownEngine`] where the policy names it no more, or this build has none.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Engine>> {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = connected.get(name) {
            return Ok(engine.clone());
        }
        let unknown = || Error::UnknownEngine { engine: name.to_owned() };
        let at = self.at.iter().find(|engine| engine.name.as_str() == name).ok_or_else(unknown)?;
        let engine = connect(at)?;
        connected.insert(name.to_owned(), engine.clone());
        self.one_more.notify_one();
        Ok(engine)
    }
}

#[cfg(feature = "docker")]
fn connect(at: &EngineAt) -> Result<Arc<dyn Engine>> {
    Ok(Arc::new(crate::engine::docker::Docker::connect(at.name.as_str(), &at.address)?))
}

#[cfg(not(feature = "docker"))]
fn connect(at: &EngineAt) -> Result<Arc<dyn Engine>> {
    Err(Error::UnknownEngine { engine: at.name.to_string() })
}
