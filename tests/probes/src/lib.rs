//! What the probes share: the bindings, the macros that make a component of one function, and the words of an assertion.
//!
//! A probe answers `Ok` when the sandbox held and an error that says what got through when it did not.

pub mod http;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

pub use wasip2;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags};
pub use wasip2::io::streams::{InputStream, OutputStream};

wit_bindgen::generate!({
    path: "../../wit",
    inline: "package probes:imports; world imports { include lodger:addon/imports@0.1.0; }",
    with: {
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
    },
    generate_all,
});

pub use lodger::addon::types::{Error, Pair};
pub use lodger::addon::{progress, services, settings};

/// The quota that the host's tests give every probe.
pub const MAX_BYTES: u64 = 1 << 20;
pub const MAX_FILES: usize = 50;

/// Whether the sandbox held.
pub type Held = Result<(), Error>;

/// Exports the named hook interfaces from `Probe`, each in a module of its name.
#[macro_export]
macro_rules! exports {
    ($($hook:ident),+) => {
        struct Probe;
        $($crate::export!($hook);)+
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! export {
    (setup) => { $crate::export!(setup: "setup-hooks"); };
    (provider) => { $crate::export!(provider: "provider-hooks"); };
    (url) => { $crate::export!(url: "url-hooks"); };
    (config) => { $crate::export!(config: "config-hooks"); };
    (plans) => { $crate::export!(plans: "plans-hooks"); };
    (usage) => { $crate::export!(usage: "usage-hooks"); };
    (backup) => {
        $crate::export!(backup: "backup-hooks",
            "wasi:io/error@0.2.12": probes::wasip2::io::error,
            "wasi:io/poll@0.2.12": probes::wasip2::io::poll,
            "wasi:io/streams@0.2.12": probes::wasip2::io::streams);
    };
    (health) => { $crate::export!(health: "health-hooks"); };
    (scheduler) => { $crate::export!(scheduler: "scheduler-hooks"); };
    (events) => { $crate::export!(events: "events-hooks"); };
    (upgrade) => { $crate::export!(upgrade: "upgrade-hooks"); };
    ($hook:ident: $world:literal $(, $interface:literal: $types:path)*) => {
        mod $hook {
            pub use exports::lodger::addon::$hook::*;

            ::wit_bindgen::generate!({
                path: "../../wit",
                world: $world,
                type_section_suffix: $world,
                with: { "lodger:addon/types@0.1.0": probes::lodger::addon::types, $($interface: $types),* },
            });
            export!(Probe);
            use super::Probe;
        }
    };
}

/// A probe whose `enable` asks the function given.
#[macro_export]
macro_rules! enable {
    ($probe:expr) => {
        $crate::exports!(setup);

        impl setup::Guest for Probe {
            fn enable() -> $crate::Held {
                $probe()
            }

            fn disable() -> $crate::Held {
                Ok(())
            }
        }
    };
}

/// A probe whose `provision` asks the function given, with the app's name to say which variant of the attack is meant:
/// for attacks that end the call, so that one call can try only one.
#[macro_export]
macro_rules! provision {
    ($probe:expr) => {
        $crate::exports!(provider);

        impl provider::Guest for Probe {
            fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, $crate::Error> {
                $probe(request.app.as_str())?;
                Ok(provider::Provisioned {
                    id: request.key,
                    private: String::new(),
                    message: None,
                    log_drain_url: None,
                })
            }

            fn unprovision(_: provider::UnprovisionRequest) -> $crate::Held {
                Ok(())
            }
        }
    };
}

/// A probe whose `dump` and `restore` ask the functions given, with the app's name to say which variant is meant.
#[macro_export]
macro_rules! backup {
    ($dump:expr, $restore:expr) => {
        $crate::exports!(provider, backup);

        impl provider::Guest for Probe {
            fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, $crate::Error> {
                let id = request.app;
                Ok(provider::Provisioned { id, private: String::new(), message: None, log_drain_url: None })
            }

            fn unprovision(_: provider::UnprovisionRequest) -> $crate::Held {
                Ok(())
            }
        }

        impl backup::Guest for Probe {
            fn dump(id: String, _: String, output: $crate::OutputStream) -> $crate::Held {
                $dump(id.as_str(), output)
            }

            fn restore(id: String, _: String, input: $crate::InputStream) -> $crate::Held {
                $restore(id.as_str(), input)
            }
        }
    };
}

/// The sandbox did not hold.
pub fn broken(what: impl Into<String>) -> Error {
    Error::Other(what.into())
}

/// Ends the probe unless `held`.
pub fn check(held: bool, otherwise: impl Into<String>) -> Held {
    if held { Ok(()) } else { Err(broken(otherwise)) }
}

/// Ends the probe unless the attack was refused.
pub fn refused<T, E>(attack: &str, result: Result<T, E>) -> Held {
    check(result.is_err(), format!("allowed: {attack}"))
}

/// What a probe does by right, on the way to its attack, fails the probe with `?`.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        broken(format!("refused something harmless: {error}"))
    }
}

