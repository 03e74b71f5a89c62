//! Lodger: a host for add-ons that runs their hooks as WebAssembly components, each call in a fresh sandbox that holds only
//! what was granted.
//!
//! Start at [`Host`]: open a home, install a package, and use the verbs. The main path of a call is on one screen in
//! `host.rs`; the README has the map of the code and the laws that hold everywhere.

mod access;
mod addons;
mod answers;
mod backup;
mod bindings;
mod client;
pub mod compiler;
mod crash;
mod dump;
pub mod engine;
mod env;
mod error;
mod event;
mod events;
mod failure;
mod grant;
mod guest_log;
mod home;
mod hook;
mod host;
mod id;
mod image;
mod key;
mod lifecycle;
mod limits;
mod lock;
mod manager;
mod manifest;
mod market;
mod meter;
mod network;
mod operations;
mod outbound;
mod outcome;
mod package;
mod plans;
mod policy;
pub mod provider;
mod quota;
mod registry;
mod remote;
mod render;
mod repair;
mod resources;
mod sandbox;
mod schedule;
#[cfg(feature = "schema")]
mod schema;
mod services;
mod slot;
mod store;
mod stream;
pub mod text;
mod tree;
mod upgrade;
mod wasi_fs;
mod wasi_http;
mod wasi_sockets;

pub use access::{Claim, NewToken, Scope, Token};
pub use addons::{
    AddonInfo, CallNote, Done, Finding, Incoming, Installed, Mend, Need, SettingInfo, Severity, Step, resolve,
};
pub use answers::{
    Added, AddonDetails, HookFailed, LogLine, Moved, Removed, ResourceNow, Settings, Streamed, Uninstalled, VersionNow,
};
pub use backup::{BackedUp, IncomingHome, NotUp, Passphrase, Restored};
pub use bindings::{
    Candidate, ChangePlanRequest, Changed, ConfigVar, EventRecord, Figure, HealthReport, HealthStatus, Pair, Period,
    ProvisionRequest, Provisioned, ResourceInfo, ServiceRequest, ServiceToPlace, UnprovisionReason, UnprovisionRequest,
    Verdict,
};
pub use client::{BearerToken, Listed, Marketplace, Remote, RemoteError, RemoteRefusal, ServerUrl, Versions, Wanted};
pub use env::is_allowed as is_variable_allowed;
pub use error::{Error, Kind, Result};
pub use event::{Delivery, Raised};
pub use events::{EventInfo, EventsAfter};
pub use failure::{FailurePolicies, FailurePolicy};
pub use grant::{Grant, Line, StandIn, human_bytes};
pub use hook::{Answer, HookName, HookRequest, ResourceRef};
pub use host::{Access, Call, CallSink, Config, DataUse, Host, Readiness, ServiceLog, acting_for, telling};
pub use id::{AddonId, Id, NotAnId};
pub use lifecycle::{AddonState, ResourceState};
pub use limits::{Deadlines, Limit, Limits};
pub use manager::{Failure, Installation, Standing};
pub use manifest::{
    Dependency, Manifest, PASSWORD as SETTING_PASSWORD, Plan, Problem, RemoteProvider, SSO_SALT as SETTING_SSO_SALT,
    Setting,
};
pub use market::{Check, Entry, Published, Review, Status as EntryStatus, Submission};
pub use operations::{Answered, Begun, Operation, OperationState, UnderWay};
pub use outbound::{Destination, NotADestination, Pattern};
pub use outcome::{BAD_ANSWER, BROKEN_STREAM, Outcome, Refused, Report};
pub use package::{FILES as PACKAGE_FILES, Package, pack};
pub use policy::{MarketplaceAt, PackageBounds, Policy};
pub use provider::{
    Dashboard, Declined, Dialect, Order, OrderBegun, Ordered, ProviderClient, ProviderCredentials, ProviderError,
    ProviderManifest, Session, SignOnClaim, Used,
};
pub use remote::Import;
pub use resources::{Add, Env, EnvFailure, Resource};
pub use sandbox::{Extension, Guest, ProgressEvent, ProgressSink};
pub use services::Repair;
pub use slot::Slot;
pub use store::CallRow;
pub use stream::{Inlet, Outlet};
pub use upgrade::{Earlier, Upgraded};
