//! `lodger token`: who may ask the server.

use std::time::Duration;

use anyhow::bail;
use lodger::{Scope, Token as Known};
use serde_json::json;

use crate::context::Context;
use crate::output;

/// Make, list and revoke the tokens that `lodger serve` asks for
#[derive(clap::Args)]
pub struct Token {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Make a token; it is shown once, and only its hash is kept
    Create {
        /// What it is for: `read` (everything but secrets), `manage` (everything), `app:NAME` (to add addons to that app and
        /// take them away, and read its variables), `publish:NAMESPACE` (to
        /// publish addons of that namespace in its marketplace, and delete them again)
        #[arg(long = "scope", value_name = "SCOPE,…", required = true, value_delimiter = ',')]
        scopes: Vec<String>,
        /// For how long: 90d, 12h, 30m [default: until it is revoked]
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<Duration>,
        /// To know it by in the list
        #[arg(long)]
        name: Option<String>,
    },
    /// List the tokens, without what proves them
    List,
    /// Take a token out of use, at once
    Revoke { id: String },
}

impl Token {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let host = context.host().await?;
        match self.what {
            What::Create { scopes, expires, name } => {
                let mut scopes = scopes.iter().map(|scope| scope.parse()).collect::<Result<Vec<Scope>, _>>()?;
                scopes.sort();
                scopes.dedup();
                let made = host.create_token(name.as_deref(), scopes, expires)?;
                output::say(
                    context,
                    format!("made the token {}: {}; it is not shown again", made.id, words(&made.scopes)),
                );
                if context.json {
                    output::json(&made)?;
                } else {
                    output::line(made.token);
                }
            }
            What::List => {
                let tokens = host.tokens()?;
                if context.json {
                    output::json(&tokens)?;
                    return Ok(0);
                }
                if tokens.is_empty() {
                    output::say(context, "there are none; `lodger token create --scope read` makes one");
                }
                output::table(&tokens.into_iter().map(row).collect::<Vec<_>>());
            }
            What::Revoke { id } => {
                host.revoke_token(&id)?;
                output::say(context, format!("revoked {id}"));
                if context.json {
                    output::json(&json!({ "id": id, "changed": true }))?;
                }
            }
        }
        Ok(0)
    }
}

fn row(token: Known) -> Vec<String> {
    let expires = match token.expires {
        None => "does not expire".to_owned(),
        Some(_) if token.is_expired() => "has expired".to_owned(),
        Some(at) => format!("expires in {}", left(at)),
    };
    vec![token.id, words(&token.scopes), expires, token.name.unwrap_or_default()]
}

fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// In the largest unit that there is one of.
fn left(at_ms: i64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seconds = Duration::from_millis(u64::try_from(at_ms).unwrap_or(0)).saturating_sub(now).as_secs();
    match seconds {
        0..3600 => format!("{}m", seconds / 60 + 1),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn time(text: &str) -> anyhow::Result<Duration> {
    let split = text.len().saturating_sub(1);
    let (number, unit) = (text.get(..split).unwrap_or_default(), text.get(split..).unwrap_or_default());
    let seconds = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => bail!("a number and m, h or d, such as 90d"),
    };
    match number.parse::<u32>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(u64::from(number) * seconds)),
        _ => bail!("a number above 0 and m, h or d, such as 90d"),
    }
}
