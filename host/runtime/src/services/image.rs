//! Images of services: found or fetched, looked at, and pinned.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::Services;
use crate::engine::{About, Credentials, Engine, Failure, Image};
use crate::error::{Error, Result};
use crate::host::told_of_progress;
use crate::id::Id;
use crate::image::ImageRef;
use crate::manifest::Service;
use crate::policy::Registry;
use crate::registry::Addon;
use crate::render::Pin;
use crate::sandbox::ProgressEvent;
use crate::store::InstanceRow;
use crate::text::{redact, shown};

/// Largest password file, in bytes.
const PASSWORD_MAX: u64 = 64 << 10;
/// For the address of a registry.
const LOOKUP: Duration = Duration::from_secs(10);

impl Services {
    /// Pins the image of a service: from then on its containers are made of this image, whatever its tag says later.
    ///
    /// # Errors
    /// As for [`Services::resolve`].
    pub async fn pin(&self, addon: &Addon, service: &Service, engine: &str) -> Result<()> {
        let reference = service.image.to_string();
        if self.store.pin(&addon.id, &addon.version, &service.name, &reference)?.is_none() {
            let pin = self.resolve(&service.image, engine).await?;
            self.store.put_pin(&addon.id, &addon.version, &service.name, &reference, &pin)?;
        }
        Ok(())
    }

    /// Finds an image, or fetches it, and checks whether services may be made of it.
    ///
    /// # Errors
    /// [`Error::Image`] for one that is not there, has no digest though the policy asks for one, is for another machine, or
    /// carries labels that are not its author's to set.
    pub async fn resolve(&self, image: &ImageRef, engine: &str) -> Result<Pin> {
        let engine = self.engines.get(engine)?;
        let found = self.find_or_fetch(&*engine, image).await?;
        let about = engine.about().await?;
        self.check(image, found, &about)
    }

    /// What an image is now, by its digest, or by its id where the policy has it without one: as the engine has it, else as
    /// its registry tells. Nothing of it is fetched.
    ///
    /// # Errors
    /// As for [`Services::resolve`]; and [`Error::Image`] where the registry is one that the policy does not name and that is
    /// not public: whoever publishes must not make the engine ask what only this machine reaches.
    pub async fn published(&self, image: &ImageRef, engine: &str) -> Result<String> {
        let engine = self.engines.get(engine)?;
        let from = self.source(image);
        for name in [&image.exact(), &from] {
            if let Some(found) = engine.image(&name.to_string()).await? {
                let pin = self.check(image, found, &engine.about().await?)?;
                return Ok(pin.digest.unwrap_or(pin.id));
            }
        }
        let registry = self.policy.registries.get(&image.registry);
        if registry.is_none() {
            self.is_for_all(image).await?;
        }
        let credentials = registry.map(|registry| credentials(&from, registry)).transpose()?.flatten();
        let digest = engine.published(&from.to_string(), credentials.as_ref()).await;
        let digest =
            digest.map_err(|failure| not_fetched(image, &from, failure, credentials.as_ref(), "ask for it at"))?;
        let at = image.at(&digest);
        let known = at.parse::<ImageRef>().ok().filter(|known| image.digest.is_none() || known.digest == image.digest);
        let other = || failed(image, format!("is another at {}: {}", from.registry, shown(&digest, 100)), None);
        known.map(|_| at).ok_or_else(other)
    }

    /// The image of a service that was approved, and no other.
    ///
    /// # Errors
    /// As for [`Services::resolve`]; and [`Error::Image`] where that image is not to be had any more.
    pub async fn resolve_approved(
        &self,
        service: &Service,
        approved: &BTreeMap<Id, String>,
        engine: &str,
    ) -> Result<Pin> {
        let image = &service.image;
        let known = approved.get(&service.name).map(String::as_str).unwrap_or_default();
        let by_digest: Option<ImageRef> = known.parse().ok().filter(|_| known.contains('@'));
        let pin = self.resolve(by_digest.as_ref().unwrap_or(image), engine).await?;
        // One without a digest is known by its id.
        if by_digest.is_none() && pin.id != known {
            let message = format!("is another by now than {}, which was approved", shown(known, 100));
            return Err(failed(image, message, Some("publish it in a new version".to_owned())));
        }
        Ok(pin)
    }

