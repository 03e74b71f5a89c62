//! That people are signed on to a dashboard by a token of now, once, and by nothing else.

use lodger::provider::{Ask, Dialect, ProviderAnswer, ProviderUrl, Sent, SignOn, SignOnAt};

use super::{Contract, Made, Met, told};

/// Beyond the window that either platform names, to both sides.
const OUTSIDE_SECONDS: i64 = 6 * 60;
/// Most redirects that are followed to the dashboard.
const REDIRECTS_MAX: usize = 5;
/// The cookie that a Heroku dashboard draws its header from.
const NAV_DATA: &str = "heroku-nav-data";

impl Contract<'_> {
    pub(super) async fn sign_on(&mut self, made: &Made) {
        let (manifest, at) = (&self.target.manifest, &self.target.at);
        self.group(&format!("single sign-on, by {}", if at.post { "POST" } else { "GET" }));
        if manifest.sso_salt.is_empty() || at.sso_url.is_empty() {
            return self.skip("signs on", "need an sso salt and an sso url to perform sso test");
        }
        let now = super::super::target::now();
        let on = |id: &str, timestamp| SignOn {
            id: id.to_owned(),
            ..self.target.sign_on(&made.id, &made.wanted.uuid, timestamp)
        };
        let id = made.id.as_str();
        let other = on("another", now).to(manifest, at);
        let borrowed = other.fields.iter().find(|(name, _)| name == "token").map(|(_, token)| token.clone());
        let bad = [
            ("refuses a token that is none", on(id, now).with_token(manifest, at, Some("invalid"))),
            ("refuses a token of another resource", on(id, now).with_token(manifest, at, borrowed.as_deref())),
            ("refuses a token that is 6 minutes old", on(id, now - OUTSIDE_SECONDS).to(manifest, at)),
            ("refuses a token of 6 minutes from now", on(id, now + OUTSIDE_SECONDS).to(manifest, at)),
        ];
        let good = on(id, now).to(manifest, at);
        for (name, to) in bad {
            let answer = self.browse(&to, &[]).await;
            self.note(name, self.is_kept_out(&answer));
        }
        match self.dashboard(&good).await {
            Err(why) => self.note("signs on with a good token", Err(why)),
            Ok((page, cookies)) => {
                let met =
                    if page.status == 200 { Ok(()) } else { Err(format!("expected 200, got {}", page.status_line())) };
                self.note("signs on with a good token", met);
                if self.target.manifest.dialect == Dialect::Heroku {
                    self.note("sets the cookie heroku-nav-data to what was sent", has_nav_data(&good, &cookies));
                    self.note("shows Heroku's header", has_header(&page));
                }
            }
        }
        let again = self.browse(&good, &[]).await;
        self.note("refuses the same token when it comes again", self.is_kept_out(&again));
    }

    /// Heroku demands 403; Scalingo says nothing, and what it gives to providers sends people back where they came from.
    fn is_kept_out(&self, answer: &Result<ProviderAnswer, String>) -> Met {
        let answer = answer.as_ref().map_err(Clone::clone)?;
        match (self.target.manifest.dialect, answer.status) {
            (_, 403) => Ok(()),
            (Dialect::Scalingo, 401) => Ok(()),
            (Dialect::Scalingo, 300..=399) if answer.cookies.is_empty() => Ok(()),
            _ => Err(format!("expected 403, got {}", answer.status_line())),
        }
    }

    async fn browse(&mut self, to: &SignOnAt, cookies: &[String]) -> Result<ProviderAnswer, String> {
        let url = ProviderUrl::parse("sso_url", &to.url).map_err(|error| told(&error))?;
        let ask = Ask { cookies: cookies.to_vec(), ..Ask::page(url) };
        self.ask(if to.post { Ask { method: "POST", sent: Sent::Form(to.fields.clone()), ..ask } } else { ask }).await
    }

    /// Where a browser ends up, as long as that is at the same server; and its cookies.
    async fn dashboard(&mut self, to: &SignOnAt) -> Result<(ProviderAnswer, Vec<String>), String> {
        let mut at = ProviderUrl::parse("sso_url", &to.url).map_err(|error| told(&error))?;
        let mut page = self.browse(to, &[]).await?;
        let mut cookies = Vec::new();
        for _ in 0..REDIRECTS_MAX {
            for cookie in page.cookies.clone() {
                keep(&mut cookies, cookie);
            }
            let Some(location) = page.location.clone().filter(|_| (300..400).contains(&page.status)) else { break };
            let Some(there) = at.follow(&location) else {
                return Err("it redirects to another server, where nobody is followed".to_owned());
            };
            page = self.ask(Ask { cookies: cookies.clone(), ..Ask::page(there.clone()) }).await?;
            at = there;
        }
        Ok((page, cookies))
    }
}

/// In the place of the one of its name.
fn keep(cookies: &mut Vec<String>, cookie: String) {
    let name = |cookie: &str| cookie.split('=').next().unwrap_or_default().to_owned();
    cookies.retain(|known| name(known) != name(&cookie));
    cookies.push(cookie);
}

fn has_nav_data(sent: &SignOnAt, cookies: &[String]) -> Met {
    let sent = sent.fields.iter().find(|(name, _)| name == "nav-data").map(|(_, value)| value.as_str());
    let set = cookies.iter().find_map(|cookie| cookie.strip_prefix(NAV_DATA)?.strip_prefix('='));
    match set {
        None => Err(format!("could not find cookie {NAV_DATA}")),
        Some(set) if Some(set) == sent => Ok(()),
        Some(set) => Err(format!("expected {}, got {}", sent.unwrap_or_default(), lodger::text::shown(set, 200))),
    }
}

/// `div#heroku-header`, or a script of boomerang's.
fn has_header(page: &ProviderAnswer) -> Met {
    let html = String::from_utf8_lossy(&page.body);
    let mut tags = html.split('<').filter_map(|part| part.split('>').next());
    let is_header = |tag: &str| {
        tag.starts_with("div")
            && ["id=\"heroku-header\"", "id='heroku-header'", "id=heroku-header"].iter().any(|id| tag.contains(id))
    };
    let is_script = |tag: &str| tag.starts_with("script") && tag.contains("src=") && tag.contains("boomerang");
    if tags.any(|tag| is_header(tag) || is_script(tag)) {
        Ok(())
    } else {
        Err("could not find Heroku layout".to_owned())
    }
}
