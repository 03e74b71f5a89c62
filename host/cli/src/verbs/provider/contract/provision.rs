//! That a resource is made, once, and what is said of it.

use std::collections::BTreeMap;

use lodger::provider::{Ask, Dialect, ProviderAnswer, Provision};
use lodger::text::shown;
use serde_json::{Map, Value};

use super::{Contract, Made, Met, told};

/// Longest id, in bytes.
const ID_MAX: usize = 255;

impl Contract<'_> {
    /// The resource that everything else is asked about.
    pub(super) async fn provision(&mut self, plan: &str) -> Option<Made> {
        self.group(&format!("POST {}", self.target.client.base()));
        let wanted = self.target.wanted(plan, self.callbacks.as_ref());
        let answer = match self.post(&wanted).await {
            Ok(answer) => answer,
            Err(why) => {
                self.note("is answered", Err(why));
                return None;
            }
        };
        let expected = format!("expected 200, 201 or 202, got {}", answer.status_line());
        let is_made = [200, 201, 202].contains(&answer.status);
        self.note("is answered 200, 201 or 202", if is_made { Ok(()) } else { Err(expected) });
        if !is_made {
            return None;
        }
        let body: Result<Map<String, Value>, _> = answer.json();
        self.note("is answered with a JSON object", body.as_ref().map(|_| ()).map_err(told));
        let body = body.ok()?;
        self.note("has an id", self.is_id(body.get("id")));
        if self.target.manifest.dialect == Dialect::Heroku {
            self.note("has an id that shows nothing of the app", is_unrelated(body.get("id"), &wanted.app));
        }
        self.note("has a message that is text, where it has one", is_text(body.get("message")));
        let config = self.config(&answer, &wanted, body.get("config")).await;
        if let Some(config) = config {
            self.check_config(&config);
            self.check_missing(&config);
        }
        if self.target.manifest.log_drain {
            self.note("has a log_drain_url, since the manifest wants logs", log_drain(body.get("log_drain_url")));
        }
        let taken_over = answer.resource();
        self.note("can be taken over as it is", taken_over.as_ref().map(|_| ()).map_err(told));
        let made = taken_over.ok()?;
        Some(Made { id: made.id, wanted })
    }

    async fn post(&mut self, wanted: &Provision) -> Result<ProviderAnswer, String> {
        let body = wanted.body(self.target.manifest.dialect);
        self.make(Ask::new("POST", self.target.client.base().clone()).json(body)).await
    }

    /// Of the answer, or of what the provider calls back with. `None` where it comes by another way.
    async fn config(
        &mut self,
        answer: &ProviderAnswer,
        wanted: &Provision,
        config: Option<&Value>,
    ) -> Option<BTreeMap<String, Value>> {
        let config = match config {
            None | Some(Value::Null) => BTreeMap::new(),
            Some(Value::Object(config)) => config.clone().into_iter().collect(),
            Some(_) => {
                self.note("has a config that is an object", Err("it is none".to_owned()));
                return None;
            }
        };
        if answer.status != 202 {
            return Some(config);
        }
        let Some(mut callbacks) = self.callbacks.take() else {
            // Scalingo names no address to call back at; its own API for that is another matter.
            self.skip("sets variables later", "Scalingo is told of them over its own API");
            return Some(config);
        };
        let waiting = callbacks.wait(&wanted.uuid, self.target.wait);
        let told = self.context.watch("waiting for the provider to call back", waiting).await;
        self.callbacks = Some(callbacks);
        self.note("calls back after 202, and is done", told.done(self.target.wait));
        Some(config.into_iter().chain(told.config).collect())
    }

    pub(super) fn check_config(&mut self, config: &BTreeMap<String, Value>) {
        let manifest = &self.target.manifest;
        let declared = manifest.declares(config.keys()).map_err(|error| told(&error));
        let no_text = config.iter().find(|(_, value)| !value.is_string());
        let text =
            no_text.map_or(Ok(()), |(name, _)| Err(format!("the key {} doesn't contain a string", shown(name, 80))));
        let urls = config.iter().filter(|(name, _)| name.ends_with("_URL"));
        let no_url = urls.filter_map(|(name, value)| Some((name, value.as_str()?))).find(|(_, value)| !is_url(value));
        let urls = no_url.map_or(Ok(()), |(name, _)| Err(format!("{} is not a valid URI", shown(name, 80))));
        self.note("sets variables that the manifest declares, and no others", declared);
        self.note("sets variables to text", text);
        self.note("sets variables named *_URL to URLs", urls);
    }

    /// What kensa only warns of.
    fn check_missing(&mut self, config: &BTreeMap<String, Value>) {
        let name = "sets all variables that the manifest declares";
        let declared = self.target.manifest.config_vars.iter();
        let missing: Vec<&str> = declared.filter(|name| !config.contains_key(*name)).map(String::as_str).collect();
        if missing.is_empty() {
            return self.note(name, Ok(()));
        }
        self.skip(name, &format!("not {}", shown(&missing.join(", "), 200)));
    }

    fn is_id(&self, id: Option<&Value>) -> Met {
        match id {
            Some(Value::String(id)) if id.is_empty() => Err("Addon returned an empty ID".to_owned()),
            Some(Value::String(id)) if id.len() > ID_MAX => Err(format!("it is longer than {ID_MAX} bytes")),
            Some(Value::String(_)) => Ok(()),
            Some(Value::Number(_)) if self.target.manifest.dialect == Dialect::Heroku => Ok(()),
            Some(Value::Number(_)) => Err("it is a number, and Scalingo takes strings alone".to_owned()),
            None | Some(Value::Null) => Err("there is none".to_owned()),
            Some(_) => Err("it is neither a string nor a number".to_owned()),
        }
    }

    /// Platforms ask at least once, and an app may have an addon more than once.
    pub(super) async fn provision_again(&mut self, made: &Made) {
        self.group(&format!("POST {} again", self.target.client.base()));
        let again = self.post(&made.wanted).await;
        let id = again.and_then(|again| again.resource().map_err(|error| told(&error))).map(|again| again.id);
        let same = |id| {
            if id == made.id { Ok(()) } else { Err(format!("{} became {id}: there are two now", made.id)) }
        };
        self.note("with the same uuid has the same id, and makes nothing", id.and_then(same));
        let mut ids = Vec::new();
        for which in ["a second", "a third"] {
            let mut wanted = self.target.wanted(&made.wanted.plan, self.callbacks.as_ref());
            if self.target.manifest.many_per_app {
                wanted.app = made.wanted.app.clone();
            }
            let answer = self.post(&wanted).await;
            ids.extend(answer.as_ref().ok().and_then(|answer| answer.resource().ok()).map(|made| made.id));
            let met =
                answer.and_then(|answer| answer.json::<Map<String, Value>>().map(|_| ()).map_err(|error| told(&error)));
            self.note(&format!("with {which} uuid is answered with a JSON object"), met);
        }
        if !self.target.manifest.many_per_app {
            return;
        }
        let met = match ids.as_slice() {
            [one, other] if one != other && *one != made.id && *other != made.id => Ok(()),
            [_, _] => Err("there is one id for several uuids".to_owned()),
            _ => Err("they were not made".to_owned()),
        };
        self.note("with other uuids makes others, for the same app too", met);
    }
}

