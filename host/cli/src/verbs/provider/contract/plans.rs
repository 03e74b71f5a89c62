//! What is asked of a resource that there is: another plan, to be withheld and given back, what it uses.

use std::collections::BTreeMap;

use lodger::provider::{Ask, Dialect, ProviderAnswer, ProviderUrl, Sent};
use serde_json::{Map, Value, json};

use super::{Contract, Made, Met, NOT_OFFERED, UNKNOWN, status, told};

/// How long ago the use is asked for that a provider tells of.
const USAGE_SECONDS: i64 = 86_400;

impl Contract<'_> {
    pub(super) async fn change_plan(&mut self, made: &Made, to: &str) {
        let at = self.target.client.at(&made.id, "");
        self.group(&format!("PUT {at}"));
        // Scalingo's own service answers 202 where it takes its time; nobody else has ever been promised that it may.
        let good: &[u16] = match self.target.manifest.dialect {
            Dialect::Scalingo => &[200, 202],
            Dialect::Heroku => &[200],
        };
        let answer = self.put("PUT", &at, to, &made.wanted.uuid).await;
        self.note(&format!("to the plan {to} is answered 200"), status(&answer, good));
        let body = answer.and_then(|answer| object(&answer));
        self.note("is answered with a JSON object", body.as_ref().map(|_| ()).map_err(Clone::clone));
        if let Some(Value::Object(config)) = body.ok().as_ref().and_then(|body| body.get("config")) {
            let config: BTreeMap<String, Value> = config.clone().into_iter().collect();
            self.check_config(&config);
        }
        let again = self.put("PUT", &at, to, &made.wanted.uuid).await;
        self.note("to the plan it has is answered 200, and changes nothing", status(&again, good));
        let nothing = self.ask(Ask::new("PUT", at.clone()).json(json!({}))).await;
        self.note("to no plan is refused", is_refused(&nothing));
        if let Ok(unknown) = UNKNOWN.parse() {
            let there = self.target.client.at(&unknown, "");
            let answer = self.put("PUT", &there, to, &lodger::provider::fresh_uuid()).await;
            self.note("of a resource that there is not is refused", is_refused(&answer));
        }
        if self.target.manifest.dialect == Dialect::Scalingo {
            let answer = self.put("PATCH", &at, &made.wanted.plan, &made.wanted.uuid).await;
            self.offered("back by PATCH is answered 200", &answer, good);
        }
        self.stranger_at(&made.id, &["PUT", "DELETE"], "the resource").await;
    }

    async fn put(
        &mut self,
        method: &'static str,
        at: &ProviderUrl,
        plan: &str,
        uuid: &str,
    ) -> Result<ProviderAnswer, String> {
        let body = self.target.change(plan, uuid).body(self.target.manifest.dialect);
        self.ask(Ask::new(method, at.clone()).json(body)).await
    }

    pub(super) async fn suspend(&mut self, made: &Made) {
        self.group(&format!("POST {}/suspend and /resume", self.target.client.at(&made.id, "")));
        let good = [204, 200, 202];
        let suspend = self.ask(self.post_to(made, "suspend", Sent::Json(json!({})))).await;
        if !self.offered("suspends", &suspend, &good) {
            return;
        }
        let again = self.ask(self.post_to(made, "suspend", Sent::Nothing)).await;
        self.note("suspends again, and without a body", is_no_fault(&again));
        let resume = self.ask(self.post_to(made, "resume", Sent::Json(json!({})))).await;
        self.note("resumes", status(&resume, &good));
        let again = self.ask(self.post_to(made, "resume", Sent::Nothing)).await;
        self.note("resumes again, and without a body", is_no_fault(&again));
    }

    fn post_to(&self, made: &Made, what: &str, sent: Sent) -> Ask {
        Ask { sent, ..Ask::new("POST", self.target.client.at(&made.id, what)) }
    }

    pub(super) async fn usage(&mut self, made: &Made) {
        let now = super::super::target::now();
        let url = self.target.client.usage_at(&made.id, now - USAGE_SECONDS, now);
        self.group(&format!("GET {url}"));
        let answer = self.ask(Ask::new("GET", url)).await;
        if self.offered("is answered 200", &answer, &[200]) {
            let body = answer.and_then(|answer| object(&answer).map(|_| ()));
            self.note("is answered with a JSON object", body);
        }
    }

    /// What not every provider has is no failure of one that has it not.
    fn offered(&mut self, name: &str, answer: &Result<ProviderAnswer, String>, good: &[u16]) -> bool {
        match answer {
            Ok(answer) if NOT_OFFERED.contains(&answer.status) => {
                self.skip(name, &format!("the provider has none of it ({})", answer.status_line()));
                false
            }
            _ => {
                self.note(name, status(answer, good));
                true
            }
        }
    }
}

fn object(answer: &ProviderAnswer) -> Result<Map<String, Value>, String> {
    answer.json().map_err(|error| told(&error))
}

fn is_refused(answer: &Result<ProviderAnswer, String>) -> Met {
    match answer {
        Ok(answer) if (400..500).contains(&answer.status) => Ok(()),
        Ok(answer) => Err(format!("expected 422, got {}", answer.status_line())),
        Err(why) => Err(why.clone()),
    }
}

/// Whatever a provider says to what it has done already, it does not break on it.
fn is_no_fault(answer: &Result<ProviderAnswer, String>) -> Met {
    match answer {
        Ok(answer) if answer.status < 500 && answer.status != 401 => Ok(()),
        Ok(answer) => Err(format!("got {}", answer.status_line())),
        Err(why) => Err(why.clone()),
    }
}
