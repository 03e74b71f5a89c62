//! Commands in the addon's own container, at and beyond their bounds: the host must refuse what is too much, cut the output,
//! and otherwise do exactly what was asked.

use probes::services::{Executed, exec, logs};
use probes::{Error, Held, check};

probes::enable!(held);

const OUTPUT_MAX: usize = 65_536;
const STDIN_MAX: usize = 1 << 20;

fn held() -> Held {
    let (most, longest) = (vec!["x"; 256], "x".repeat(4096));
    invalid("no command", &[], &[])?;
    invalid("too many arguments", &[&most[..], &["x"]].concat(), &[])?;
    invalid("an argument that is too long", &["echo", &format!("{longest}x")], &[])?;
    invalid("NUL in an argument", &["echo", "a\0b"], &[])?;
    invalid("too much input", &["true"], &vec![0; STDIN_MAX + 1])?;
    let mut largest = vec![longest.as_str(); 256];
    largest[0] = "true";
    check(run(&largest, &[])?.exit_code == 0, "the largest command did not end well")?;

    check(run(&["sh", "-c", "exit 7"], &[])?.exit_code == 7, "the exit code is lost")?;
    let missing = run(&["no-such-program"], &[]);
    let told = match &missing {
        Ok(ran) => ran.exit_code == 126 || ran.exit_code == 127,
        Err(error) => matches!(error, Error::Unavailable(_)),
    };
    check(told, format!("a program that is not there: {missing:?}"))?;
    let literal = "$(id) `id` $PATH; id | id\n\u{202e}'\"";
    check(run(&["printf", "%s", literal], &[])?.stdout == literal.as_bytes(), "a shell has read the arguments")?;
    let both = run(&["sh", "-c", "echo out; echo err >&2"], &[])?;
    check((&*both.stdout, &*both.stderr) == (b"out\n", b"err\n"), format!("the streams are mixed: {both:?}"))?;

    let input: Vec<u8> = (0..STDIN_MAX).map(|number| (number % 251) as u8).collect();
    let counted = run(&["wc", "-c"], &input)?;
    check(
        counted.stdout.trim_ascii() == STDIN_MAX.to_string().as_bytes(),
        format!("{counted:?} of the largest input"),
    )?;
    let whole = run(&["cat"], &input[..OUTPUT_MAX])?;
    check(whole.stdout == input[..OUTPUT_MAX] && !whole.truncated, "what went in has not come out")?;
    let cut = run(&["cat"], &input)?;
    check(cut.stdout == input[..OUTPUT_MAX] && cut.truncated, "more came out than may")?;
    check(run(&["true"], &input)?.exit_code == 0, "a command that does not read its input did not end well")?;

    // Without a newline, on both streams: 100 MB in all.
    let flood = "yes | tr -d '\\n' | head -c 50000000 | tee /dev/stderr";
    let flooded = run(&["sh", "-c", flood], &[])?;
    check(flooded.truncated && flooded.exit_code == 0, "a flood was not taken for one")?;
    check(flooded.stdout.len() == OUTPUT_MAX && flooded.stderr.len() == OUTPUT_MAX, "a flood was not cut")?;
    // Written by the service itself: what acts on a terminal takes more room when it is escaped.
    let noise = "yes \"$(printf '\\033\\033\\033\\033\\033')\" | head -c 200000 >/proc/1/fd/1";
    check(run(&["sh", "-c", noise], &[])?.exit_code == 0, "the service could not write")?;
    let log = logs("main")?;
    check(!log.is_empty() && log.len() <= OUTPUT_MAX, format!("{} bytes of log", log.len()))?;
    check(!log.contains('\u{1b}'), "the log is not escaped")
}

fn run(command: &[&str], stdin: &[u8]) -> Result<Executed, Error> {
    let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
    exec("main", &command, stdin)
}

fn invalid(attack: &str, command: &[&str], stdin: &[u8]) -> Held {
    let answer = run(command, stdin);
    check(matches!(answer, Err(Error::Invalid(_))), format!("{attack}: {answer:?}"))
}
