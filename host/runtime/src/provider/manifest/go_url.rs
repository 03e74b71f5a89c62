//! What Go's `url.Parse` has against a text, in its words: Scalingo's own tester is made with it, and people search for them.

/// `None` where it is a URL as Go sees it, which nearly every text is: the empty one, and paths, too.
pub(super) fn problem(text: &str) -> Option<String> {
    let (url, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (subject, why) = match parse(url) {
        Err(why) => (url, why),
        Ok(()) => (text, escapes(fragment, false).err()?),
    };
    Some(format!("parse {}: {why}", quoted(subject)))
}

fn parse(url: &str) -> Result<(), String> {
    if url.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (has_scheme, rest) = scheme(url)?;
    let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
    if !rest.starts_with('/') {
        if has_scheme {
            return Ok(());
        }
        if rest.split('/').next().is_some_and(|first| first.contains(':')) {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
    }
    let path = match rest.strip_prefix("//") {
        Some(after) if has_scheme || !after.starts_with('/') => {
            let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
            check_authority(authority)?;
            path
        }
        _ => rest,
    };
    escapes(path, false)
}

fn scheme(url: &str) -> Result<(bool, &str), String> {
    for (place, byte) in url.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if place > 0 => {}
            b':' if place == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((true, url.get(place + 1..).unwrap_or_default())),
            _ => break,
        }
    }
    Ok((false, url))
}

fn check_authority(authority: &str) -> Result<(), String> {
    let (user, host) = authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    let after = if host.starts_with('[') {
        host.rsplit_once(']').ok_or("missing ']' in host")?.1
    } else {
        host.rfind(':').and_then(|colon| host.get(colon..)).unwrap_or_default()
    };
    let is_port = after.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    if !after.is_empty() && !is_port {
        return Err(format!("invalid port {} after host", quoted(after)));
    }
    escapes(host, true)?;
    let Some(user) = user else { return Ok(()) };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if !user.bytes().all(fits) {
        return Err("net/url: invalid userinfo".to_owned());
    }
    escapes(user, false)
}

/// Percent signs must begin two hexadecimal digits; in a host there are none but of what is not ASCII.
fn escapes(text: &str, is_host: bool) -> Result<(), String> {
    let bytes = text.as_bytes();
    for (place, byte) in bytes.iter().enumerate() {
        let host_char = byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(byte);
        match bytes.get(place + 1..place + 3) {
            Some(digits) if *byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit) => {
                let is_ascii = digits.first().is_some_and(|digit| matches!(digit, b'0'..=b'7'));
                if is_host && is_ascii && digits != b"25" {
                    return Err(bad_escape(text, place));
                }
            }
            _ if *byte == b'%' => return Err(bad_escape(text, place)),
            _ if is_host && byte.is_ascii() && !host_char => {
                return Err(format!("invalid character {} in host name", quoted(&char::from(*byte).to_string())));
            }
            _ => {}
        }
    }
    Ok(())
}

fn bad_escape(text: &str, place: usize) -> String {
    let from = text.get(place..).unwrap_or_default();
    format!("invalid URL escape {}", quoted(crate::text::cut_at(from, 3)))
}

/// As `strconv.Quote` has it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if !crate::text::is_plain(c.encode_utf8(&mut [0; 4])) => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_go_says() {
        for good in [
            "",
            "x",
            "//cdn.myaddon.com/logo.png",
            "https://a.example:8443/x?y=%zz#z",
            "mailto:a b",
            "http://[::1]:80/",
            "http://user:p%40w@host/",
            "http://h:/",
            "/a b",
            "*",
            "http://h/%C3%BC",
            "http://gr\u{fc}n.example/",
        ] {
            assert_eq!(problem(good), None, "{good}");
        }
        for (text, why) in [
            (":foo", r#"parse ":foo": missing protocol scheme"#),
            ("http://[::1", r#"parse "http://[::1": missing ']' in host"#),
            ("http://a b/", r#"parse "http://a b/": invalid character " " in host name"#),
            ("http://h/%zz", r#"parse "http://h/%zz": invalid URL escape "%zz""#),
            ("http://h/%", r#"parse "http://h/%": invalid URL escape "%""#),
            ("http://h/\u{1}", r#"parse "http://h/\x01": net/url: invalid control character in URL"#),
            ("http://h:port/", r#"parse "http://h:port/": invalid port ":port" after host"#),
            ("http://[::1]x/", r#"parse "http://[::1]x/": invalid port "x" after host"#),
            ("1:2", r#"parse "1:2": first path segment in URL cannot contain colon"#),
            ("http://a^b@h/", r#"parse "http://a^b@h/": net/url: invalid userinfo"#),
            ("http://%41/", r#"parse "http://%41/": invalid URL escape "%41""#),
            ("http://h/#%q", r##"parse "http://h/#%q": invalid URL escape "%q""##),
        ] {
            assert_eq!(problem(text).as_deref(), Some(why));
        }
    }
}
