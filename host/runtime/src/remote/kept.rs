//! What a provider has answered for the app, as the resource's private value keeps it: JSON in which nothing needs escaping
//! when it is shown, and no colon stands, as private values are.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::hook::PRIVATE_MAX;
use crate::text::is_plain;

/// # Errors
/// That it is more than is kept, in words.
pub(super) fn write(config: &BTreeMap<String, String>) -> Result<String, String> {
    let pairs: Vec<(&String, &String)> = config.iter().collect();
    let text = serde_json::to_string(&pairs).map_err(|error| format!("config that cannot be kept: {error}"))?;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // In a list of lists it stands in texts only, and so does what hides.
        if c == ':' || !is_plain(c.encode_utf8(&mut [0; 4])) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    if out.len() > PRIVATE_MAX {
        return Err(format!("answers config that takes {} bytes to keep; at most {PRIVATE_MAX} are kept", out.len()));
    }
    Ok(out)
}

/// # Errors
/// That it is not what was written, in words.
pub(super) fn read(private: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs: Vec<(String, String)> =
        serde_json::from_str(private).map_err(|_| "what is kept of the resource is not understood".to_owned())?;
    Ok(pairs.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_plain_and_reads_back() {
        let config = [("A_URL", "redis://u:p@h:1/\"\\\n"), ("A_B", "\u{202e}grün\u{e0001} :"), ("A_C", "")];
        let config: BTreeMap<_, _> = config.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let kept = write(&config).unwrap();
        assert!(is_plain(&kept) && !kept.contains(':'), "{kept}");
        assert_eq!(read(&kept), Ok(config));
        assert_eq!(write(&BTreeMap::new()).as_deref(), Ok("[]"));
        let long = BTreeMap::from([("A_URL".to_owned(), "x".repeat(PRIVATE_MAX))]);
        assert!(write(&long).unwrap_err().contains("4096"));
        for text in ["", "{}", "[[\"A\"]]", "[1]"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
