//! What platforms' own testers have against a manifest, and what they should have: each in the order of the fields.

use std::collections::BTreeSet;

use hyper::Uri;

use super::go_url;
use super::raw::{Api, Heroku, Place, Plan, Raw, Scalingo, Urls};
use crate::text::shown;

/// What kensa knows.
const REGIONS: [&str; 7] = ["us", "eu", "frankfurt", "oregon", "tokyo", "virginia", "*"];
/// What Heroku has come to have since.
const LATER_REGIONS: [&str; 6] = ["dublin", "london", "montreal", "mumbai", "singapore", "sydney"];
/// Longest text of a manifest that is shown.
const SHOWN_MAX: usize = 200;

#[derive(Default)]
struct Said {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// Errors of the dialect's own tester, and warnings beyond them.
pub(super) fn check(raw: &Raw) -> (Vec<String>, Vec<String>) {
    let mut said = Said::default();
    match raw {
        Raw::Scalingo(raw) => said.scalingo(raw),
        Raw::Heroku(raw) => said.heroku(raw),
    }
    (said.errors, said.warnings)
}

impl Said {
    fn error(&mut self, text: String) {
        self.errors.push(text);
    }

    fn warn(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.warnings.push(text());
        }
    }

    fn scalingo(&mut self, raw: &Scalingo) {
        self.warn(!is_blank(raw.name.as_deref()), || "name is blank".to_owned());
        self.not_blank("username", raw.username.as_deref());
        let has_colon = raw.username.as_deref().is_some_and(|name| name.contains(':'));
        self.warn(!has_colon, || "username has a colon, which Basic auth cannot carry".to_owned());
        self.not_blank("password", raw.password.as_deref());
        self.not_blank("sso_salt", raw.sso_salt.as_deref());
        self.go_url("logo_url", raw.logo_url.as_deref());
        self.not_blank("short_description", raw.short_description.as_deref());
        self.not_blank("description", raw.description.as_deref());
        if raw.config_vars.iter().flatten().next().is_none() {
            self.error("config_vars should have at least one element environment variable".to_owned());
        }
        self.variables(raw.config_vars.as_deref().unwrap_or_default());
        self.scalingo_urls("production", raw.production.as_ref(), true);
        self.scalingo_urls("test", raw.test.as_ref(), false);
        let plans = raw.plans.as_deref().unwrap_or_default();
        if plans.is_empty() {
            self.error("plans should have at least one element plan".to_owned());
        }
        self.plans(plans);
    }