    /// The registry of an image, where nobody has named it to us, has an address of the public.
    async fn is_for_all(&self, image: &ImageRef) -> Result<()> {
        let host = image.registry.split(':').next().unwrap_or_default();
        let found = self.outbound.resolve(host, Instant::now() + LOOKUP, ()).await;
        found.map(drop).map_err(|error| {
            let hint = format!("[[registry]] with name = \"{}\" in lodger.toml names it", image.registry);
            failed(image, format!("is at a registry that cannot be asked: {error}"), Some(hint))
        })
    }

    async fn find_or_fetch(&self, engine: &dyn Engine, image: &ImageRef) -> Result<Image> {
        // Offline too, for an image that has come from a mirror: by digest it has no other name than the one it came under.
        for name in [image.exact(), self.source(image)] {
            if let Some(found) = engine.image(&name.to_string()).await? {
                return Ok(found);
            }
        }
        let from = self.fetch(engine, image).await?;
        let missing = || failed(image, "is not there, although the engine has fetched it".to_owned(), None);
        engine.image(&from.to_string()).await?.ok_or_else(missing)
    }

    /// What is asked for an image: its registry, or the mirror the policy names for it.
    fn source(&self, image: &ImageRef) -> ImageRef {
        let mirror = self.policy.registries.get(&image.registry).and_then(|registry| registry.mirror.as_ref());
        mirror.map_or_else(|| image.exact(), |mirror| image.exact().on(mirror))
    }

    /// Fetches an image, and returns the name it has come under.
    async fn fetch(&self, engine: &dyn Engine, image: &ImageRef) -> Result<ImageRef> {
        let from = self.source(image);
        let credentials = self.policy.registries.get(&image.registry).map(|registry| credentials(&from, registry));
        let credentials = credentials.transpose()?.flatten();
        self.tell(format!("pulling {from}"));
        let sink = told_of_progress(self.progress.as_ref());
        let progress = move |pulled: crate::engine::Pulled| {
            if let (Some(sink), true) = (&sink, pulled.of > 0) {
                // Sizes are what a registry says they are.
                let percent = u128::from(pulled.bytes) * 100 / u128::from(pulled.of);
                sink(ProgressEvent::Percent(u8::try_from(percent.min(100)).unwrap_or(100)));
            }
        };
        let pulled = engine.pull(&from.to_string(), credentials.as_ref(), &progress).await;
        pulled.map_err(|failure| not_fetched(image, &from, failure, credentials.as_ref(), "fetch it from"))?;
        if from.registry != image.registry && image.digest.is_none() {
            engine.tag(&from.to_string(), &image.to_string()).await?;
        }
        Ok(from)
    }

    /// What was pinned was removed behind our back, or was never on this engine: the same, and nothing else, is fetched.
    pub async fn fetch_again(&self, engine: &dyn Engine, row: &InstanceRow, id: &str) -> Result<()> {
        let pins = self.store.pins(&row.instance.addon)?;
        let digest = pins.into_iter().filter(|pin| pin.id == id).find_map(|pin| pin.digest);
        let Some(image) = digest.and_then(|digest| digest.parse::<ImageRef>().ok()) else {
            return Err(Error::Service {
                addon: row.instance.addon.clone(),
                service: row.instance.service.clone(),
                message: format!(
                    "engine `{}` does not have its image {id}, which has no digest to fetch it by",
                    row.engine
                ),
                hint: format!("load the very image into engine `{}`", row.engine),
            });
        };
        self.fetch(engine, &image).await?;
        if engine.image(id).await?.is_some() {
            return Ok(());
        }
        Err(Error::Service {
            addon: row.instance.addon.clone(),
            service: row.instance.service.clone(),
            message: format!("engine `{}` has fetched another image by {image} than {id}, which is pinned", row.engine),
            hint: "engines of one policy must be machines of one kind".to_owned(),
        })
    }

