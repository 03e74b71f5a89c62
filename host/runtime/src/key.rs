//! The home's key: seals secrets at rest and authenticates compiled code.
//!
//! 32 random bytes in `<home>/key`, mode 0600, made once. Each use has a key of its own, derived from it. BLAKE3 is the MAC,
//! since it is fast on every machine: megabytes of code are checked when a home is opened. Who can read the
//! file as the same user is out of scope: they could run the host itself.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::error::{Error, Result};

pub const KEY_BYTES: usize = 32;
pub const MAC_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

#[derive(Clone)]
pub struct Key {
    seal: XChaCha20Poly1305,
    cache: [u8; MAC_BYTES],
    specs: [u8; MAC_BYTES],
    requests: [u8; MAC_BYTES],
}

impl Key {
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Key {
        let seal = blake3::derive_key("lodger 2026 sealed values of the store", bytes);
        let cache = blake3::derive_key("lodger 2026 compiled code in the cache", bytes);
        let specs = blake3::derive_key("lodger 2026 labels of containers", bytes);
        let requests = blake3::derive_key("lodger 2026 fingerprints of requests", bytes);
        Key { seal: XChaCha20Poly1305::new(&seal.into()), cache, specs, requests }
    }

    /// Encrypts `secret` for `place`, which must be named again to open it: a sealed value cannot be moved elsewhere.
    pub fn seal(&self, place: &str, secret: &[u8]) -> Result<Vec<u8>> {
        let mut sealed = random::<NONCE_BYTES>()?.to_vec();
        let payload = Payload { msg: secret, aad: place.as_bytes() };
        let body = self.seal.encrypt(XNonce::from_slice(&sealed), payload).map_err(|_| Error::SealBroken)?;
        sealed.extend(body);
        Ok(sealed)
    }

    pub fn open(&self, place: &str, sealed: &[u8]) -> Result<String> {
        let (nonce, body) = sealed.split_at_checked(NONCE_BYTES).ok_or(Error::SealBroken)?;
        let payload = Payload { msg: body, aad: place.as_bytes() };
        let secret = self.seal.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| Error::SealBroken)?;
        String::from_utf8(secret).map_err(|_| Error::SealBroken)
    }

    /// The MAC of compiled code under its cache name.
    pub fn mac(&self, name: &str, code: &[u8]) -> [u8; MAC_BYTES] {
        *self.mac_of(name, code).as_bytes()
    }

    /// Whether `mac` is the code's; compared in constant time.
    pub fn verify(&self, name: &str, code: &[u8], mac: [u8; MAC_BYTES]) -> bool {
        self.mac_of(name, code) == blake3::Hash::from_bytes(mac)
    }

    /// The MAC of what an engine is told, under a name: half of it, as hex, which is enough for a label.
    pub fn spec_mac(&self, name: &str, spec: &[u8]) -> String {
        let mut mac = blake3::Hasher::new_keyed(&self.specs);
        mac.update(&(name.len() as u64).to_be_bytes()).update(name.as_bytes()).update(spec);
        mac.finalize().to_hex()[..32].to_owned()
    }

    /// What tells a request from another without saying anything of what is in it.
    pub fn fingerprint(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut mac = blake3::Hasher::new_keyed(&self.requests);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes()).update(part);
        }
        *mac.finalize().as_bytes()
    }

    fn mac_of(&self, name: &str, code: &[u8]) -> blake3::Hash {
        let mut mac = blake3::Hasher::new_keyed(&self.cache);
        mac.update(&(name.len() as u64).to_be_bytes()).update(name.as_bytes()).update(code).finalize()
    }
}

/// Bytes from the operating system.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io {
        action: "draw random bytes from",
        path: "the operating system".into(),
        source: error.into(),
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_value_opens_only_in_its_place_and_unchanged() -> Result<()> {
        let key = Key::new(&[7; KEY_BYTES]);
        let mut sealed = key.seal("resource:1", b"secret")?;
        assert_eq!(key.open("resource:1", &sealed)?, "secret");
        assert!(key.open("resource:2", &sealed).is_err());
        assert!(Key::new(&[8; KEY_BYTES]).open("resource:1", &sealed).is_err());
        *sealed.last_mut().ok_or(Error::SealBroken)? ^= 1;
        assert!(key.open("resource:1", &sealed).is_err());
        Ok(())
    }
}
