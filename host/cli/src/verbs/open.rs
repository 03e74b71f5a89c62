//! `lodger open`: the link that signs somebody on at the provider of what an app has.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use crate::context::Context;
use crate::output;

/// Print the link to a provider's own pages of what an app has
///
/// Whoever has the link is let in by the provider, for some minutes. Where the provider takes a form and not a link, it is one
/// that makes the browser send that form.
#[derive(clap::Args)]
pub struct Open {
    app: String,
    addon: String,
    /// The one added under this alias
    #[arg(long = "as", value_name = "ALIAS")]
    alias: Option<String>,
    /// Who is signed on, as the provider is told
    #[arg(long, value_name = "ADDRESS", default_value = "operator@localhost")]
    email: String,
}

impl Open {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        let app = super::id(&self.app)?;
        let addon = host.resolve(&self.addon)?;
        let alias = self.alias.as_deref().map(super::id).transpose()?;
        let at = host.sign_on_at_provider(&app, &addon, alias.as_ref(), &self.email).await?;
        let link = if at.post { by_form(&at.url, &at.fields) } else { at.url.clone() };
        if context.json {
            let fields: Map<String, Value> =
                at.fields.into_iter().map(|(name, value)| (name, Value::String(value))).collect();
            output::json(&json!({ "link": link, "url": at.url, "post": at.post, "fields": fields }))?;
        } else {
            output::line(link);
        }
        Ok(0)
    }
}

/// A page in a link, which posts a form as soon as a browser shows it.
fn by_form(url: &str, fields: &[(String, String)]) -> String {
    let mut page = format!("<form method=post action=\"{}\">", in_markup(url));
    for (name, value) in fields {
        let (name, value) = (in_markup(name), in_markup(value));
        // Writing to a String cannot fail.
        let _ = write!(page, "<input type=hidden name=\"{name}\" value=\"{value}\">");
    }
    page.push_str("<button>Sign on</button></form><script>document.forms[0].submit()</script>");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let encoded =
        page.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    format!("data:text/html;charset=utf-8,{}", encoded.collect::<String>())
}

fn in_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
