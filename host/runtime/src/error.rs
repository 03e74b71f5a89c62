//! What can keep the host from doing what was asked, before any guest was entered.
//!
//! One variant per thing that fails, carrying its subject. [`Error::code`] is stable; one table maps codes to exit codes
//! and HTTP status. The source is never printed inside the message: whoever shows an error walks the chain.

use std::path::PathBuf;

use semver::{Version, VersionReq};

use crate::engine::Fault;
use crate::id::{AddonId, Id};
use crate::manifest::Problem;
use crate::text::shown;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("`{}` is not an id: 1 to 40 of a-z, 0-9 and inner dashes", shown(.0, 60))]
    InvalidId(String),
    #[error("addon `{0}` is not installed")]
    UnknownAddon(String),
    #[error("`{name}` could be {}", list(candidates))]
    AmbiguousAddon { name: Id, candidates: Vec<AddonId> },
    #[error("app `{0}` has no addons")]
    UnknownApp(Id),
    #[error("app `{app}` has no addon `{addon}`{}", alias_note(alias.as_ref()))]
    UnknownResource { app: Id, addon: AddonId, alias: Option<Id> },
    #[error("app `{app}` has addon `{addon}` more than once")]
    AmbiguousResource { app: Id, addon: AddonId, aliases: Vec<String> },
    #[error("no token has the id `{}`", shown(.0, 60))]
    UnknownToken(String),
    #[error("`{}` is no scope", shown(.0, 80))]
    InvalidScope(String),
    #[error("there is no operation `{}`", shown(.0, 60))]
    UnknownOperation(String),
    #[error("a request with this key is under way, as operation `{operation}`")]
    OperationRunning { operation: String },
    #[error("another request has come with this key, as operation `{operation}`")]
    OperationKeyReused { operation: String },
    #[error("addon `{addon}` has not been ordered so by this platform")]
    UnknownOrder { addon: AddonId },
    #[error("what was ordered of addon `{addon}` is gone")]
    OrderGone { addon: AddonId },
    #[error("this uuid was ordered of addon `{addon}` for another app")]
    OrderReused { addon: AddonId },
    #[error("the order cannot be: {what}")]
    InvalidOrder { addon: AddonId, what: String },
    #[error("the hook `{hook}` of addon `{addon}` gave no values")]
    OrderIncomplete { addon: AddonId, hook: &'static str },
    #[error("what platforms prove themselves with to addon `{addon}` is set: `{setting}`")]
    CredentialsSet { addon: AddonId, setting: &'static str },
    #[error("where platforms reach this server is not known")]
    NoPublicUrl,
    #[error("no resource has the key `{0}`")]
    UnknownKey(String),
    #[error("addon `{addon}` has no setting `{}`", shown(name, 60))]
    UnknownSetting { addon: AddonId, name: String, known: Vec<String> },
    #[error("setting `{name}` of addon `{addon}` is {length} bytes; at most {most} are kept")]
    SettingTooLong { addon: AddonId, name: String, length: usize, most: usize },
    #[error("addon `{addon}` has no plan `{plan}`")]
    UnknownPlan { addon: AddonId, plan: String, known: Vec<Id> },
    #[error("option `{}` is too long, or there are more than 32", shown(.0, 60))]
    InvalidOption(String),
    #[error("addon `{addon}` is {state}; `{verb}` needs it {needs}")]
    NotPermitted { addon: AddonId, state: String, verb: &'static str, needs: &'static str, hint: String },
    #[error("addon `{addon}` is quarantined: its hook `{hook}` has failed {}", in_a_row(*times))]
    Quarantined { addon: AddonId, hook: &'static str, times: u32 },
    #[error("addon `{addon}` of app `{app}` is {state}")]
    ResourceState { app: Id, addon: AddonId, state: String, hint: String },
    #[error("addon `{addon}` does not export the hook `{hook}`")]
    HookMissing { addon: AddonId, hook: &'static str },
    #[error("addon `{addon}` {why}")]
    NoSignOn { addon: AddonId, why: &'static str, hint: String },
    #[error("addon `{addon}` is busy: another call holds its lock")]
    Busy { addon: AddonId },
    #[error("addon `{addon}` does not let it be (`{kind}`): {reason}")]
    Vetoed { addon: AddonId, kind: String, reason: String },
    #[error("addon `{addon}` is to decide about it (`{kind}`) and could not: {how}")]
    Listener { addon: AddonId, kind: String, how: String },
    #[error("event `{}` {message}", shown(kind, 80))]
    Event { kind: String, message: String },
    #[error("{calls} calls are in flight, as many as the policy allows")]
    TooManyCalls { calls: u32 },
    #[error("addon `{addon}` is used by {}", list(apps))]
    InUse { addon: AddonId, apps: Vec<Id> },
    #[error("the slot `{slot}`, which addon `{addon}` fills, is filled by `{holder}`")]
    SlotTaken { addon: AddonId, slot: Id, holder: AddonId },
    #[error("addon `{addon}` keeps what {} had of it", list(apps))]
    DataKept { addon: AddonId, apps: Vec<Id> },
    #[error("app `{app}` already has addon `{addon}` with other {what}")]
    AlreadyAdded { app: Id, addon: AddonId, what: &'static str, hint: String },
    #[error("app `{app}` already has the variable `{variable}` from addon `{holder}`")]
    VariableTaken { app: Id, variable: String, holder: AddonId },
    #[error("the alias `{alias}` makes `{variable}`, which is never given to an app")]
    VariableForbidden { alias: Id, variable: String },
    #[error("{}, which is not installed", needing(chain))]
    DependencyMissing { chain: Vec<AddonId> },
    #[error("{}", needing(chain))]
    DependencyCycle { chain: Vec<AddonId> },
    #[error("{} in version {wanted}; it is {version}", needing(chain))]
    DependencyVersion { chain: Vec<AddonId>, wanted: VersionReq, version: Version },
    #[error("addon `{addon}` needs `{needed}`, which is {state}")]
    DependencyNotEnabled { addon: AddonId, needed: AddonId, state: String, hint: String },
    /// What went wrong with the last of them, or the first, keeps the others waiting.
    #[error("{}", needing(chain))]
    Dependency { chain: Vec<AddonId>, source: Box<Error> },
    #[error("addon `{addon}` is needed by {}", shortened(quoted(by)).join(", "))]
    Needed { addon: AddonId, by: Vec<AddonId>, verb: &'static str },
    #[error("addon `{addon}` is given twice, with different content")]
    GivenTwice { addon: AddonId },
    #[error("addon `{addon}` is not granted any more what it was installed with")]
    GrantRevoked { addon: AddonId, refusals: Vec<Problem> },

    #[error("the manifest has {}", count(problems.len(), "problem"))]
    Manifest { problems: Vec<Problem> },
    #[error("the policy does not admit {}", count(refusals.len(), "line"))]
    GrantRefused { refusals: Vec<Problem> },
    #[error("the grant was not accepted")]
    GrantNotAccepted,
    #[error("the new version of addon `{addon}` may do more, which was not accepted")]
    GrantWidens { addon: AddonId, digest: String },
    #[error("package `{package}`: {message}")]
    Package { package: String, message: String },
    #[error("package `{package}` cannot be read")]
    PackageRead { package: String, source: std::io::Error },
    #[error("component `{component}`: {message}")]
    Component { component: String, message: String, hint: Option<String> },
    #[error("component `{component}` could not be compiled within {bound}")]
    CompileBound { component: String, bound: String },
    #[error("addon `{addon}` {version} is installed with another digest")]
    DigestChanged { addon: AddonId, version: String },
    #[error("addon `{addon}` is installed in version {installed}")]
    OtherVersion { addon: AddonId, installed: String },
    #[error("addon `{addon}` is installed in version {installed}, which is later than {offered}")]
    Downgrade { addon: AddonId, installed: String, offered: String },
    #[error("the package is of addon `{package}`, not of `{addon}`")]
    OtherAddon { addon: AddonId, package: AddonId },
    #[error("version {version} of addon `{addon}` lacks {what}")]
    StillNeeded { addon: AddonId, version: String, what: String },
    #[error("no earlier version of addon `{addon}` is kept")]
    NothingEarlier { addon: AddonId },
    #[error("what {} had added of `{addon}` is not known to version {version}", list(apps))]
    AddedSince { addon: AddonId, version: String, apps: Vec<Id> },
    #[error("no engine has an image of addon `{addon}`, by which its volumes are reached")]
    NoImage { addon: AddonId },

    #[error("the marketplace has no addon with the id `{}`", shown(.0, 60))]
    UnknownEntry(String),
    #[error("nothing is installed with the id `{}`", shown(.0, 60))]
    UnknownInstallation(String),
    #[error("Addon with marketplace-id - {} already exists.", shown(entry, 60))]
    InstalledAlready { entry: String },
    #[error("the installation `{id}` is {from}: nobody can ask for it to be {to}")]
    Transition { id: String, from: &'static str, to: &'static str },
    #[error("addon `{addon}` {version} was published with another digest")]
    VersionPublished { addon: AddonId, version: Version },
    #[error("the namespace `{namespace}` has {most} addons in the marketplace, as many as it may")]
    MarketFull { namespace: Id, most: u64 },
    #[error("the marketplace's addon `{id}` is {}", status.replace('_', " "))]
    NotApproved { id: String, status: &'static str },

    #[error("policy `lodger.toml`: {message}")]
    Policy { message: String },
    #[error("addon `{addon}` declares no service `{}`", shown(service, 60))]
    UnknownService { addon: AddonId, service: String },
    #[error("service `{service}` of addon `{addon}`: {message}")]
    Service { addon: AddonId, service: Id, message: String, hint: String },
    #[error("service `{service}` of addon `{addon}` does not serve: {why}{}", last_lines(log))]
    ServiceNotReady { addon: AddonId, service: Id, why: String, log: String },
    #[error("service `{service}` of addon `{addon}` {}", no_port(*port, *range))]
    PortTaken { addon: AddonId, service: Id, port: u16, range: (u16, u16) },
    #[error("image `{image}` {message}")]
    Image { image: String, message: String, hint: Option<String> },
    #[error("engine `{engine}` has a container `{name}` that lodger has not made")]
    ForeignContainer { name: String, engine: String },
    #[error("engine `{engine}` has a volume `{name}` that lodger has not made, and secrets are to go there")]
    ForeignVolume { name: String, engine: String },
    #[error("container `{container}` of engine `{engine}`, named under [[replaceable]], {message}")]
    NotReplaceable { container: String, engine: String, message: String, hint: String },
    #[error("the policy names no engine `{}`", shown(engine, 60))]
    UnknownEngine { engine: String },
    #[error(transparent)]
    Engine(#[from] crate::engine::Failure),
    #[error("home `{}`: {message}", home.display())]
    Home { home: PathBuf, message: String, hint: String },
    #[error("home `{}` is a copy of another home", home.display())]
    HomeCopied { home: PathBuf },
    #[error("cannot {action} `{}`", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the store could not {action}")]
    Store { action: &'static str, source: rusqlite::Error },
    #[error("the store is damaged")]
    StoreDamaged { path: PathBuf, source: rusqlite::Error },
    #[error("the store is from a newer lodger (schema {found}, this one knows {known})")]
    StoreNewer { found: u32, known: u32 },
    #[error("a passphrase of a backup has at least {least} bytes")]
    Passphrase { least: usize },
    #[error("the file is no backup made by lodger")]
    NotABackup,
    #[error("the backup is from a newer lodger (format {found}, this one knows {known})")]
    BackupNewer { found: u16, known: u16 },
    #[error("the passphrase is not the one the backup was made with")]
    BackupPassphrase,
    #[error("the backup ends early, or its end was changed")]
    BackupTruncated,
    #[error("the backup is damaged: {message}")]
    BackupDamaged { message: String },
    #[error("the backup holds what lodger would not have written: {what} {message}")]
    BackupContent { what: String, message: String },
    #[error("the home has {what}; a backup is restored into an empty one")]
    HomeNotEmpty { what: String },
    #[error("home `{}` is being restored, or that was cut off", home.display())]
    Restoring { home: PathBuf },
    #[error("a sealed value of the store cannot be opened with this home's key")]
    SealBroken,
    #[error("the sandbox could not {action}")]
    Sandbox { action: &'static str, source: wasmtime::Error },
    #[error("this program was started as the compiler of components, but does not run it")]
    CompilerNotServed,
    #[error("a background task of the host ended early")]
    TaskLost,
}

/// Whose fault an error is: what a shell, an HTTP client and a person do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was named is not there.
    NotFound,
    /// What was asked cannot be, as things are.
    Conflict,
    /// What was given is wrong in itself.
    Invalid,
    /// Asking again later may succeed.
    Busy,
    /// The host is at fault.
    Host,
}

impl Error {
    /// Stable kebab-case name and kind.
    const fn row(&self) -> (&'static str, Kind) {
        use Kind::{Busy, Conflict, Host, Invalid, NotFound};
        match self {
            Error::InvalidId(_) => ("invalid-id", Invalid),
            Error::UnknownAddon(_) => ("unknown-addon", NotFound),
            Error::AmbiguousAddon { .. } => ("ambiguous-addon", Invalid),
            Error::UnknownApp(_) => ("unknown-app", NotFound),
            Error::UnknownResource { .. } => ("unknown-resource", NotFound),
            Error::AmbiguousResource { .. } => ("ambiguous-resource", Invalid),
            Error::UnknownOperation(_) => ("unknown-operation", NotFound),
            Error::OperationRunning { .. } => ("idempotency-in-flight", Conflict),
            Error::OperationKeyReused { .. } => ("idempotency-key-reused", Invalid),
            Error::UnknownKey(_) => ("unknown-key", NotFound),
            Error::UnknownToken(_) => ("unknown-token", NotFound),
            Error::InvalidScope(_) => ("invalid-scope", Invalid),
            Error::UnknownSetting { .. } => ("unknown-setting", NotFound),
            Error::SettingTooLong { .. } => ("setting-too-long", Invalid),
            Error::UnknownOrder { .. } => ("unknown-order", NotFound),
            Error::OrderGone { .. } => ("order-gone", NotFound),
            Error::OrderReused { .. } => ("order-reused", Conflict),
            Error::InvalidOrder { .. } => ("invalid-order", Invalid),
            Error::OrderIncomplete { .. } => ("order-incomplete", Busy),
            Error::CredentialsSet { .. } => ("credentials-set", Conflict),
            Error::NoPublicUrl => ("no-public-url", Invalid),
            Error::UnknownPlan { .. } => ("unknown-plan", NotFound),
            Error::InvalidOption(_) => ("invalid-option", Invalid),
            Error::NotPermitted { .. } => ("not-permitted", Conflict),
            Error::Quarantined { .. } => ("quarantined", Conflict),
            Error::ResourceState { .. } => ("resource-state", Conflict),
            Error::HookMissing { .. } => ("hook-missing", Conflict),
            Error::NoSignOn { .. } => ("no-sign-on", Conflict),
            Error::Busy { .. } => ("busy", Busy),
            Error::Vetoed { .. } => ("vetoed", Conflict),
            Error::Listener { .. } => ("listener-failed", Conflict),
            Error::Event { .. } => ("invalid-event", Invalid),
            Error::TooManyCalls { .. } => ("too-many-calls", Busy),
            Error::InUse { .. } => ("in-use", Conflict),
            Error::SlotTaken { .. } => ("slot-taken", Conflict),
            Error::DataKept { .. } => ("data-kept", Conflict),
            Error::AlreadyAdded { .. } => ("already-added", Conflict),
            Error::VariableTaken { .. } => ("variable-taken", Conflict),
            Error::VariableForbidden { .. } => ("variable-forbidden", Invalid),
            Error::DependencyMissing { .. } => ("dependency-missing", Conflict),
            Error::DependencyCycle { .. } => ("dependency-cycle", Conflict),
            Error::DependencyVersion { .. } => ("dependency-version", Conflict),
            Error::DependencyNotEnabled { .. } => ("dependency-not-enabled", Conflict),
            Error::Dependency { source, .. } => source.row(),
            Error::Needed { .. } => ("needed", Conflict),
            Error::GivenTwice { .. } => ("given-twice", Invalid),
            Error::GrantRevoked { .. } => ("grant-revoked", Conflict),
            Error::Manifest { .. } => ("invalid-manifest", Invalid),
            Error::GrantRefused { .. } => ("grant-refused", Conflict),
            Error::GrantNotAccepted => ("grant-not-accepted", Conflict),
            Error::GrantWidens { .. } => ("grant-widens", Conflict),
            Error::Package { .. } => ("invalid-package", Invalid),
            Error::PackageRead { .. } => ("package-unreadable", Invalid),
            Error::Component { .. } => ("invalid-component", Invalid),
            Error::CompileBound { .. } => ("compile-bound", Invalid),
            Error::DigestChanged { .. } => ("digest-changed", Conflict),
            Error::OtherVersion { .. } => ("other-version", Conflict),
            Error::Downgrade { .. } => ("downgrade", Conflict),
            Error::OtherAddon { .. } => ("other-addon", Invalid),
            Error::StillNeeded { .. } => ("still-needed", Conflict),
            Error::NothingEarlier { .. } => ("no-earlier-version", NotFound),
            Error::AddedSince { .. } => ("added-since", Conflict),
            Error::NoImage { .. } => ("no-image", Host),
            Error::UnknownEntry(_) => ("unknown-entry", NotFound),
            Error::UnknownInstallation(_) => ("unknown-installation", NotFound),
            Error::InstalledAlready { .. } => ("installed-already", Conflict),
            Error::Transition { .. } => ("transition", Conflict),
            Error::VersionPublished { .. } => ("version-published", Conflict),
            Error::MarketFull { .. } => ("market-full", Conflict),
            Error::NotApproved { .. } => ("not-approved", Conflict),
            Error::Policy { .. } => ("invalid-policy", Host),
            Error::UnknownService { .. } => ("unknown-service", NotFound),
            Error::Service { .. } => ("service", Conflict),
            Error::ServiceNotReady { .. } => ("service-not-ready", Conflict),
            Error::PortTaken { .. } => ("port-taken", Conflict),
            Error::Image { .. } => ("image", Conflict),
            Error::ForeignContainer { .. } => ("foreign-container", Conflict),
            Error::ForeignVolume { .. } => ("foreign-volume", Conflict),
            Error::NotReplaceable { .. } => ("not-replaceable", Conflict),
            Error::UnknownEngine { .. } => ("unknown-engine", Host),
            Error::Engine(failure) => match failure.fault {
                Fault::Unreachable => ("engine-unreachable", Host),
                Fault::Untrusted => ("engine-untrusted", Host),
                _ => ("engine", Host),
            },
            Error::Home { .. } => ("home-unusable", Host),
            Error::HomeCopied { .. } => ("home-copied", Host),
            Error::Io { .. } => ("io", Host),
            Error::Store { .. } => ("store", Host),
            Error::StoreDamaged { .. } => ("store-damaged", Host),
            Error::StoreNewer { .. } => ("store-newer", Host),
            Error::Passphrase { .. } => ("short-passphrase", Invalid),
            Error::NotABackup => ("not-a-backup", Invalid),
            Error::BackupNewer { .. } => ("backup-newer", Invalid),
            Error::BackupPassphrase => ("wrong-passphrase", Invalid),
            Error::BackupTruncated => ("backup-truncated", Invalid),
            Error::BackupDamaged { .. } => ("backup-damaged", Invalid),
            Error::BackupContent { .. } => ("invalid-backup", Invalid),
            Error::HomeNotEmpty { .. } => ("home-not-empty", Conflict),
            Error::Restoring { .. } => ("restoring", Conflict),
            Error::SealBroken => ("seal-broken", Host),
            Error::Sandbox { .. } => ("sandbox", Host),
            Error::CompilerNotServed => ("compiler-not-served", Host),
            Error::TaskLost => ("task-lost", Host),
        }
    }

    pub const fn code(&self) -> &'static str {
        self.row().0
    }

    pub const fn kind(&self) -> Kind {
        self.row().1
    }

    /// Exit code of a command that ends with this error: 1 refused, 4 the host is at fault.
    pub const fn exit_code(&self) -> u8 {
        match self.kind() {
            Kind::NotFound | Kind::Conflict | Kind::Invalid | Kind::Busy => 1,
            Kind::Host => 4,
        }
    }

    /// 502 and 503 where it is an engine that does not do its part.
    pub fn http_status(&self) -> u16 {
        match self.kind() {
            Kind::Host if self.is_unreachable() => 503,
            Kind::Host if matches!(self, Error::Engine(_) | Error::NoImage { .. }) => 502,
            Kind::NotFound => 404,
            Kind::Conflict => 409,
            Kind::Invalid => 422,
            Kind::Busy => 503,
            Kind::Host => 500,
        }
    }

    /// Each line of a manifest or policy that is in the way, where it is lines.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Error::Manifest { problems } => problems,
            Error::GrantRefused { refusals } | Error::GrantRevoked { refusals, .. } => refusals,
            Error::Dependency { source, .. } => source.problems(),
            _ => &[],
        }
    }

    /// The command or line that would help, where there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Error::UnknownAddon(_) => "`lodger list` shows what is installed".to_owned(),
            Error::AmbiguousAddon { .. } => "name it with its namespace".to_owned(),
            Error::UnknownApp(_) => "`lodger apps` shows the apps; `lodger add APP ADDON` makes one".to_owned(),
            Error::UnknownResource { app, .. } => format!("`lodger apps` shows what `{app}` has"),
            Error::AmbiguousResource { aliases, .. } => format!("say which with --as: {}", list(aliases)),
            Error::UnknownToken(_) => "`lodger token list` shows the tokens".to_owned(),
            Error::InvalidScope(_) => "scopes are read, manage, publish:NAMESPACE and app:NAME".to_owned(),
            Error::UnknownOperation(_) => {
                "operations are kept as long as operations and operation_days under [retention] in lodger.toml say"
                    .to_owned()
            }
            Error::OperationRunning { operation } => {
                format!("ask again when it has ended, which GET /v1/operations/{operation} tells")
            }
            Error::OperationKeyReused { .. } => "a key is for one request, and for asking the very same again".to_owned(),
            Error::OrderIncomplete { addon, .. } => format!("`lodger calls {addon}` shows why"),
            Error::CredentialsSet { addon, setting } => format!("`lodger set {addon} {setting}=-` sets another"),
            Error::NoPublicUrl => "--url URL, or url under [platforms] in lodger.toml".to_owned(),
            Error::UnknownKey(_) => "`Host::add` makes resources".to_owned(),
            Error::UnknownSetting { known, .. } => format!("the manifest declares {}", list(known)),
            Error::UnknownPlan { known, .. } if known.is_empty() => "its manifest has no plans".to_owned(),
            Error::UnknownPlan { known, .. } => format!("there are {}", list(known)),
            Error::NotPermitted { hint, .. }
            | Error::ResourceState { hint, .. }
            | Error::AlreadyAdded { hint, .. }
            | Error::NoSignOn { hint, .. }
            | Error::Home { hint, .. } => hint.clone(),
            Error::HookMissing { hook: "change-plan", .. } => {
                "its component exports no `plans`: remove it and add it again with --plan, which destroys what is there"
                    .to_owned()
            }
            Error::HookMissing { hook: "suspend" | "resume", .. } => {
                "it exports nothing to suspend and resume with".to_owned()
            }
            Error::Quarantined { addon, .. } => {
                format!("`lodger enable {addon}` lets it try again; `lodger calls {addon}` shows how it has failed")
            }
            Error::VersionPublished { .. } => {
                "raise the version: what was published once stays what it was, also after it was deleted".to_owned()
            }
            Error::Transition { .. } => {
                "`installing` starts again what is disabled, failed or partially_active; `disabling` ends what is not".to_owned()
            }
            Error::MarketFull { .. } => "delete some that are not needed".to_owned(),
            Error::NotApproved { .. } => "only what is approved is installed".to_owned(),
            Error::Busy { .. } | Error::TooManyCalls { .. } => "ask again later; nothing has been done".to_owned(),
            Error::Vetoed { addon, .. } => format!("`lodger disable {addon}` if it is not to decide"),
            Error::Listener { addon, .. } => format!(
                "`lodger calls {addon}` shows why; `lodger disable {addon}`, or before = \"fail-open\" under [failure] in \
                 lodger.toml, goes on without it"
            ),
            Error::SlotTaken { holder, .. } => format!("`lodger disable {holder}` first"),
            Error::InUse { .. } => "remove it from them first, or use --force".to_owned(),
            Error::DataKept { addon, .. } => {
                format!("`lodger remove APP {addon}` destroys it, once the addon is enabled")
            }
            Error::VariableTaken { .. } => "give it another name with --as ALIAS".to_owned(),
            Error::VariableForbidden { .. } => "choose another alias".to_owned(),
            Error::DependencyMissing { chain } => {
                format!("`lodger install PATH-OF-{}` first", chain.last().map(ToString::to_string).unwrap_or_default())
            }
            Error::DependencyCycle { .. } => "remove one of them from `depends` in its addon.json".to_owned(),
            Error::DependencyVersion { chain, .. } => {
                let needed = chain.last().map(ToString::to_string).unwrap_or_default();
                format!("install a version of `{needed}` that fits, or change `depends` in addon.json")
            }
            Error::DependencyNotEnabled { hint, .. } => hint.clone(),
            Error::Dependency { source, .. } => return source.hint(),
            Error::Needed { by, verb, .. } => {
                let verbs = by.iter().map(|addon| format!("`lodger {verb} {addon}`")).collect();
                let or = if *verb == "disable" { ", or use --force" } else { "" };
                format!("{} first{or}", shortened(verbs).join(", then "))
            }
            Error::GivenTwice { .. } => "give one of them".to_owned(),
            Error::GrantRevoked { addon, .. } => {
                format!("loosen the policy, or install `{addon}` again to decide anew")
            }
            Error::GrantWidens { digest, .. } => format!("`--accept-grant {digest}` accepts what is shown"),
            Error::GrantNotAccepted => "--yes accepts the grant as shown".to_owned(),
            Error::DigestChanged { .. } => "raise the version in addon.json, or use --dev".to_owned(),
            Error::OtherVersion { addon, .. } => {
                format!("`lodger upgrade {addon} PATH` replaces it, with what it has")
            }
            Error::Downgrade { addon, .. } => {
                format!("`lodger rollback {addon}` goes back to the version before the last upgrade, with its data")
            }
            Error::OtherAddon { package, .. } => format!("`lodger install` it beside, or `lodger upgrade {package}`"),
            Error::StillNeeded { addon, .. } => format!("`lodger remove APP {addon}` first, or use another version"),
            Error::NothingEarlier { .. } => {
                "snapshots under [retention] in lodger.toml says how many are kept".to_owned()
            }
            Error::AddedSince { addon, .. } => {
                format!(
                    "`lodger remove APP {addon}` first, or use --force, which does that: it destroys what they have"
                )
            }
            Error::NoImage { .. } => "pull the image its manifest names".to_owned(),
            Error::Service { hint, .. } | Error::NotReplaceable { hint, .. } => hint.clone(),
            Error::ServiceNotReady { addon, .. } => format!("`lodger logs {addon}` has what it said"),
            Error::PortTaken { .. } => "host_ports under [grant] in lodger.toml, or \"0\" in addon.json".to_owned(),
            Error::ForeignContainer { name, .. } => format!("remove or rename it: `docker rm -f {name}`"),
            Error::ForeignVolume { name, .. } => format!("remove it: `docker volume rm {name}`"),
            Error::UnknownEngine { engine } => format!("add [[engine]] with name = \"{engine}\" to lodger.toml"),
            Error::Engine(failure) if failure.fault == Fault::Unreachable => {
                "start the engine, or name another under [[engine]] in lodger.toml; nothing was removed".to_owned()
            }
            Error::Engine(failure) if failure.fault == Fault::NoAddresses => {
                "`docker network prune` removes networks nobody uses; for more of them, give the engine smaller ones in \
                 /etc/docker/daemon.json, out of a range nothing else has, and restart it: \
                 \"default-address-pools\": [{ \"base\": \"10.201.0.0/16\", \"size\": 24 }]"
                    .to_owned()
            }
            Error::Engine(failure) if failure.fault == Fault::Untrusted => format!(
                "`address`, `authority`, `certificate` and `key` of [[engine]] `{}` in lodger.toml; nothing was removed",
                failure.engine
            ),
            Error::Component { hint, .. } | Error::Image { hint, .. } => return hint.clone(),
            Error::CompileBound { .. } => "limits.compile_ms and limits.compile_memory_bytes in lodger.toml".to_owned(),
            Error::HomeCopied { .. } => "`lodger adopt` makes it a home of its own".to_owned(),
            Error::StoreDamaged { path, .. } => {
                format!("nothing was changed; restore `{}` from a backup", path.display())
            }
            Error::HomeNotEmpty { .. } => "`lodger --home DIR restore-home FILE` with a DIR that is new".to_owned(),
            Error::Restoring { .. } => {
                "wait until it has ended; if it was cut off, `lodger restore-home FILE` begins anew".to_owned()
            }
            Error::BackupNewer { .. } => "restore it with the lodger that made it, or a later one".to_owned(),
            Error::SealBroken => "the home's `key` file was replaced or damaged; restore it".to_owned(),
            Error::CompilerNotServed => "call lodger::compiler::serve_if_asked() first in main".to_owned(),
            _ => return None,
        })
    }

    /// An engine did not answer, or did not prove who it is: nothing is known of its containers.
    pub(crate) fn is_unreachable(&self) -> bool {
        matches!(self, Error::Engine(failure) if failure.fault.is_silence())
    }

    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}

fn list(items: &[impl ToString]) -> String {
    quoted(items).join(", ")
}

fn quoted(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(|item| format!("`{}`", item.to_string())).collect()
}

/// Longest list of addons that need each other that is shown whole.
const SHOWN_WHOLE: usize = 16;

/// Who needs whom, the one after the other: `a` needs `b` needs `c`.
pub(crate) fn needing(chain: &[AddonId]) -> String {
    shortened(quoted(chain)).join(" needs ")
}

/// Both ends of a long list.
fn shortened(mut items: Vec<String>) -> Vec<String> {
    if items.len() > SHOWN_WHOLE {
        items.splice(SHOWN_WHOLE / 2..items.len() - SHOWN_WHOLE / 2, ["…".to_owned()]);
    }
    items
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("one {what}") } else { format!("{number} {what}s") }
}

fn in_a_row(times: u32) -> String {
    if times == 1 { "once".to_owned() } else { format!("{times} times in a row") }
}

/// What a service said last, for a message.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().filter(|line| !line.is_empty()).take(3).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!("; it last said: {}", lines.into_iter().rev().collect::<Vec<_>>().join(" | "))
    }
}

fn no_port(port: u16, (first, last): (u16, u16)) -> String {
    match port {
        0 => format!("finds no free host port from {first} to {last}"),
        port => format!("asks for host port {port}, which another service has"),
    }
}

fn alias_note(alias: Option<&Id>) -> String {
    alias.map(|alias| format!(" as `{alias}`")).unwrap_or_default()
}
