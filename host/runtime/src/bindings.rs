//! The WIT package `lodger:addon`, generated: one world per hook interface, so that a component may export any subset.

/// `types`, `settings`, `progress` and `services`: what the host offers to guests.
pub mod imports {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "imports",
        imports: {
            "lodger:addon/services.start": async | trappable,
            "lodger:addon/services.stop": async | trappable,
            "lodger:addon/services.endpoint": async | trappable,
            "lodger:addon/services.exec": async | trappable,
            "lodger:addon/services.logs": async | trappable,
            "lodger:addon/services.pipe": async | trappable,
            default: trappable,
        },
        with: { "wasi:io": wasmtime_wasi::p2::bindings::io },
    });
}

macro_rules! hooks {
    ($module:ident, $world:literal $(, $name:literal: $types:path)?) => {
        pub mod $module {
            wasmtime::component::bindgen!({
                path: "../../wit",
                world: $world,
                with: { "lodger:addon/types": super::imports::lodger::addon::types, $($name: $types)? },
                exports: { default: async },
            });
        }
    };
}

hooks!(setup, "setup-hooks");
hooks!(provider, "provider-hooks");
hooks!(url, "url-hooks");
hooks!(config, "config-hooks");
hooks!(plans, "plans-hooks");
hooks!(usage, "usage-hooks");
hooks!(backup, "backup-hooks", "wasi:io": wasmtime_wasi::p2::bindings::io);
hooks!(health, "health-hooks");
hooks!(scheduler, "scheduler-hooks");
hooks!(upgrade, "upgrade-hooks");
hooks!(events, "events-hooks");

pub use config::exports::lodger::addon::config::ConfigVar;
pub use events::exports::lodger::addon::events::{Event as EventRecord, Verdict};
pub use health::exports::lodger::addon::health::{Report as HealthReport, Status as HealthStatus};
pub use imports::lodger::addon::types::{Error as GuestError, Pair};
pub use plans::exports::lodger::addon::plans::{ChangePlanRequest, Changed, ResourceInfo};
pub use provider::exports::lodger::addon::provider::{
    ProvisionRequest, Provisioned, UnprovisionReason, UnprovisionRequest,
};
pub use scheduler::exports::lodger::addon::scheduler::{Candidate, Service as ServiceToPlace, ServiceRequest};
pub use usage::exports::lodger::addon::usage::{Figure, Period};
