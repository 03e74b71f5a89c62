//! Packages: `addon.json`, the component beside it, and the immutable files under `files/`, which the guest sees as `/addon`.
//!
//! One reader for directories and archives, since a second one would disagree with the first. It takes regular files and
//! directories only, each path once (ignoring case), relative, in bounds; everything else is an error, nothing is skipped.
//! The digest is over names and contents, so that a directory and the archive made of it have the same one.

mod archive;
mod directory;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::compiler::hex;
use crate::error::{Error, Result};
use crate::manifest::{self, Manifest};
use crate::policy::PackageBounds;
use crate::text::{is_plain, shown};

pub use archive::write as pack;
pub(crate) use archive::write_fast as pack_fast;

/// The directory of a package the guest sees as `/addon`.
pub const FILES: &str = "files";
/// Longest path within a package, in bytes, and most directories above a file.
const PATH_MAX: usize = 500;
const DEPTH_MAX: usize = 16;

/// A package, read whole and within bounds.
#[derive(Debug)]
pub struct Package {
    pub manifest: Manifest,
    pub manifest_bytes: Vec<u8>,
    pub component: Option<Vec<u8>>,
    /// Path below `files/`, with `/` between parts, to content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// `sha256:…` over all of it.
    pub digest: String,
}

impl Package {
    /// Reads a directory that holds an `addon.json`, or an archive made by [`pack`].
    pub fn read(path: &Path, bounds: &PackageBounds) -> Result<Package> {
        let mut reader = Reader::new(path, bounds);
        let meta = std::fs::metadata(path).map_err(|source| reader.unreadable(source))?;
        if meta.is_dir() {
            directory::read(path, None, &mut reader)?;
        } else if meta.is_file() {
            archive::read(path, &mut reader)?;
        } else {
            return Err(reader.refused("neither a directory nor an archive"));
        }
        reader.finish()
    }

    /// The same for an archive in memory, called `name`.
    pub fn unpack(name: &str, packed: &[u8], bounds: &PackageBounds) -> Result<Package> {
        let mut reader = Reader::new(Path::new(name), bounds);
        archive::unpack(packed, &mut reader)?;
        reader.finish()
    }

    /// A package of nothing but its manifest.
    pub fn of_manifest(bytes: &[u8]) -> Result<Package> {
        let bounds = PackageBounds { bytes: manifest::BYTES_MAX as u64, files: 1, component_bytes: 0 };
        let mut reader = Reader::new(Path::new(manifest::FILE), &bounds);
        reader.note(manifest::FILE)?;
        reader.add(manifest::FILE, bytes)?;
        reader.finish()
    }

    /// Of all that is in it, in bytes.
    pub(crate) fn size(&self) -> u64 {
        let component = self.component.as_ref().map_or(0, Vec::len);
        let files: usize = self.files.values().map(Vec::len).sum();
        (self.manifest_bytes.len() + component + files) as u64
    }

    /// The digest it has, whether or not the manifest is one.
    pub(crate) fn digest_of_manifest(bytes: &[u8]) -> String {
        digest(&BTreeMap::from([(manifest::FILE.to_owned(), bytes.to_owned())]))
    }

    /// An installed package, whose component has the name `component` whatever the manifest calls it. It was held to its
    /// bounds when it was installed.
    pub(crate) fn read_installed(path: &Path, component: &str) -> Result<Package> {
        let bounds = PackageBounds { bytes: u64::MAX / 2, files: u64::MAX / 2, component_bytes: u64::MAX / 2 };
        let mut reader = Reader::new(path, &bounds);
        directory::read(path, Some(component), &mut reader)?;
        reader.finish()
    }
}

/// Collects the entries of a package and holds them to the rules, wherever they come from.
struct Reader<'a> {
    package: String,
    bounds: &'a PackageBounds,
    bytes: u64,
    entries: BTreeMap<String, Vec<u8>>,
    /// Paths in lower case, to find those that differ only in case.
    seen: BTreeMap<String, String>,
    manifest: Option<Manifest>,
}

