//! What servers that mean no good can do to whoever asks them: waste some time, within bounds.
#![expect(clippy::disallowed_methods, reason = "the tests listen as such a server does")]

use serde_json::Value;
use tokio::net::TcpListener;

use super::*;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// Says `answer` to whoever connects, and then `more` for ever.
async fn saying(answer: impl Into<Vec<u8>>, more: &'static [u8]) -> Remote {
    let (answer, listener) = (answer.into(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
                while !more.is_empty() && stream.write_all(more).await.is_ok() {
                    if more.len() == 1 {
                        tokio::time::sleep(SHORT / 4).await;
                    }
                }
                if answer.is_empty() || answer.ends_with(b"silent") {
                    // It never ends what it has begun.
                    let _ = stream.read(&mut head).await;
                }
            });
        }
    });
    let token = BearerToken::new("lodger_hush").unwrap();
    let bounds = Bounds { json: 1 << 20, connect: LONG, look: LONG, work: LONG, answer: LONG, next: LONG };
    Remote { bounds, ..Remote::new(url.parse().unwrap(), Some(token)) }
}

fn answer(kind: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The code and the words of what becomes of a question.
async fn asked(server: &Remote) -> (String, String) {
    match server.get::<Vec<String>>("/v1/addons").await {
        Ok(answer) => ("ok".to_owned(), answer.join(",")),
        Err(error) => (error.code().to_owned(), error.to_string()),
    }
}

#[tokio::test]
async fn answers_are_bounded_and_understood_or_refused() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let long = format!("{head}Content-Length: 99999999999\r\n\r\n[");
    let status =
        |status: &str| format!("HTTP/1.1 {status}\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n");
    for (said, more, code, words) in [
        (answer("application/json", r#"["a","b"]"#), &b""[..], "ok", "a,b"),
        (
            answer("Application/JSON; charset=utf-8", r#"["a\u001b[2J\n\u202eb"]"#),
            b"",
            "ok",
            "a\\u{1b}[2J\\u{a}\\u{202e}b",
        ),
        // Endless.
        (format!("{head}\r\n["), &[b' '; 65536], "server-answer", "more than 1048576 bytes"),
        (format!("{head}x-long: "), &[b'x'; 4096], "server-answer", "no HTTP"),
        (long, &[b' '; 65536], "server-answer", "more than"),
        // Elsewhere, or nothing that is understood.
        (status("302 Found"), b"", "server-answer", "no redirect is followed"),
        (status("301 Moved Permanently"), b"", "server-answer", "no redirect is followed"),
        (status("307 Temporary Redirect"), b"", "server-answer", "no redirect is followed"),
        (status("500 Oh"), b"", "server-answer", "answers 500"),
        (status("204 No Content"), b"", "server-answer", "it is no lodger"),
        (answer("text/html", "<html>log in</html>"), b"", "server-answer", "`text/html`"),
        (answer("application/json", "{"), b"", "server-answer", "not understood"),
        (answer("application/json", r#"{"a":1}"#), b"", "server-answer", "not understood"),
        (answer("application/json", &"[".repeat(100_000)), b"", "server-answer", "not understood"),
        (answer("application/json", r#"["a"]"#).replace("Length: 5", "Length: 9"), b"", "server-answer", "broke off"),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), b"", "server-answer", "no HTTP"),
        ("\u{0}\u{1}\u{2}".repeat(9), b"", "server-answer", "no HTTP"),
    ] {
        let server = saying(said.clone(), more).await;
        let (found, message) = asked(&server).await;
        assert!(found == code && message.contains(words), "{said:.200}: {found}: {message}");
        assert!(!message.contains("hush"), "{message}");
    }
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let (look, next, answer) = ((SHORT, LONG, LONG), (LONG, SHORT, LONG), (LONG, LONG, SHORT));
    for (said, more, (look, next, answer)) in [
        // Nothing, half a head, a head alone, a byte now and then.
        ("".to_owned(), &b""[..], look),
        (head.to_owned(), b"x", look),
        (format!("{head}\r\nsilent"), b"", next),
        (format!("{head}\r\n["), b" ", answer),
    ] {
        let mut server = saying(said.clone(), more).await;
        server.bounds = Bounds { look, next, answer, ..server.bounds };
        let (code, message) = asked(&server).await;
        assert_eq!(code, "server-too-slow", "{said}: {message}");
    }
}

#[tokio::test]
async fn a_package_has_at_most_the_bytes_it_may_and_a_stream_an_end() {
    let server = saying(answer("application/vnd.lodger.package+gzip", "12345"), b"").await;
    assert_eq!(server.package("/x", 5).await.unwrap(), "12345");
    assert_eq!(server.package("/x", 4).await.unwrap_err().code(), "server-answer");
    assert_eq!(server.stream("/x", Vec::new()).await.unwrap_err().code(), "server-answer");

    let chunked =
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let mut whole = Vec::new();
    let server = saying(format!("{chunked}0\r\n\r\n"), b"").await;
    assert_eq!((server.stream("/x", &mut whole).await.unwrap(), whole), (3, b"abc".to_vec()));
    // What breaks off is no end.
    let server = saying(chunked, b"").await;
    assert_eq!(server.stream("/x", Vec::new()).await.unwrap_err().code(), "server-answer");
}

#[tokio::test]
async fn who_is_not_there_is_told_apart() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Remote::new(format!("http://{gone}").parse().unwrap(), None);
    let error = server.get::<Value>("/").await.unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("server-unreachable", 4));
    // One that speaks no TLS.
    let plain = saying(answer("application/json", "[]"), b"").await;
    let url = plain.url().to_string().replace("http://", "https://");
    let server = Remote { bounds: plain.bounds, ..Remote::new(url.parse().unwrap(), None) };
    assert_eq!(server.get::<Value>("/").await.unwrap_err().code(), "server-unreachable");
}
