//! The provider's side: what platforms order, change and give back, as verbs on resources.
//!
//! An order is noted under the platform's uuid before anything is made for it, and names the app and the alias that its
//! resource has here: adding it twice is adding it once, whoever dies in between. Apps of platforms have names of their own,
//! which none of the operator's apps has. A platform knows an order by an id without digits, which is no secret and tells
//! nothing.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::offer::NO_PLAN;
use super::{Dialect, Order, outbox};
use crate::bindings::{Figure, Period};
use crate::compiler::hex;
use crate::error::{Error, Result};
use crate::hook::HookName;
use crate::host::{Host, Locked, now_ms};
use crate::id::{AddonId, Id};
use crate::key::random;
use crate::lifecycle::ResourceState;
use crate::manifest::Manifest;
use crate::outcome::{BAD_ANSWER, Outcome};
use crate::plans::known_plan;
use crate::registry::setting_place;
use crate::resources::{Add, Reason, Resource, check_options};
use crate::store::OrderRow;
use crate::text::is_plain;

/// Letters of an id: sixteen bytes at random, each half a letter from `a` to `p`.
const ID_BYTES: usize = 16;
/// Random bytes of a password and of a salt.
const SECRET_BYTES: usize = 24;
/// How long an answer may take on its way before what it says is told.
const GRACE_MS: i64 = 1000;
/// Longest name a platform gives an order, an app or a region, in bytes.
const NAME_MAX: usize = 255;
/// How much of a platform's name of an app is in ours, for people.
const SLUG_MAX: usize = 16;
const APP_HASH: usize = 12;
const ALIAS_HASH: usize = 12;

/// Settings that say what platforms prove themselves with, where an addon declares them.
const PASSWORD: &str = "GATEWAY_PASSWORD";
const SSO_SALT: &str = "GATEWAY_SSO_SALT";

/// What a platform proves itself with, and what it signs with whom it sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderCredentials {
    pub username: String,
    pub password: String,
    pub sso_salt: String,
}

impl fmt::Debug for ProviderCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderCredentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An order that is noted, and yet to be carried out.
#[derive(Clone, Debug)]
pub struct Begun {
    pub id: String,
    /// It was there already.
    pub again: bool,
    /// The platform can be told later what has become of it.
    pub tells_later: bool,
}

/// An order that was carried out. It holds what the platform's app is to keep in confidence.
#[derive(Clone)]
pub struct Ordered {
    pub id: String,
    pub config: BTreeMap<String, String>,
    pub message: Option<String>,
    pub log_drain_url: Option<String>,
    /// Something was made or changed by this.
    pub changed: bool,
}

/// Amounts by part, by what was used.
pub type Used = BTreeMap<String, BTreeMap<String, f64>>;

/// Why an order was not carried out, in words for the platform's customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    pub message: String,
    /// The addon itself has refused; else it has failed.
    pub refused: bool,
    /// Asked again later, it might be carried out.
    pub for_now: bool,
}

impl Host {
    /// What platforms of this dialect prove themselves with to an addon. It is made where there is none yet, or with `anew`;
    /// before, no platform is let in. Settings named `GATEWAY_PASSWORD` and `GATEWAY_SSO_SALT` go before what is made.
    ///
    /// # Errors
    /// [`Error::HookMissing`] where the addon cannot provision; [`Error::CredentialsSet`] where what a setting says is to be
    /// made anew.
    pub async fn provider_credentials(
        &self,
        addon: &AddonId,
        dialect: Dialect,
        anew: bool,
    ) -> Result<ProviderCredentials> {
        let locked = self.lock(addon).await?;
        if !locked.addon.grant.hooks.contains(&HookName::Provision) {
            return Err(Error::HookMissing { addon: addon.clone(), hook: HookName::Provision.name() });
        }
        if anew {
            let set = self.store.settings(addon)?;
            if let Some(setting) = [PASSWORD, SSO_SALT].into_iter().find(|name| set.contains_key(*name)) {
                return Err(Error::CredentialsSet { addon: addon.clone(), setting });
            }
        }
        if let Some(known) = self.known_credentials(addon, dialect)?.filter(|_| !anew) {
            return Ok(known);
        }
        let (password, sso_salt) = (hex(&random::<SECRET_BYTES>()?), hex(&random::<SECRET_BYTES>()?));
        let made = ProviderCredentials { username: slug(addon), password, sso_salt };
        let sealed = self.sealed_credentials(addon, dialect, &made)?;
        self.store.put_platform_secrets(addon, dialect, &sealed)?;
        self.known_credentials(addon, dialect).map(|known| known.unwrap_or(made))
    }