    /// Pins the image that another machine had pinned: the very one, and only as this policy admits it.
    ///
    /// # Errors
    /// As for [`Services::resolve`]; and [`Error::Image`] where the engine has, and finds, another image by its name.
    pub async fn pin_again(&self, image: &ImageRef, engine: &str, id: &str, digest: Option<&str>) -> Result<Pin> {
        let engine = self.engines.get(engine)?;
        let by_digest =
            digest.and_then(|digest| digest.split_once('@')).and_then(|(_, digest)| image.at(digest).parse().ok());
        let mut found = engine.image(id).await?;
        if found.is_none() {
            let named: &ImageRef = by_digest.as_ref().unwrap_or(image);
            if engine.image(&named.to_string()).await?.is_none() {
                self.fetch(&*engine, named).await?;
            }
            found = engine.image(id).await?;
        }
        let other = || {
            let message = format!("is another on engine than {}, which was pinned", shown(id, 80));
            failed(image, message, Some("load or push the very image".to_owned()))
        };
        let found = found.filter(|found| found.id == id).ok_or_else(other)?;
        let about = engine.about().await?;
        let pin = self.check(image, found, &about)?;
        if pin.digest.is_none() && engine.image(&image.to_string()).await?.is_none_or(|named| named.id != id) {
            // Nothing but its name says that it is this image.
            return Err(other());
        }
        Ok(pin)
    }

    fn check(&self, image: &ImageRef, found: Image, about: &About) -> Result<Pin> {
        if !about.architecture.is_empty() && !found.architecture.is_empty() && found.architecture != about.architecture
        {
            let message = format!("is made for {}; this engine runs {}", found.architecture, about.architecture);
            return Err(failed(image, message, Some("name the image for this machine".to_owned())));
        }
        let refused = |label: &&String| !self.policy.admits_image_label(label);
        if let Some(label) = found.labels.keys().find(refused) {
            let label = shown(label, 100);
            let (message, hint) = if label.starts_with("lodger.") {
                (format!("carries the label `{label}`, which only the host sets"), "use another image".to_owned())
            } else {
                let hint = format!("add \"{label}\" to image_labels under [grant] in lodger.toml");
                (format!("carries the label `{label}`, which other programs may act on"), hint)
            };
            return Err(failed(image, message, Some(hint)));
        }
        let name = image.name();
        let known = found.digests.iter().find(|digest| {
            digest.parse::<ImageRef>().is_ok_and(|known| known.name() == name || self.is_mirrored(&known, image))
        });
        let digest = match (&image.digest, known) {
            (Some(digest), _) => Some(image.at(digest)),
            (None, Some(known)) => known.split_once('@').map(|(_, digest)| image.at(digest)),
            (None, None) if self.policy.may_be_unpinned(image) => None,
            (None, None) => {
                let hint =
                    format!("push it to a registry, or add \"{image}\" to unpinned under [grant] in lodger.toml");
                return Err(failed(image, "has no digest: nothing says which image that is".to_owned(), Some(hint)));
            }
        };
        Ok(Pin { id: found.id, digest, volumes: found.volumes })
    }

    fn is_mirrored(&self, known: &ImageRef, image: &ImageRef) -> bool {
        let mirror = self.policy.registries.get(&image.registry).and_then(|registry| registry.mirror.as_ref());
        mirror.is_some_and(|mirror| known.name() == image.on(mirror).name())
    }
}

fn failed(image: &ImageRef, message: String, hint: Option<String>) -> Error {
    Error::Image { image: image.to_string(), message, hint }
}

/// Neither here nor to be had, unless it is the engine that is silent.
fn not_fetched(
    image: &ImageRef,
    from: &ImageRef,
    failure: Failure,
    credentials: Option<&Credentials>,
    what: &str,
) -> Error {
    if failure.fault.is_silence() {
        return failure.into();
    }
    // A registry may say what it was given, and an engine pass that on.
    let password: Vec<String> = credentials.iter().map(|given| given.password.clone()).collect();
    let why = redact(&failure.message, &password);
    let message = format!("is not on engine `{}`, which could not {what} {}: {why}", failure.engine, from.registry);
    let hint = format!(
        "check its name; mirror, user and password_file stand in lodger.toml under [[registry]], name = \"{}\"",
        image.registry
    );
    failed(image, message, Some(hint))
}

/// For the registry that is asked, and no other.
fn credentials(image: &ImageRef, registry: &Registry) -> Result<Option<Credentials>> {
    let (Some(user), Some(path)) = (&registry.user, &registry.password_file) else { return Ok(None) };
    let read = || -> std::io::Result<String> {
        use std::io::Read as _;
        let mut text = String::new();
        std::fs::File::open(path)?.take(PASSWORD_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    let password = read().map_err(Error::io("read the password file", path))?;
    let password = password.trim_end_matches(['\r', '\n']).to_owned();
    Ok(Some(Credentials { registry: image.registry.clone(), user: user.clone(), password }))
}
