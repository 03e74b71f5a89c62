//! A provider that is asked one thing after another, and what is told of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lodger::provider::{
    Ask, At, Callbacks, Deprovisioned, Dialect, OauthGrant, PlanChange, ProviderId, ProviderResource, Provision,
    SignOn, fresh_uuid,
};
use lodger::text::shown;
use lodger::{ProviderClient, ProviderError, ProviderManifest};
use serde_json::json;

use super::cache::{Cache, Entry};
use crate::context::Context;
use crate::output::{self, Refused};
use crate::verbs::{counted, dry_run};

/// Of a code that can be exchanged nowhere.
const GRANT_SECONDS: i64 = 300;
/// What kensa asks for where a manifest names no plans.
const KENSA_PLAN: &str = "test";
const USER: &str = "username@example.com";

/// The provider of a manifest without errors, at its test addresses.
pub struct Target {
    pub manifest: ProviderManifest,
    pub at: At,
    pub client: ProviderClient,
    /// For what it calls back with.
    pub wait: Duration,
}

impl Target {
    pub async fn provision(
        &self,
        context: &Context,
        plan: Option<&str>,
        app: Option<String>,
        dry: bool,
    ) -> anyhow::Result<u8> {
        let plan = self.plan(plan)?;
        let mut cache = Cache::open(self.client.base())?;
        if dry {
            return dry_run(context, true, &format!("provision plan {} at {}", shown(&plan, 80), self.client.base()));
        }
        let mut callbacks = self.listen().await?;
        let mut wanted = self.wanted(&plan, callbacks.as_ref());
        wanted.app = app.unwrap_or(wanted.app);
        let what = format!("asking {}", self.client.base());
        let ask = Ask::new("POST", self.client.base().clone()).json(wanted.body(self.manifest.dialect));
        let answer = context.watch(&what, self.client.ask(ask)).await?;
        // What was made is there, whatever else is wrong with the answer.
        if let Some(id) = answer.id() {
            cache.put(Entry { id, plan: plan.clone(), uuid: wanted.uuid.clone() })?;
        }
        let mut made = answer.resource()?;
        if made.is_pending()
            && let Some(callbacks) = &mut callbacks
        {
            let waiting = callbacks.wait(&wanted.uuid, self.wait);
            let told = context.watch("waiting for the provider to call back", waiting).await;
            told.done(self.wait).map_err(|why| anyhow::anyhow!("`{}` was accepted, but {why}", made.id))?;
            let text =
                |value: &serde_json::Value| value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string());
            made.config.extend(told.config.iter().map(|(name, value)| (name.clone(), text(value))));
        }
        self.told(context, made.message.as_deref(), made.config.is_empty());
        self.check_config(&made)?;
        if context.json {
            output::json(&json!({
                "id": made.id,
                "plan": plan,
                "uuid": wanted.uuid,
                "app": wanted.app,
                "status": made.status,
                "config": made.config,
                "message": made.message,
                "log_drain_url": made.log_drain_url,
            }))?;
            return Ok(0);
        }
        output::say(context, format!("provisioned {}, plan {}", made.id, shown(&plan, 80)));
        output::line("→ OK");
        Ok(0)
    }

    pub async fn update(&self, context: &Context, id: &ProviderId, plan: &str, dry: bool) -> anyhow::Result<u8> {
        let plan = self.plan(Some(plan))?;
        let mut cache = Cache::open(self.client.base())?;
        if dry {
            return dry_run(
                context,
                true,
                &format!("move {id} to plan {} at {}", shown(&plan, 80), self.client.base()),
            );
        }
        let uuid = cache.entries().iter().find(|entry| entry.id == *id).map(|entry| entry.uuid.clone());
        let uuid = uuid.unwrap_or_else(fresh_uuid);
        let wanted = self.change(&plan, &uuid);
        let changed = context.watch("changing the plan", self.client.change_plan(id, &wanted)).await?;
        cache.put(Entry { id: id.clone(), plan: plan.clone(), uuid })?;
        self.told(context, changed.message.as_deref(), changed.config.is_empty());
        self.manifest.declares(changed.config.keys())?;
        if context.json {
            let message = &changed.message;
            output::json(&json!({ "id": id, "plan": plan, "config": changed.config, "message": message }))?;
            return Ok(0);
        }
        output::line("→ OK");
        Ok(0)
    }

    pub async fn deprovision(&self, context: &Context, id: &ProviderId, dry: bool) -> anyhow::Result<u8> {
        let mut cache = Cache::open(self.client.base())?;
        if dry {
            return dry_run(context, true, &format!("deprovision {id} at {}", self.client.base()));
        }
        let gone = context.watch("deprovisioning", self.client.deprovision(id)).await?;
        cache.remove(id)?;
        if gone == Deprovisioned::Before {
            output::say(context, format!("Notice: the provider has no {id} any more"));
        }
        if context.json {
            output::json(&json!({ "id": id, "gone": gone }))?;
            return Ok(0);
        }
        output::line("→ OK");
        Ok(0)
    }

    pub fn list(&self, context: &Context) -> anyhow::Result<u8> {
        let cache = Cache::open(self.client.base())?;
        if context.json {
            output::json(&cache.entries())?;
            return Ok(0);
        }
        for Entry { id, plan, .. } in cache.entries() {
            output::line(format!("- {id} → {}", shown(plan, 80)));
        }
        Ok(0)
    }

    pub fn purge(&self, context: &Context, dry: bool) -> anyhow::Result<u8> {
        let mut cache = Cache::open(self.client.base())?;
        if dry {
            let known = cache.entries().len();
            return dry_run(context, known > 0, &format!("forget {}", counted(&[(known, "resource")])));
        }
        let forgotten = cache.purge()?;
        output::say(context, format!("forgot {}", counted(&[(forgotten, "resource")])));
        if context.json {
            output::json(&json!({ "forgotten": forgotten }))?;
            return Ok(0);
        }
        output::line("→ OK");
        Ok(0)
    }

    pub fn sso(&self, context: &Context, id: &ProviderId) -> anyhow::Result<u8> {
        let cache = Cache::open(self.client.base())?;
        let known = cache.entries().iter().find(|entry| entry.id == *id);
        let uuid = known.map_or_else(|| id.as_str().to_owned(), |entry| entry.uuid.clone());
        let to = self.sign_on(id, &uuid, now()).to(&self.manifest, &self.at);
        if context.json {
            let fields: serde_json::Map<_, _> =
                to.fields.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            output::json(&json!({ "url": to.url, "post": to.post, "fields": fields }))?;
            return Ok(0);
        }
        if !to.post {
            output::line(&to.url);
            return Ok(0);
        }
        output::line(format!("POST {}", to.url));
        for (name, value) in &to.fields {
            output::line(format!("{name}={value}"));
        }
        Ok(0)
    }

    /// The one that was named, else the first.
    pub fn plan(&self, name: Option<&str>) -> Result<String, Refused> {
        let plans = &self.manifest.plans;
        let first = || plans.first().map_or(KENSA_PLAN, |plan| plan.name.as_str());
        let name = name.unwrap_or_else(first);
        // Where a manifest of Heroku's has none, they are known at Heroku alone.
        if plans.is_empty() || self.manifest.plan(name).is_some() {
            return Ok(name.to_owned());
        }
        let known: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        Err(Refused {
            code: "unknown-plan",
            message: format!("Plan {} is not defined in manifest", shown(name, 80)),
            hint: format!("there are {}", shown(&known.join(", "), 200)),
            problems: Vec::new(),
        })
    }

    pub async fn listen(&self) -> anyhow::Result<Option<Callbacks>> {
        Ok(match self.manifest.dialect {
            Dialect::Heroku => Some(Callbacks::listen().await?),
            Dialect::Scalingo => None,
        })
    }

    /// A resource for an app that there has not been.
    pub fn wanted(&self, plan: &str, callbacks: Option<&Callbacks>) -> Provision {
        let uuid = fresh_uuid();
        let options = self.manifest.plan(plan).map(|plan| plan.options.clone()).unwrap_or_default();
        Provision {
            plan: plan.to_owned(),
            options,
            app: self.fresh_app(),
            region: "amazon-web-services::us-east-1".to_owned(),
            callback_url: callbacks.map(|callbacks| callbacks.url(&uuid)),
            oauth_grant: Some(OauthGrant { code: fresh_uuid(), expires_at: now() + GRANT_SECONDS }),
            log_drain_token: self.manifest.log_drain.then(|| format!("d.{}", fresh_uuid())),
            uuid,
        }
    }

    fn fresh_app(&self) -> String {
        let number = fresh_uuid().bytes().fold(0, |sum: u32, byte| (sum * 31 + u32::from(byte)) % 10_000);
        match self.manifest.dialect {
            Dialect::Heroku => format!("app{number}@kensa.heroku.com"),
            Dialect::Scalingo => format!("lodger-{number}"),
        }
    }

    pub fn change(&self, plan: &str, uuid: &str) -> PlanChange {
        let options = self.manifest.plan(plan).map(|plan| plan.options.clone()).unwrap_or_default();
        PlanChange { plan: plan.to_owned(), options, app: self.fresh_app(), uuid: uuid.to_owned() }
    }

    pub fn sign_on(&self, id: &ProviderId, uuid: &str, timestamp: i64) -> SignOn {
        SignOn {
            id: id.as_str().to_owned(),
            uuid: uuid.to_owned(),
            timestamp,
            app: "myapp".to_owned(),
            user_id: "00000000-0000-4000-8000-000000000001".to_owned(),
            email: USER.to_owned(),
        }
    }

    fn told(&self, context: &Context, message: Option<&str>, no_config: bool) {
        output::say(context, message.unwrap_or("Notice: no message received"));
        if no_config {
            output::say(context, "Notice: no configuration received");
        }
    }

    fn check_config(&self, made: &ProviderResource) -> Result<(), ProviderError> {
        self.manifest.declares(made.config.keys())
    }
}

pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