    pub(crate) fn sealed_credentials(
        &self,
        addon: &AddonId,
        dialect: Dialect,
        made: &ProviderCredentials,
    ) -> Result<Vec<u8>> {
        let text = serde_json::to_vec(made).map_err(|_| Error::SealBroken)?;
        self.home.key.seal(&place(addon, dialect), &text)
    }

    /// Those that were made, whatever settings say.
    pub(crate) fn made_credentials(&self, addon: &AddonId, dialect: Dialect) -> Result<Option<ProviderCredentials>> {
        let Some(sealed) = self.store.platform_secrets(addon, dialect)? else { return Ok(None) };
        let text = self.home.key.open(&place(addon, dialect), &sealed)?;
        serde_json::from_str(&text).map(Some).map_err(|_| Error::SealBroken)
    }

    /// `None`: none were made, and nobody is let in.
    pub(crate) fn known_credentials(&self, addon: &AddonId, dialect: Dialect) -> Result<Option<ProviderCredentials>> {
        let Some(mut known) = self.made_credentials(addon, dialect)? else { return Ok(None) };
        for (name, sealed) in self.store.settings(addon)? {
            let kept = match name.as_str() {
                PASSWORD => &mut known.password,
                SSO_SALT => &mut known.sso_salt,
                _ => continue,
            };
            let value = self.home.key.open(&setting_place(addon, &name), &sealed)?;
            // Nothing is proved with nothing.
            if !value.is_empty() {
                *kept = value;
            }
        }
        Ok(Some(known))
    }

    /// Whether it is a platform that asks: before anything else is looked up, and in the same time whatever is wrong.
    pub fn is_platform(&self, addon: &AddonId, dialect: Dialect, username: &str, password: &str) -> Result<bool> {
        let known = self.known_credentials(addon, dialect)?;
        let hash = |username: &str, password: &str| {
            let of = [&(username.len() as u64).to_be_bytes(), username.as_bytes(), password.as_bytes()];
            blake3::Hash::from_bytes(self.home.key.fingerprint(&of))
        };
        let presented = hash(username, password);
        Ok(known.is_some_and(|known| hash(&known.username, &known.password) == presented))
    }

    /// Notes an order, for [`Host::carry_out_order`].
    ///
    /// # Errors
    /// [`Error::InvalidOrder`] with what is wrong; [`Error::UnknownPlan`]; [`Error::OrderGone`] where what was ordered with
    /// this uuid was given back, and [`Error::OrderReused`] where it was for another app.
    pub async fn begin_order(&self, addon: &AddonId, dialect: Dialect, order: Order) -> Result<Begun> {
        let (known, _) = self.registry.get(self, addon).await?;
        let mut order = checked(&known.manifest, order)?;
        order.plan = order.plan.filter(|plan| !is_the_only(&known.manifest, plan));
        if let Some(plan) = &order.plan {
            known_plan(&known, plan)?;
        }
        order.callback = outbox::callback(&self.policy.platforms, dialect, &order);
        let id = letters(&random::<ID_BYTES>()?);
        let now = now_ms();
        // Whoever waits for the answer has it by then, or is told.
        let tell_at = order.callback.is_some().then(|| now + self.policy.platforms.answer_within_ms() + GRACE_MS);
        let row = OrderRow { tell_at, ..order_row(addon, dialect, id, order, now)? };
        let there = match self.store.put_order(&row)? {
            Ok(()) => return Ok(Begun { id: row.id, again: false, tells_later: row.tell_at.is_some() }),
            Err(there) => there,
        };
        if there.gone_at.is_some() {
            return Err(Error::OrderGone { addon: addon.clone() });
        }
        if there.app != row.app {
            return Err(Error::OrderReused { addon: addon.clone() });
        }
        Ok(Begun { id: there.id, again: true, tells_later: there.tell_at.is_some() })
    }

    /// Makes what was ordered, or finds it made. The order is looked at once more under the addon's lock, under which it is
    /// also forgotten and ended: what is given back meanwhile is not made again.
    ///
    /// # Errors
    /// What keeps [`Host::add`] from being asked; nothing was made then.
    pub async fn carry_out_order(
        &self,
        begun: &Begun,
        addon: &AddonId,
        dialect: Dialect,
    ) -> Result<Result<Ordered, Declined>> {
        let row = self.order_row(addon, dialect, &begun.id)?;
        let there = self.find(&row.app, addon, row.alias.as_ref())?;
        let (resource, changed) = match there {
            // Its plan may be another by now.
            Some(there) if there.state.gives_variables() => (Resource::from(there), false),
            _ => match self.add_ordered(&row).await? {
                Ok(added) => added,
                Err(declined) => return Ok(Err(declined)),
            },
        };
        self.ordered(&row, resource, changed).await.map(Ok)
    }

