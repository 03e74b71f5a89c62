//! The lines of a grant about a provider elsewhere.

use super::{Line, needs};
use crate::manifest::{Manifest, PASSWORD, RemoteProvider, SSO_SALT};

pub(super) fn provider(manifest: &Manifest, provider: &RemoteProvider, lines: &mut Vec<Line>) {
    let mut add = |may, what: String, because: &str| lines.push(Line { may, what, because: because.to_owned() });
    let RemoteProvider { dialect, base_url, username, .. } = provider;
    add(
        true,
        format!("have its hooks done by {base_url}, which is told the app's name, the plan and the options"),
        "addon.json: remote.base_url",
    );
    add(
        true,
        format!("ask it as {dialect} does, as `{username}` with the setting {PASSWORD}"),
        "addon.json: remote.dialect, remote.username",
    );
    if let Some(url) = &provider.sso_url {
        add(
            true,
            format!("have `lodger open` send people to {url}, with a token made of the setting {SSO_SALT}"),
            "addon.json: remote.sso_url",
        );
    }
    needs(manifest, lines);
    let what = "run any code on this machine, or see any file, variable, process or addon of it".to_owned();
    lines.push(Line { may: false, what, because: "built in".to_owned() });
}
