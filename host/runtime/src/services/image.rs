//! Images of services: found or fetched, looked at, and pinned.

use super::Services;
use crate::engine::{About, Credentials, Engine, Fault, Image};
use crate::error::{Error, Result};
use crate::image::ImageRef;
use crate::manifest::Service;
use crate::policy::Registry;
use crate::registry::Addon;
use crate::render::Pin;
use crate::sandbox::ProgressEvent;
use crate::store::InstanceRow;
use crate::text::shown;

/// Largest password file, in bytes.
const PASSWORD_MAX: u64 = 64 << 10;

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

    async fn find_or_fetch(&self, engine: &dyn Engine, image: &ImageRef) -> Result<Image> {
        if let Some(found) = engine.image(&image.to_string()).await? {
            return Ok(found);
        }
        self.fetch(engine, image).await?;
        let missing = || failed(image, "the engine has fetched it and does not have it".to_owned(), None);
        engine.image(&image.to_string()).await?.ok_or_else(missing)
    }

    /// Fetches an image from its registry, or from the mirror the policy names for it.
    async fn fetch(&self, engine: &dyn Engine, image: &ImageRef) -> Result<()> {
        let none = Registry::default();
        let registry = self.policy.registries.get(&image.registry).unwrap_or(&none);
        let from = registry.mirror.as_ref().map_or_else(|| image.clone(), |mirror| image.on(mirror));
        let credentials = credentials(&from, registry)?;
        self.tell(format!("pulling {from}"));
        let sink = self.progress.clone();
        let progress = move |pulled: crate::engine::Pulled| {
            if let (Some(sink), true) = (&sink, pulled.of > 0) {
                let percent = u8::try_from((pulled.bytes * 100 / pulled.of).min(100)).unwrap_or(100);
                sink(ProgressEvent::Percent(percent));
            }
        };
        let pulled = engine.pull(&from.to_string(), credentials.as_ref(), &progress).await;
        pulled.map_err(|failure| match failure.fault {
            Fault::Unreachable => failure.into(),
            _ => failed(
                image,
                format!("engine `{}` does not have it and could not fetch it: {}", failure.engine, failure.message),
                Some("check its name, or name a mirror under [[registry]] in lodger.toml".to_owned()),
            ),
        })?;
        if from != *image && image.digest.is_none() {
            engine.tag(&from.to_string(), &image.to_string()).await?;
        }
        Ok(())
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
