//! A restore that does not read what it is given, or stops in the middle: the host must not wait for the rest, and must not
//! take a trap for an end.

use std::fs;
use std::io::{Read as _, Write as _};

use probes::{Held, InputStream, OutputStream, broken};

probes::backup!(dump, restore);

fn dump(_: &str, mut output: OutputStream) -> Held {
    match fs::exists("/data/half")? {
        true => Err(broken("half of it was restored")),
        false => Ok(output.write_all(b"twenty bytes of dump")?),
    }
}

fn restore(variant: &str, mut input: InputStream) -> Held {
    let mut start = [0; 10];
    match variant {
        "unread" => std::mem::forget(input),
        "dropped" => drop(input),
        "partly" => input.read_exact(&mut start)?,
        _ => {
            input.read_exact(&mut start)?;
            fs::write("/data/half", start)?;
            panic!("half of it is enough");
        }
    }
    Ok(())
}