impl From<ErrorCode> for Error {
    fn from(error: ErrorCode) -> Self {
        broken(format!("refused something harmless: {error:?}"))
    }
}

/// The descriptor behind `/data` or `/addon`: paths given to it reach the host as they are, where std would resolve them.
pub fn directory(path: &str) -> Result<Descriptor, Error> {
    let mut directories = wasip2::filesystem::preopens::get_directories().into_iter();
    let found = directories.find(|(_, name)| name == path);
    found.map(|(directory, _)| directory).ok_or_else(|| broken(format!("there is no {path}")))
}

/// A file to read and write, made when it is not there.
pub fn open(directory: &Descriptor, path: &str) -> Result<Descriptor, ErrorCode> {
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    directory.open_at(PathFlags::empty(), path, OpenFlags::CREATE, flags)
}

/// Writes a few bytes the other way that WASI knows, and the one that std takes.
pub fn stream_write(file: &Descriptor, offset: u64, bytes: &[u8]) -> Held {
    let written = file.write_via_stream(offset)?.blocking_write_and_flush(bytes);
    written.map_err(|error| broken(format!("the stream ended: {error:?}")))
}

/// Ends the probe unless `path` is out of reach of every function that takes one.
pub fn unreachable(directory: &Descriptor, path: &str) -> Held {
    let tell = |how: &str| format!("{how} {path:?}");
    let now = NewTimestamp::Now;
    let read = DescriptorFlags::READ;
    drop(open(directory, "own")?);
    for follow in [PathFlags::empty(), PathFlags::SYMLINK_FOLLOW] {
        refused(&tell("stat"), directory.stat_at(follow, path))?;
        refused(&tell("hash"), directory.metadata_hash_at(follow, path))?;
        refused(&tell("open"), directory.open_at(follow, path, OpenFlags::empty(), read))?;
        refused(&tell("list"), directory.open_at(follow, path, OpenFlags::DIRECTORY, read))?;
        refused(&tell("touch"), directory.set_times_at(follow, path, now, now))?;
        refused(&tell("create"), directory.open_at(follow, path, OpenFlags::CREATE, DescriptorFlags::WRITE))?;
    }
    refused(&tell("read link"), directory.readlink_at(path))?;
    refused(&tell("make directory"), directory.create_directory_at(path))?;
    refused(&tell("rename to"), directory.rename_at("own", directory, path))?;
    refused(&tell("rename from"), directory.rename_at(path, directory, "stolen"))?;
    refused(&tell("unlink"), directory.unlink_file_at(path))?;
    refused(&tell("remove directory"), directory.remove_directory_at(path))
}

/// Writes until refused, but no further than four quotas. Gives what was taken.
pub fn fill(mut file: &File) -> u64 {
    let block = [b'x'; 4096];
    (0..4 * MAX_BYTES / 4096).take_while(|_| file.write_all(&block).is_ok()).count() as u64 * 4096
}

/// The bytes of all files in `/data`.
pub fn bytes_used() -> io::Result<u64> {
    fn below(directory: &Path) -> io::Result<u64> {
        fs::read_dir(directory)?.try_fold(0, |sum, entry| {
            let entry = entry?;
            let kind = entry.file_type()?;
            Ok(sum + if kind.is_dir() { below(&entry.path())? } else { entry.metadata()?.len() })
        })
    }
    below(Path::new("/data"))
}

/// Ends the probe unless what is in `/data` is within the quota.
pub fn within_quota(attack: &str) -> Held {
    let used = bytes_used()?;
    check(used <= MAX_BYTES, format!("{used} bytes in /data after {attack}"))
}