impl<'a> Reader<'a> {
    fn new(path: &Path, bounds: &'a PackageBounds) -> Reader<'a> {
        let package = shown(&path.to_string_lossy(), 300);
        Reader { package, bounds, bytes: 0, entries: BTreeMap::new(), seen: BTreeMap::new(), manifest: None }
    }

    fn refused(&self, message: impl Into<String>) -> Error {
        Error::Package { package: self.package.clone(), message: message.into() }
    }

    fn unreadable(&self, source: std::io::Error) -> Error {
        Error::PackageRead { package: self.package.clone(), source }
    }

    /// Checks a path and notes it: relative, plain, once.
    fn note(&mut self, path: &str) -> Result<()> {
        let parts: Vec<&str> = path.split('/').collect();
        let bad = |part: &&str| part.is_empty() || *part == "." || *part == "..";
        let message = if path.len() > PATH_MAX || parts.len() > DEPTH_MAX {
            "the path is too long or too deep"
        } else if parts.iter().any(bad) || path.contains('\\') || path.contains('\0') {
            "the path is not a plain relative one"
        } else if !is_plain(path) {
            "the path holds control or formatting characters"
        } else if self.seen.len() as u64 >= self.bounds.files {
            return Err(self.refused(format!("more than {} entries (limits.package_files)", self.bounds.files)));
        } else if let Some(other) = self.seen.insert(path.to_lowercase(), path.to_owned()) {
            return Err(self.refused(format!("`{}` and `{}` are one path", shown(&other, 200), shown(path, 200))));
        } else {
            return Ok(());
        };
        Err(self.refused(format!("`{}`: {message}", shown(path, 200))))
    }

    /// Reads one file's content within what is left of the bounds.
    fn add(&mut self, path: &str, content: impl std::io::Read) -> Result<()> {
        use std::io::Read as _;
        let left = self.bounds.bytes - self.bytes;
        let most = if path == manifest::FILE { left.min(manifest::BYTES_MAX as u64) } else { left };
        let mut bytes = Vec::new();
        content.take(most + 1).read_to_end(&mut bytes).map_err(|source| self.unreadable(source))?;
        if bytes.len() as u64 > most {
            let bound = if most < left { "of a manifest" } else { "(limits.package_bytes)" };
            let of = if most < left { manifest::BYTES_MAX as u64 } else { self.bounds.bytes };
            return Err(self.refused(format!("`{}` goes past the {of} bytes {bound}", shown(path, 200))));
        }
        self.bytes += bytes.len() as u64;
        if path == manifest::FILE {
            self.manifest = Some(Manifest::parse(&bytes)?);
        }
        self.entries.insert(path.to_owned(), bytes);
        Ok(())
    }

    /// An archive can have both; there is no way to write them.
    fn no_file_is_a_directory(&self) -> Result<()> {
        let files: BTreeSet<String> = self.entries.keys().map(|path| path.to_lowercase()).collect();
        for path in &files {
            let above =
                path.match_indices('/').filter_map(|(end, _)| path.get(..end)).find(|above| files.contains(*above));
            if let Some(above) = above {
                return Err(self.refused(format!("`{}` is a file and a directory", shown(above, 200))));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Package> {
        let Some(manifest) = self.manifest.take() else { return Err(self.refused("there is no `addon.json` in it")) };
        self.no_file_is_a_directory()?;
        let digest = digest(&self.entries);
        let manifest_bytes = self.entries.remove(manifest::FILE).unwrap_or_default();
        let component = match &manifest.component {
            None => None,
            Some(name) => {
                let missing = || self.refused(format!("the component `{}` is not in it", shown(name, 200)));
                Some(self.entries.get(name).cloned().ok_or_else(missing)?)
            }
        };
        if let (Some(name), Some(component)) = (&manifest.component, &component) {
            self.entries.remove(name);
            if component.len() as u64 > self.bounds.component_bytes {
                let most = self.bounds.component_bytes;
                return Err(self.refused(format!("the component is over {most} bytes (limits.component_bytes)")));
            }
        }
        let mut files = BTreeMap::new();
        for (path, bytes) in std::mem::take(&mut self.entries) {
            match path.strip_prefix(FILES).and_then(|rest| rest.strip_prefix('/')) {
                Some(below) => files.insert(below.to_owned(), bytes),
                None => {
                    let message =
                        format!("`{}` is neither manifest nor component nor below `{FILES}/`", shown(&path, 200));
                    return Err(self.refused(message));
                }
            };
        }
        Ok(Package { manifest, manifest_bytes, component, files, digest })
    }
}

/// Every name and content, each with its length before it, in the order of the names.
fn digest(entries: &BTreeMap<String, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for (path, bytes) in entries {
        for part in [path.as_bytes(), bytes] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    format!("sha256:{}", hex(&hash.finalize()))
}