    /// The platform is being answered: it need not be told later.
    pub fn told_at_once(&self, begun: &Begun) -> Result<()> {
        if begun.tells_later { self.store.tell_order(&begun.id, None, 0) } else { Ok(()) }
    }

    /// Whether an order that failed is tried again, and told of then.
    pub fn is_put_off(&self, begun: &Begun, addon: &AddonId, dialect: Dialect) -> Result<bool> {
        Ok(self.store.order(addon, dialect, &begun.id)?.is_some_and(|row| row.tell_at.is_some()))
    }

    async fn add_ordered(&self, row: &OrderRow) -> Result<Result<(Resource, bool), Declined>> {
        let Order { plan, options, region, .. } = row.asked.clone();
        let (app, alias) = (row.app.clone(), row.alias.clone());
        let add = Add { app, addon: row.addon.clone(), alias, plan, options, region };
        let add = self.ask_adding(add).await?;
        let locked = self.lock(&row.addon).await?;
        self.order_row(&row.addon, row.dialect, &row.id)?;
        let undone = self.finish_undoing(&locked, row).await;
        let done = match undone {
            Ok(Ok(())) => self.add_locked(&locked, add).await,
            Ok(Err(declined)) => return self.not_added(row, Ok(declined)),
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => match done.outcome {
                Outcome::Completed(resource) => Ok(Ok((resource, done.changed))),
                outcome => self.not_added(row, Ok(declined(&outcome))),
            },
            Err(error) => self.not_added(row, Err(error)),
        }
    }

    /// What could neither be made nor undone before goes first.
    async fn finish_undoing(&self, locked: &Locked, row: &OrderRow) -> Result<Result<(), Declined>> {
        let failed = |state: &ResourceState| match state {
            ResourceState::Failed(hook) => matches!(hook, HookName::Provision | HookName::Unprovision),
            ResourceState::Interrupted(hook) => *hook == HookName::Unprovision,
            _ => false,
        };
        let there = self.find(&row.app, &row.addon, row.alias.as_ref())?;
        let Some(there) = there.filter(|there| failed(&there.state.clone().settled())) else { return Ok(Ok(())) };
        let done = self.unprovision(locked, &there, Reason::Undone).await?;
        Ok(if done.outcome.is_completed() { Ok(()) } else { Err(declined(&done.outcome)) })
    }

    /// What is only put off is told later, where that can be; else there is no order where nothing is there. The addon's lock
    /// is held.
    fn not_added(&self, row: &OrderRow, why: Result<Declined>) -> Result<Result<(Resource, bool), Declined>> {
        let may_pass = why.as_ref().map_or_else(outbox::may_pass, |declined| declined.for_now);
        if !(may_pass && row.tell_at.is_some()) {
            self.store.forget_order(row)?;
        }
        why.map(Err)
    }

    async fn ordered(&self, row: &OrderRow, resource: Resource, changed: bool) -> Result<Ordered> {
        let gone = || Error::OrderGone { addon: row.addon.clone() };
        let made = self.find(&row.app, &row.addon, row.alias.as_ref())?.ok_or_else(gone)?;
        let env = self.config_unnamed(&made).await;
        if let Some(failure) = env.failures.iter().find(|failure| !failure.failed_open) {
            return Err(Error::OrderIncomplete { addon: row.addon.clone(), hook: failure.hook });
        }
        let log_drain_url = self.store.log_drain(&made.key)?;
        Ok(Ordered { id: row.id.clone(), config: env.variables, message: resource.message, log_drain_url, changed })
    }

    /// Moves what was ordered to another plan.
    pub async fn change_order(
        &self,
        addon: &AddonId,
        dialect: Dialect,
        id: &str,
        plan: &str,
    ) -> Result<Result<Ordered, Declined>> {
        let row = self.order_row(addon, dialect, id)?;
        let (known, _) = self.registry.get(self, addon).await?;
        if is_the_only(&known.manifest, plan)
            && let Some(resource) = self.resource_of(&row)?
        {
            return self.ordered(&row, resource, false).await.map(Ok);
        }
        let done = self.change_plan(&row.app, addon, row.alias.as_ref(), plan).await.map_err(of_order(addon))?;
        self.changed(&row, done).await
    }

    /// Withholds what was ordered from its app.
    pub async fn suspend_order(
        &self,
        addon: &AddonId,
        dialect: Dialect,
        id: &str,
    ) -> Result<Result<Ordered, Declined>> {
        let row = self.order_row(addon, dialect, id)?;
        let done = self.suspend(&row.app, addon, row.alias.as_ref()).await.map_err(of_order(addon))?;
        self.changed(&row, done).await
    }

