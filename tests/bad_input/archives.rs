//! Packages as archives, made by hand to be read in more than one way.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::{manifest, refused, says};
use crate::support::{Lab, component};

/// An archive under construction, with names as they are given.
struct Archive(Builder<Vec<u8>>);

impl Archive {
    fn new() -> Archive {
        Archive(Builder::new(Vec::new()))
    }

    /// With the manifest and component of a good package in it.
    fn good() -> Archive {
        Archive::new().file("addon.json", manifest().to_string().as_bytes()).file("addon.wasm", &component("hello"))
    }

    fn file(self, name: &str, content: &[u8]) -> Archive {
        self.entry(name.as_bytes(), EntryType::Regular, 0o644, content)
    }

    fn entry(mut self, name: &[u8], kind: EntryType, mode: u32, content: &[u8]) -> Archive {
        let mut header = Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.set_link_name("../../../key").unwrap();
        }
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    /// PAX records for the entry that follows.
    fn pax(mut self, records: &[(&str, &str)]) -> Archive {
        self.0.append_pax_extensions(records.iter().map(|(name, value)| (*name, value.as_bytes()))).unwrap();
        self
    }

    fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn packed(self) -> Vec<u8> {
        gzip(&self.tar())
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

#[test]
fn a_plain_archive_is_a_package() {
    let lab = Lab::new();
    let archive = Archive::good().entry(b"files/", EntryType::Directory, 0o755, b"").file("files/a/b", b"b");
    let path = lab.write("package.lodger", archive.packed());
    lab.lodger(&["install", path.to_str().unwrap(), "--yes"]).ok();
    lab.lodger(&["enable", "addon"]).ok();
}

#[test]
fn entries_that_are_no_files_or_lead_elsewhere_are_refused() {
    let lab = Lab::new();
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::Continuous,
        EntryType::new(b'Z'),
    ];
    for kind in kinds {
        let path = lab.write("package.lodger", Archive::good().entry(b"files/x", kind, 0o644, b"").packed());
        says(
            &refused(&lab, &path, "invalid-package"),
            &["package.lodger", "`files/x` is neither a file nor a directory"],
        );
    }
    for mode in [0o4755, 0o2755, 0o1755] {
        let path =
            lab.write("package.lodger", Archive::good().entry(b"files/x", EntryType::Regular, mode, b"").packed());
        says(&refused(&lab, &path, "invalid-package"), &["`files/x` has setuid, setgid or sticky mode"]);
    }
    let names: [&[u8]; 12] = [
        b"../x",
        b"files/../x",
        b"files/../../../x",
        b"/etc/x",
        b"./files/x",
        b"files//x",
        b"files/./x",
        b"files/x/..",
        b"files\\..\\x",
        b"files/a\x1bb",
        b"files/a\nb",
        b"files/\xe2\x80\xaex",
    ];
    for name in names {
        let path = lab.write("package.lodger", Archive::good().entry(name, EntryType::Regular, 0o644, b"x").packed());
        says(&refused(&lab, &path, "invalid-package"), &["the path "]);
    }
    let path =
        lab.write("package.lodger", Archive::good().entry(b"files/a\xffb", EntryType::Regular, 0o644, b"").packed());
    says(&refused(&lab, &path, "invalid-package"), &["a name in it is not UTF-8"]);
}

#[test]
fn what_another_reader_would_read_differently_is_refused() {
    let lab = Lab::new();
    let other = br#"{ "name": "other", "component": "addon.wasm" }"#;
    let long = "d/".repeat(300);
    let cases: [(Vec<u8>, &str); 16] = [
        (Archive::good().file("addon.json", other).packed(), "`addon.json` and `addon.json` are one path"),
        (Archive::good().file("ADDON.json", other).packed(), "`addon.json` and `ADDON.json` are one path"),
        (Archive::good().file("files/É", b"").file("files/é", b"").packed(), "are one path"),
        (
            Archive::good().file("files/a", b"").entry(b"files/a/", EntryType::Directory, 0o755, b"").packed(),
            "are one path",
        ),
        (Archive::good().file("files/a", b"").file("files/a/b", b"").packed(), "`files/a`"),
        (Archive::good().file("files/a/b", b"").file("files/a", b"").packed(), "`files/a`"),
        (Archive::good().file("other.txt", b"").packed(), "is neither manifest nor component nor below `files/`"),
        (Archive::good().pax(&[("path", "addon.json")]).file("files/x", other).packed(), "are one path"),
        (
            Archive::good().pax(&[("path", "../x")]).file("files/x", b"").packed(),
            "the path is not a plain relative one",
        ),
        (
            Archive::good().pax(&[("path", "/etc/x")]).file("files/x", b"").packed(),
            "the path is not a plain relative one",
        ),
        (
            Archive::good().pax(&[("path", &format!("files/{long}x"))]).file("files/x", b"").packed(),
            "too long or too deep",
        ),
        (Archive::good().pax(&[("path", "files/a\u{202e}b")]).file("files/x", b"").packed(), "control or formatting"),
        (Archive::new().file("files/x", b"").packed(), "there is no `addon.json` in it"),
        ([Archive::good().packed(), Archive::new().file("files/hidden", b"").packed()].concat(), "after its end"),
        (gzip(&[Archive::good().tar(), Archive::new().file("files/hidden", b"").tar()].concat()), "after its end"),
        ([Archive::good().packed(), b"x".to_vec()].concat(), "after its end"),
    ];
    for (bytes, message) in cases {
        let path = lab.write("package.lodger", bytes);
        says(&refused(&lab, &path, "invalid-package"), &["package.lodger", message]);
    }
}

#[test]
fn damaged_archives_are_refused() {
    let lab = Lab::new();
    let good = Archive::good().packed();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let mut wrong_sum = good.clone();
    let at = wrong_sum.len() - 6;
    wrong_sum[at] ^= 0xff;
    let half_entry = gzip(&Archive::good().tar()[..40_000]);
    let cases: [&[u8]; 7] = [
        &good[..good.len() / 2],
        &good[..good.len() - 1],
        &flipped,
        &wrong_sum,
        &half_entry,
        &gzip(b"no archive at all"),
        &gzip(&[0xff; 4096]),
    ];
    for (number, bytes) in cases.into_iter().enumerate() {
        let path = lab.write("package.lodger", bytes);
        let error = refused(&lab, &path, "invalid-package");
        says(&error, &["package.lodger"]);
        assert!(error["message"].as_str().unwrap().len() > 40, "{number}: {error}");
    }
    for bytes in [&b""[..], b"\x1f", b"PK\x03\x04", &Archive::good().tar()] {
        let path = lab.write("package.lodger", bytes);
        says(&refused(&lab, &path, "invalid-package"), &["not an archive made by `lodger pack`"]);
    }
}

#[test]
fn bombs_go_off_at_the_bounds_of_the_policy() {
    let lab = Lab::new();
    lab.policy("[limits]\npackage_bytes = 1048576\npackage_files = 100\n");
    let zeros = vec![0; 200 << 20];
    let bomb = Archive::good().file("files/zeros", &zeros).packed();
    assert!(bomb.len() < 1 << 20);
    let many = (0..200).fold(Archive::good(), |archive, number| archive.file(&format!("files/{number}"), b""));
    let names = (0..100)
        .fold(Archive::good(), |archive, _| archive.pax(&[("comment", &"x".repeat(100_000))]).file("files/x", b""));
    let cases = [
        (bomb, "`files/zeros` goes past the 1048576 bytes (limits.package_bytes)"),
        (many.packed(), "more than 100 entries (limits.package_files)"),
        (names.packed(), ""),
        (gzip(&zeros), "there is something after its end"),
        (vec![0x1f; 2 << 20], "over 1048576 bytes (limits.package_bytes)"),
        (
            Archive::new().file("addon.json", format!("{}{{}}", " ".repeat(1 << 20)).as_bytes()).packed(),
            "`addon.json` goes past",
        ),
    ];
    for (bytes, message) in cases {
        let path = lab.write("package.lodger", bytes);
        says(&refused(&lab, &path, "invalid-package"), &[message]);
    }
}
