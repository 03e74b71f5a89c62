//! `lodger import`: a provider that hands its manifest to Scalingo or Heroku, as an addon here.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use lodger::{Error, Host, Import as How, Package, ProviderManifest, SETTING_PASSWORD, SETTING_SSO_SALT};
use serde_json::json;

use super::install::{accept, show, told};
use crate::context::Context;
use crate::output;

/// Largest manifest that is read, in bytes.
const BYTES_MAX: u64 = 1 << 20;

/// Install a provider of Scalingo's or Heroku's by its manifest
///
/// Its hooks are requests to the provider, which the policy must admit: `network` under [grant] in lodger.toml. Nothing of its
/// code runs here. The password and the salt of its manifest become the addon's secret settings, and stand in no package.
#[derive(clap::Args)]
pub struct Import {
    /// The provider's manifest, of either dialect
    manifest: PathBuf,
    /// Ask the provider's own test server, not the one for production
    #[arg(long)]
    test: bool,
    /// What the addon is called [default: made of the provider's name]
    #[arg(long, value_name = "ID")]
    name: Option<String>,
    /// A plan that the manifest does not list, as Heroku's list none; any number
    #[arg(long = "plan", value_name = "PLAN")]
    plans: Vec<String>,
    /// Only write the package, to this directory
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Accept the grant without asking
    #[arg(long)]
    yes: bool,
    /// Accept exactly the grant with this digest, as `--dry-run` shows it
    #[arg(long, value_name = "SHA256:…")]
    accept_grant: Vec<String>,
    /// Show what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        let provider = ProviderManifest::parse(&read(&self.manifest)?)?;
        let name = self.name.as_deref().map(super::id).transpose()?;
        let plans = self.plans.iter().map(|plan| super::id(plan)).collect::<Result<_, _>>()?;
        let written = How { name, test: self.test, plans }.addon(&provider)?;
        match &self.output {
            Some(dir) => self.write(context, dir, &written),
            None => self.install(context, &*context.host().await?, &provider, &written).await,
        }
    }

    async fn install(
        &self,
        context: &Context,
        host: &Host,
        provider: &ProviderManifest,
        written: &[u8],
    ) -> anyhow::Result<u8> {
        let incoming = host.inspect_package(Package::of_manifest(written)?).await?;
        let id = incoming.grant.id.clone();
        let would = host.would_install(std::slice::from_ref(&incoming), false).await;
        let [changes] = would.map_err(|error| changed(error, &id.to_string()))?[..] else { return Ok(0) };
        if self.dry_run {
            output::say(context, format!("would {} {id}", if changes { "install" } else { "keep" }));
            show(context, &incoming.grant);
            if context.json {
                output::json(&json!({ "dry_run": true, "changed": changes, "grant": incoming.grant }))?;
            }
            return Ok(0);
        }
        if changes {
            show(context, &incoming.grant);
            let known = host.addon(&id).is_ok();
            accept(&self.accept_grant, self.yes && !known, &incoming.grant, true)?;
        }
        let answer = told(context, &host.install(incoming, false).await?)?;
        let salt = (SETTING_SSO_SALT, &provider.sso_salt);
        for (name, value) in [(SETTING_PASSWORD, &provider.password), salt] {
            let declared = host.settings(&id).await?.iter().any(|setting| setting.name == name);
            if declared && !value.is_empty() && host.set(&id, name, Some(value.clone())).await? {
                output::say(context, format!("set {name} of {id}"));
            }
        }
        if context.json {
            output::json(&answer)?;
        } else {
            output::say(context, format!("`lodger enable {id}` has it serve"));
        }
        Ok(0)
    }

    fn write(&self, context: &Context, dir: &Path, written: &[u8]) -> anyhow::Result<u8> {
        let package = Package::of_manifest(written)?;
        let id = package.manifest.id;
        let file = dir.join("addon.json");
        if self.dry_run {
            return super::dry_run(context, true, &format!("write {}", file.display()));
        }
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make `{}`", dir.display()))?;
        super::put(&file, written)?;
        let settings: Vec<&String> = package.manifest.settings.keys().collect();
        output::say(context, format!("wrote {}", file.display()));
        output::say(context, format!("  lodger install {}", dir.display()));
        for name in &settings {
            output::say(context, format!("  lodger set {id} {name}=-    # from stdin, as the manifest has it"));
        }
        if context.json {
            output::json(&json!({ "id": id, "path": file, "settings": settings }))?;
        }
        Ok(0)
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let cannot = || format!("cannot read `{}`", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).with_context(cannot)?;
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).with_context(cannot)?;
    Ok(bytes)
}

/// What was imported before stays as it is until somebody upgrades it.
fn changed(error: Error, id: &str) -> anyhow::Error {
    let of_another = matches!(error, Error::DigestChanged { .. } | Error::OtherVersion { .. });
    let error = anyhow::Error::from(error);
    if of_another {
        return error.context(format!(
            "the manifest is another than the one imported: `lodger import --output DIR` writes it, `lodger upgrade {id} DIR` \
             takes it over"
        ));
    }
    error
}