    /// Gives it back.
    pub async fn resume_order(&self, addon: &AddonId, dialect: Dialect, id: &str) -> Result<Result<Ordered, Declined>> {
        let row = self.order_row(addon, dialect, id)?;
        let done = self.resume(&row.app, addon, row.alias.as_ref()).await.map_err(of_order(addon))?;
        self.changed(&row, done).await
    }

    async fn changed(&self, row: &OrderRow, done: crate::addons::Done<Resource>) -> Result<Result<Ordered, Declined>> {
        let changed = done.changed;
        match done.outcome {
            Outcome::Completed(resource) => self.ordered(row, resource, changed).await.map(Ok),
            outcome => Ok(Err(declined(&outcome))),
        }
    }

    /// How much of it was used: by what was used, and by the part that has used it.
    ///
    /// # Errors
    /// [`Error::InvalidOrder`] where the period ends before it begins; [`Error::HookMissing`] where the addon measures nothing.
    pub async fn usage_of_order(
        &self,
        addon: &AddonId,
        dialect: Dialect,
        id: &str,
        during: Period,
    ) -> Result<Result<Used, Declined>> {
        let row = self.order_row(addon, dialect, id)?;
        if during.begin >= during.end {
            let what = "a period begins before it ends".to_owned();
            return Err(Error::InvalidOrder { addon: addon.clone(), what });
        }
        let used = self.usage(&row.app, addon, row.alias.as_ref(), during).await.map_err(of_order(addon))?;
        Ok(match used {
            Outcome::Completed(figures) => {
                let mut by_what = Used::new();
                for Figure { what, part, amount } in figures {
                    by_what.entry(what).or_default().insert(part, amount);
                }
                Ok(by_what)
            }
            outcome => Err(declined(&outcome)),
        })
    }

    /// Destroys what was ordered.
    ///
    /// # Errors
    /// [`Error::OrderGone`] where it was before.
    pub async fn end_order(&self, addon: &AddonId, dialect: Dialect, id: &str) -> Result<Result<(), Declined>> {
        let locked = self.lock(addon).await?;
        let row = self.order_row(addon, dialect, id)?;
        let done = match self.find(&row.app, addon, row.alias.as_ref())? {
            Some(there) => self.unprovision(&locked, &there, Reason::Removed).await?.outcome,
            None => Outcome::Completed(()),
        };
        match done {
            Outcome::Completed(()) => self.store.end_order(&row.id).map(Ok),
            outcome => Ok(Err(declined(&outcome))),
        }
    }

    /// By the id it was given, or the platform's own.
    pub(crate) fn order_row(&self, addon: &AddonId, dialect: Dialect, id: &str) -> Result<OrderRow> {
        match self.store.order(addon, dialect, id)? {
            None => Err(Error::UnknownOrder { addon: addon.clone() }),
            Some(row) if row.gone_at.is_some() => Err(Error::OrderGone { addon: addon.clone() }),
            Some(row) => Ok(row),
        }
    }

    pub(crate) fn resource_of(&self, row: &OrderRow) -> Result<Option<Resource>> {
        self.find(&row.app, &row.addon, row.alias.as_ref()).map(|found| found.map(Resource::from))
    }
}

/// What is sealed is bound to it.
fn place(addon: &AddonId, dialect: Dialect) -> String {
    format!("platform:{addon}:{dialect}")
}

/// What a platform knows the addon by. Heroku wants variables to begin with it, as they begin with the addon's name here.
pub(super) fn slug(addon: &AddonId) -> String {
    addon.name.to_string()
}

/// An order as it is noted, with nobody to be told of it.
pub(crate) fn order_row(addon: &AddonId, dialect: Dialect, id: String, asked: Order, made_at: i64) -> Result<OrderRow> {
    let (addon, app) = (addon.clone(), app_of(dialect, &asked.app)?);
    let alias = Some(alias_of(asked.uuid.as_deref().unwrap_or(&id))?);
    Ok(OrderRow { id, addon, dialect, app, alias, asked, made_at, tell_at: None, tries: 0, gone_at: None })
}

/// Whether the names in it are such as a platform may give.
pub(crate) fn is_named(order: &Order) -> bool {
    let names = [order.uuid.as_deref(), Some(&*order.app), order.region.as_deref()];
    let is_name = |name: &str| !name.is_empty() && name.len() <= NAME_MAX && is_plain(name);
    names.into_iter().flatten().all(is_name)
}