    fn not_blank(&mut self, name: &str, text: Option<&str>) {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            self.error(format!("{name} can't be blank"));
        } else {
            self.warn(!text.trim().is_empty(), || format!("{name} is nothing but blanks"));
        }
    }

    /// Whether it could be told to be one.
    fn go_url(&mut self, name: &str, url: Option<&str>) -> bool {
        let problem = url.and_then(go_url::problem);
        let is_url = problem.is_none();
        if let Some(problem) = problem {
            self.error(format!("{name} is not a valid URL: {}", shown(&problem, SHOWN_MAX)));
        }
        is_url
    }

    fn scalingo_urls(&mut self, section: &str, urls: Option<&Urls>, is_secure: bool) {
        let Some(urls) = urls else {
            return self.warn(false, || format!("{section} is missing: there is nothing to send requests to"));
        };
        for (name, url) in [("base_url", &urls.base_url), ("sso_url", &urls.sso_url)] {
            let name = format!("{section}.{name}");
            if self.go_url(&name, url.as_deref()) {
                self.address(&name, url.as_deref().unwrap_or_default(), is_secure);
            }
        }
    }

    fn address(&mut self, name: &str, url: &str, is_secure: bool) {
        let uri = url.parse::<Uri>().ok();
        let scheme = uri.as_ref().and_then(Uri::scheme_str);
        let has_host = uri.as_ref().and_then(Uri::host).is_some_and(|host| !host.is_empty());
        match scheme {
            _ if url.is_empty() => self.warn(false, || format!("{name} is blank")),
            Some("https") if has_host => {}
            Some("http") if has_host => self.warn(!is_secure, || format!("{name} does not begin with https://")),
            _ => self.warn(false, || format!("{name} is no http:// or https:// URL with a host")),
        }
    }

    fn variables(&mut self, names: &[String]) {
        let mut seen = BTreeSet::new();
        for (place, name) in names.iter().enumerate() {
            let shown = shown(name, 80);
            self.warn(crate::env::is_allowed(name), || {
                format!("config_vars[{place}]: `{shown}` is no variable that apps are given")
            });
            self.warn(seen.insert(name), || format!("config_vars[{place}]: `{shown}` stands twice"));
        }
    }

    fn plans(&mut self, plans: &[Plan]) {
        let mut seen = BTreeSet::new();
        for (place, plan) in plans.iter().enumerate() {
            let name = plan.name.as_deref().unwrap_or_default();
            if is_blank(Some(name)) {
                self.warn(false, || format!("plans[{place}].name is blank"));
            } else {
                self.warn(seen.insert(name), || format!("plans[{place}].name: `{}` stands twice", shown(name, 80)));
            }
            self.warn(!is_blank(plan.display_name.as_deref()), || format!("plans[{place}].display_name is blank"));
            self.warn(plan.price.unwrap_or_default() >= 0.0, || format!("plans[{place}].price is below nothing"));
            self.warn(!is_blank(plan.description.as_deref()), || format!("plans[{place}].description is blank"));
        }
    }

    fn heroku(&mut self, raw: &Heroku) {
        match raw.id.as_deref() {
            None => self.error("manifest id key: if exists".to_owned()),
            Some("") => self.error("manifest id key: is not blank".to_owned()),
            Some(id) => {
                let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
                self.warn(id.bytes().all(fits), || format!("id: `{}` is no slug", shown(id, 80)));
            }
        }
        let Some(api) = &raw.api else {
            return self.error("manifest api key: if exists".to_owned());
        };
        self.heroku_api(api);
        self.heroku_variables(raw.id.as_deref().unwrap_or_default(), api);
        if api.username.is_some() {
            self.api("deprecated fields: username is deprecated: Please authenticate using the add-on id.");
        }
        self.warn(!is_blank(api.sso_salt.as_deref()), || {
            "api.sso_salt is missing: nobody can be signed on to a dashboard".to_owned()
        });
    }

    fn api(&mut self, text: &str) {
        self.error(format!("manifest api key: {text}"));
    }

    fn heroku_api(&mut self, api: &Api) {
        match api.regions.as_deref() {
            None => self.api("has a list of regions"),
            Some(regions) => {
                if !regions.iter().any(|region| region == "us" || region == "*") {
                    self.api("contains at least the US region");
                }
                let is_known = |region: &&String| REGIONS.contains(&region.as_str());
                let is_later = |region: &&String| LATER_REGIONS.contains(&region.as_str());
                if let Some(region) = regions.iter().find(|region| !is_known(region) && !is_later(region)) {
                    self.api(&format!("contains only valid region names: `{}` is none", shown(region, 40)));
                }
                for region in regions.iter().filter(is_later) {
                    self.warn(false, || format!("api.regions: kensa does not know `{region}`"));
                }
            }
        }
        if api.password.as_deref().unwrap_or_default().is_empty() {
            self.api("contains password");
        }
        if api.test.is_none() {
            self.api("contains test url");
        }
        let begins = |url: Option<&str>| url.is_some_and(|url| url.starts_with("https:"));
        match &api.production {
            None => self.api("contains production url"),
            Some(Place::Root(url)) if begins(Some(url)) => self.address("api.production", url, true),
            Some(Place::Root(_)) => self.api("production url uses SSL"),
            Some(Place::Urls(urls)) => {
                for (key, what, url) in [("base_url", "production", &urls.base_url), ("sso_url", "sso", &urls.sso_url)]
                {
                    match url.as_deref().filter(|url| begins(Some(url))) {
                        Some(url) => self.address(&format!("api.production.{key}"), url, true),
                        None => self.api(&format!("{what} url uses SSL")),
                    }
                }
            }
        }
        match &api.test {
            Some(Place::Root(url)) => self.address("api.test", url, false),
            Some(Place::Urls(urls)) => {
                self.address("api.test.base_url", urls.base_url.as_deref().unwrap_or_default(), false);
                self.address("api.test.sso_url", urls.sso_url.as_deref().unwrap_or_default(), false);
            }
            None => {}
        }
    }

    fn heroku_variables(&mut self, id: &str, api: &Api) {
        let names = api.config_vars.as_deref().unwrap_or_default();
        let fits = |name: &str| {
            name.len() > 1
                && name.starts_with(|first: char| first.is_ascii_uppercase())
                && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if let Some(name) = names.iter().find(|name| !fits(name)) {
            let name = shown(name, 80);
            self.api(&format!("all config vars are uppercase strings: \"{name}\" is not a valid ENV key"));
        }
        let prefix = api.config_vars_prefix.clone().unwrap_or_else(|| id.to_uppercase().replace('-', "_"));
        if let Some(name) = names.iter().find(|name| !name.starts_with(&format!("{prefix}_"))) {
            let (name, prefix) = (shown(name, 80), shown(&prefix, 80));
            self.api(&format!(
                "all config vars are prefixed with the addon id: {name} is not a valid ENV key - must be prefixed with \
                 {prefix}_"
            ));
        }
        self.variables(names);
    }
}

fn is_blank(text: Option<&str>) -> bool {
    text.unwrap_or_default().trim().is_empty()
}
