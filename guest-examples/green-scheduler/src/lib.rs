//! Places services on the engine whose electricity is cleanest and that has room for them.
//!
//! A plugin: it stands in for the host's own scheduler while it is enabled. When it answers an error, as below where no
//! engine has room, the host's own decides.

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package local:addon;
        world addon {
            include lodger:addon/imports@0.1.0;
            export lodger:addon/scheduler@0.1.0;
        }
    ",
    generate_all,
});

use exports::lodger::addon::scheduler::{Candidate, Guest, ServiceRequest};
use lodger::addon::{settings, types::Error};

/// Grams of carbon dioxide per kilowatt hour where the policy does not say: rather dirty, so that saying it pays.
const CARBON_UNKNOWN: f64 = 500.0;

struct Addon;
export!(Addon);

impl Guest for Addon {
    fn schedule(request: ServiceRequest, candidates: Vec<Candidate>) -> Result<String, Error> {
        let (carbon_weight, load_weight) = (weight("CARBON_WEIGHT")?, weight("LOAD_WEIGHT")?);
        let cost = |engine: &Candidate| carbon_weight * carbon(engine) / CARBON_UNKNOWN + load_weight * load(engine);
        let needed: u64 = request.services.iter().map(|service| service.memory_bytes).sum();
        let roomy = candidates.iter().filter(|engine| engine.free_memory_bytes >= needed);
        // Equal costs go by name, so that the same question has the same answer.
        let best = roomy.min_by(|one, other| cost(one).total_cmp(&cost(other)).then(one.engine.cmp(&other.engine)));
        let best = best.ok_or_else(|| Error::Exhausted(format!("no engine has {needed} bytes of memory left")))?;
        println!("{} of {} goes to {}", request.services.len(), request.addon, best.engine);
        Ok(best.engine.clone())
    }
}

/// The policy's label `carbon`. Labels are free words: one that is no number says nothing.
fn carbon(engine: &Candidate) -> f64 {
    let label = engine.labels.iter().find(|label| label.name == "carbon");
    let value = label.and_then(|label| label.value.parse::<f64>().ok());
    value.filter(|grams| grams.is_finite() && *grams >= 0.0).unwrap_or(CARBON_UNKNOWN)
}

/// How much of its memory is taken, 0 to 1.
fn load(engine: &Candidate) -> f64 {
    1.0 - engine.free_memory_bytes as f64 / engine.memory_bytes.max(1) as f64
}

fn weight(name: &str) -> Result<f64, Error> {
    let text = settings::get(name)?.unwrap_or_default();
    let weight = text.parse::<f64>().ok().filter(|weight| weight.is_finite() && *weight >= 0.0);
    weight.ok_or_else(|| Error::Invalid(format!("the setting {name} is {text:?}, not a number of 0 or more")))
}