pub(crate) fn is_order_id(id: &str) -> bool {
    id.len() == 2 * ID_BYTES && id.bytes().all(|byte| matches!(byte, b'a'..=b'p'))
}

/// The order as it may be: its options without those that are the plan's own, which platforms send back.
fn checked(manifest: &Manifest, order: Order) -> Result<Order> {
    let invalid = |what: String| Err(Error::InvalidOrder { addon: manifest.id.clone(), what });
    if !is_named(&order) {
        return invalid(format!("uuid, app and region are 1 to {NAME_MAX} bytes without control characters"));
    }
    check_options(&order.options)?;
    let plan = match &order.plan {
        Some(name) => manifest.plans.iter().find(|plan| plan.name.as_str() == name),
        None => manifest.plans.first(),
    };
    let mut options = order.options;
    for (name, value) in plan.iter().flat_map(|plan| &plan.options) {
        match options.remove(name) {
            Some(other) if other != *value => return invalid(format!("the option `{name}` is the plan's to say")),
            _ => {}
        }
    }
    let region = order.region.as_deref().map(|region| region_of(region, &manifest.provider.regions));
    if let Some(region) = &region
        && !manifest.provider.regions.is_empty()
        && !manifest.provider.regions.iter().any(|known| known == region || known == "*")
    {
        return invalid(format!("there are only the regions {}", manifest.provider.regions.join(", ")));
    }
    Ok(Order { options, region, ..order })
}

/// Whether a plan is the one that an addon without plans has to platforms.
fn is_the_only(manifest: &Manifest, plan: &str) -> bool {
    manifest.plans.is_empty() && plan == NO_PLAN
}

/// Heroku names the regions of whom it rents from; manifests have its own names of them.
fn region_of(name: &str, known: &[String]) -> String {
    match name.strip_prefix("amazon-web-services::") {
        Some("us-east-1") if known.iter().any(|known| known == "virginia") => "virginia",
        Some("us-east-1") => "us",
        Some("eu-west-1") => "eu",
        Some("eu-central-1") => "frankfurt",
        Some("us-west-2") => "oregon",
        Some("ap-northeast-1") => "tokyo",
        Some(other) => other,
        None => name,
    }
    .to_owned()
}

/// The app that stands for one of a platform's.
fn app_of(dialect: Dialect, app: &str) -> Result<Id> {
    let hash = blake3::hash(format!("{dialect}:{app}").as_bytes()).to_hex();
    let letters = app.chars().take(SLUG_MAX).map(|c| c.to_ascii_lowercase());
    let slug: String = letters.map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' }).collect();
    let name = format!("{dialect}-{slug}-{}", &hash[..APP_HASH]);
    name.parse().map_err(|_| Error::InvalidId(name))
}

/// The alias that sets an order apart from others of its app.
fn alias_of(uuid: &str) -> Result<Id> {
    let name = format!("r{}", &blake3::hash(uuid.as_bytes()).to_hex()[..ALIAS_HASH]);
    name.parse().map_err(|_| Error::InvalidId(name))
}

/// Without digits: there is a tester that takes any digits in an id for those of its app.
fn letters(bytes: &[u8]) -> String {
    let letter = |half: u8| char::from(b'a' + half);
    bytes.iter().flat_map(|byte| [letter(byte >> 4), letter(byte & 15)]).collect()
}

fn of_order(addon: &AddonId) -> impl Fn(Error) -> Error {
    // Ordered, and never made: to the platform that is nothing.
    move |error| match error {
        Error::UnknownResource { .. } => Error::UnknownOrder { addon: addon.clone() },
        other => other,
    }
}

fn declined<T>(outcome: &Outcome<T>) -> Declined {
    match outcome {
        Outcome::Refused(refused) if refused.code != BAD_ANSWER => {
            let for_now = outcome.is_unavailable();
            Declined { message: refused.message.clone(), refused: true, for_now }
        }
        _ => Declined { message: "The add-on has failed.".to_owned(), refused: false, for_now: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_of_platforms_have_names_of_their_own() -> Result<()> {
        let of = |app| app_of(Dialect::Scalingo, app);
        assert!(of("App_1@scalingo.example.com")?.as_str().starts_with("scalingo-app-1-scalingo-e-"));
        assert_ne!(of("a")?, app_of(Dialect::Heroku, "a")?);
        assert_ne!(of("a@b")?, of("a.b")?);
        for hostile in ["", "../../etc", "\u{202e}evil", &"x".repeat(255)] {
            of(hostile)?;
        }
        Ok(())
    }

    #[test]
    fn ids_have_no_digits() {
        assert_eq!(letters(&[0x00, 0x9f, 0xff]), "aajppp");
    }
}
