//! Commands with streams: the host must keep to the bounds of the WIT package, move what is too large for memory without
//! holding it, and end a command whose stream fails. The test gives the quota that all probes have.

use std::fs::{self, File};
use std::io::Read as _;

use probes::services::{Executed, pipe};
use probes::wasip2::filesystem::types::{DescriptorFlags, OpenFlags, PathFlags};
use probes::{Error, Held, InputStream, MAX_BYTES, OutputStream, broken, check, directory, within_quota};

probes::exports!(setup, provider, backup);

const LARGE: usize = 300 << 20;

impl setup::Guest for Probe {
    fn enable() -> Held {
        for (attack, command) in [
            ("no command", vec![]),
            ("too many arguments", vec!["x"; 257]),
            ("an argument that is too long", vec!["echo", &*"x".repeat(4097)]),
            ("NUL in an argument", vec!["echo", "a\0b"]),
        ] {
            let answer = run(&command, None, None);
            check(matches!(answer, Err(Error::Invalid(_))), format!("{attack}: {answer:?}"))?;
        }
        let answer = pipe("other", &words(&["true"]), None, None);
        check(matches!(answer, Err(Error::NotFound(_))), format!("another service: {answer:?}"))?;

        let both = run(&["sh", "-c", "cat; echo out; echo err >&2; exit 7"], None, None)?;
        let said = (both.exit_code, &*both.stdout, &*both.stderr);
        check(said == (7, b"out\n", b"err\n"), format!("without streams: {both:?}"))?;
        let flooded = run(&["sh", "-c", "head -c 50000000 /dev/zero | tee /dev/stderr"], None, None)?;
        check(flooded.truncated && flooded.stdout.len() == 65_536, "what is held was not cut")?;

        // Files are streams too, and those under /data have a quota.
        let input: Vec<u8> = (0..MAX_BYTES / 4).map(|number| (number % 251) as u8).collect();
        fs::write("/data/in", &input)?;
        let copied = run(&["cat"], Some(&reader("in")?), Some(&writer("out")?))?;
        check(copied.exit_code == 0 && fs::read("/data/out")? == input, "another file came back")?;
        let answer = run(&["cat", "/dev/zero"], None, Some(&writer("flood")?));
        check(matches!(answer, Err(Error::Unavailable(_))), format!("over the quota: {answer:?}"))?;
        within_quota("a command that fills a file")?;
        let left = run(&["sh", "-c", "ps | grep -c '[c]at /dev/zero'"], None, None)?;
        check(left.stdout == b"0\n", "the command whose stream has failed goes on")
    }

    fn disable() -> Held {
        Ok(())
    }
}

impl provider::Guest for Probe {
    fn provision(request: provider::ProvisionRequest) -> Result<provider::Provisioned, Error> {
        Ok(provider::Provisioned { id: request.app, private: String::new(), message: None, log_drain_url: None })
    }

    fn unprovision(_: provider::UnprovisionRequest) -> Held {
        Ok(())
    }
}

impl backup::Guest for Probe {
    fn dump(id: String, _: String, output: OutputStream) -> Held {
        output.blocking_write_and_flush(b"before\n").map_err(|error| broken(format!("{error:?}")))?;
        let bytes = if id == "endless" { usize::MAX } else { LARGE };
        let ran = run(&["head", "-c", &bytes.to_string(), "/dev/zero"], None, Some(&output))?;
        check(ran.exit_code == 0, format!("{ran:?}"))?;
        // The stream is still there, and in order.
        output.blocking_write_and_flush(b"after\n").map_err(|error| broken(format!("{error:?}")))
    }

    fn restore(_: String, _: String, mut input: InputStream) -> Held {
        let mut before = [0; 7];
        input.read_exact(&mut before)?;
        let counted = run(&["sh", "-c", "tr -d '\\0' | wc -c; cat | wc -c"], Some(&input), None)?;
        check(before == *b"before\n" && counted.stdout == b"6\n0\n", format!("{counted:?}"))?;
        check(input.read(1).is_err(), "more has come than there was")
    }
}

fn run(command: &[&str], stdin: Option<&InputStream>, stdout: Option<&OutputStream>) -> Result<Executed, Error> {
    pipe("main", &words(command), stdin, stdout)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn reader(name: &str) -> Result<InputStream, Error> {
    let file = directory("/data")?.open_at(PathFlags::empty(), name, OpenFlags::empty(), DescriptorFlags::READ)?;
    Ok(file.read_via_stream(0)?)
}

fn writer(name: &str) -> Result<OutputStream, Error> {
    drop(File::create(format!("/data/{name}"))?);
    let file = directory("/data")?.open_at(PathFlags::empty(), name, OpenFlags::empty(), DescriptorFlags::WRITE)?;
    Ok(file.write_via_stream(0)?)
}