fn is_text(value: Option<&Value>) -> Met {
    match value {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => Err("it is none".to_owned()),
    }
}

/// kensa compares with the digits of an app that is not even the one it has asked for, so that only ids without digits are sure
/// to pass there; here it is the app's own number.
fn is_unrelated(id: Option<&Value>, app: &str) -> Met {
    let id = match id {
        Some(Value::String(id)) => id.clone(),
        Some(id) => id.to_string(),
        None => return Err("there is none".to_owned()),
    };
    let number: String = app.chars().filter(char::is_ascii_digit).collect();
    if number.len() > 2 && id.contains(&number) && !is_random(&id) {
        return Err(format!("{} has the number of {app} in it", shown(&id, 80)));
    }
    Ok(())
}

/// What is as long as a uuid may have any number in it.
fn is_random(id: &str) -> bool {
    id.len() >= 32
}

fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else { return false };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(fits);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    is_scheme && !host.is_empty() && !host.starts_with(':') && !text.contains(char::is_whitespace)
}

fn log_drain(url: Option<&Value>) -> Met {
    let url = url.and_then(Value::as_str).unwrap_or_default();
    let rest = ["https://", "http://", "syslog://", "syslog+tls://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    match rest {
        _ if url.is_empty() => Err("must return a log_drain_url".to_owned()),
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => Ok(()),
        _ => Err("must return a log_drain_url like syslog://log.example.com:9999".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_url;

    #[test]
    fn a_url_has_a_scheme_and_a_host() {
        for url in ["redis://:pw@localhost:6379/0", "postgres://u:p@h/db?x", "https://[::1]:1/"] {
            assert!(is_url(url), "{url}");
        }
        for text in ["", "localhost", "//h/x", "redis://", "redis://:80", "://h", "redis://u@/0", "http://a b/"] {
            assert!(!is_url(text), "{text}");
        }
    }
}
