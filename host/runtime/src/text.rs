//! Text from guests, packages and files, made fit to be shown.
//!
//! Law 6: whatever such text says, it cannot move a cursor, forge a line, hide characters or carry a known secret.

use std::borrow::Cow;
use std::fmt::Write as _;

/// What stands where a secret was.
pub const REDACTED: &str = "[redacted]";

/// Secrets shorter than this are not searched for in text: replacing them would garble it and give them away.
pub const SECRET_MIN: usize = 4;

/// One line, at most `max` bytes before escaping: control, format and bidirectional characters become `\u{…}`.
pub fn shown(text: &str, max: usize) -> String {
    let cut = cut_at(text, max);
    let mut out = String::with_capacity(cut.len() + 4);
    for c in cut.chars() {
        if hidden(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    if cut.len() < text.len() {
        out.push('…');
    }
    out
}

/// The longest prefix of at most `max` bytes that ends between characters.
pub fn cut_at(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Characters that act on a terminal or change how their neighbours are read instead of showing themselves.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether the text could be shown as it is.
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(hidden)
}

/// The text with every known secret replaced by [`REDACTED`].
pub fn redact<'a>(text: &'a str, secrets: &[String]) -> Cow<'a, str> {
    let mut out = Cow::Borrowed(text);
    for secret in secrets.iter().filter(|secret| secret.len() >= SECRET_MIN) {
        if out.contains(secret.as_str()) {
            out = Cow::Owned(out.replace(secret.as_str(), REDACTED));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_spelled_out() {
        assert_eq!(shown("a\u{1b}[31m\r\nb", 99), "a\\u{1b}[31m\\u{d}\\u{a}b");
        assert_eq!(shown("x\u{202e}y\u{200b}", 99), "x\\u{202e}y\\u{200b}");
        assert_eq!(shown("grün", 3), "gr…");
    }

    #[test]
    fn secrets_are_redacted_and_tiny_ones_left() {
        let secrets = ["hunter22".to_owned(), "a".to_owned()];
        assert_eq!(redact("pw=hunter22 a", &secrets), "pw=[redacted] a");
    }
}
