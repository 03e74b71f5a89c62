//! Random values and how they are written.

use crate::lodger::addon::types::Error;

/// Below this a key can be guessed; above, variables become unwieldy.
const BYTES: std::ops::RangeInclusive<usize> = 16..=1024;

pub fn parse_bytes(text: &str) -> Result<usize, Error> {
    let bytes = text.parse().ok().filter(|bytes| BYTES.contains(bytes));
    bytes.ok_or_else(|| Error::Invalid(format!("`bytes` is {text:?}, not {} to {}", BYTES.start(), BYTES.end())))
}

/// From the platform's cryptographically secure source, `wasi:random`.
pub fn random(bytes: usize) -> Result<Vec<u8>, Error> {
    let mut value = vec![0; bytes];
    getrandom::fill(&mut value).map_err(|error| Error::Unavailable(format!("no random bytes: {error}")))?;
    Ok(value)
}

/// How bytes are written as text. All of it is safe in URLs, shells and dotenv files.
pub enum Format {
    Hex,
    Base64Url,
}

impl Format {
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "hex" => Ok(Self::Hex),
            "base64url" => Ok(Self::Base64Url),
            _ => Err(Error::Invalid(format!("the format is {text:?}, not `hex` or `base64url`"))),
        }
    }

    pub fn encode(&self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
            Self::Base64Url => bytes.chunks(3).flat_map(base64url_group).collect(),
        }
    }
}

/// Up to three bytes as up to four characters, without padding (RFC 4648, section 5).
fn base64url_group(bytes: &[u8]) -> impl Iterator<Item = char> + use<> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(bytes.get(at).copied().unwrap_or(0)));
    (0..=bytes.len()).map(move |at| char::from(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize]))
}
