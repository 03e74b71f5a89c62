//! What is dumped is what Redis keeps itself: an RDB file, as one of its replicas would get it. All of it passes by: the host
//! joins the command in the container with the stream.
//!
//! Redis reads such a file when it starts. So it is looked at first, beside what is there, and then the container is made anew
//! with the word that has its command, in `addon.json`, put the one in the place of the other:
//!
//! | `REDIS_DATA` | |
//! |---|---|
//! | `take N` | `new-N` becomes the data, where it is there; what was the data is kept as `old-N` |
//! | `undo` | what was kept becomes the data again |
//!
//! Said twice, neither does any more than said once: the container may be made again at any time.

use crate::exports::lodger::addon::backup::Guest;
use crate::lodger::addon::services::{self, Executed};
use crate::lodger::addon::types::Error;
use crate::wasi::io::streams::{InputStream, OutputStream};
use crate::{Addon, SERVICE, start};

/// Where the length is not known when it begins, what a replica gets ends in a mark of 40 bytes, and `redis-cli` leaves it
/// on. What the pipe's first command has come to is its second's to tell.
const DUMP: &str = "{ REDISCLI_AUTH=$REDIS_PASSWORD redis-cli --rdb -; echo status=$? >&2; } | head -c -40";

/// As the base of an append-only file: what follows it would be read too, so that both must be in order.
const STAGE: &str = "umask 077; cd /data && rm -rf new-* old-* && mkdir new-$0 && cd new-$0 || exit
    base=appendonly.aof.1.base.rdb list=appendonly.aof.manifest
    cat >$base && echo file $base seq 1 type b >$list || exit
    redis-check-rdb $base && redis-check-aof $list && exit
    rm -rf /data/new-$0; exit 3";

impl Guest for Addon {
    fn dump(_id: String, _private: String, output: OutputStream) -> Result<(), Error> {
        let ran = services::pipe(SERVICE, &shell(DUMP, &[]), None, Some(&output))?;
        match String::from_utf8_lossy(&ran.stderr).trim_end().ends_with("status=0") && ran.exit_code == 0 {
            true => Ok(()),
            false => Err(Error::Unavailable(format!("redis-cli: {}", said(&ran.stderr)))),
        }
    }

    fn restore(_id: String, private: String, input: InputStream) -> Result<(), Error> {
        // What was restored last and then could not be loaded, by a call that was cut off there.
        if let Err(Error::Unavailable(_)) = run("true", &[], None) {
            start(&private, "undo")?;
        }
        let name = crate::random(8)?;
        let staged = run(STAGE, &[&name], Some(&input))?;
        match staged.exit_code {
            0 => {}
            3 => return Err(Error::Invalid("that is no whole RDB file; what was there has stayed".to_owned())),
            _ => return Err(Error::Other(format!("it cannot be kept: {}", said(&staged.stderr)))),
        }
        if let Err(error) = start(&private, &format!("take {name}")) {
            start(&private, "undo")?;
            let Error::Unavailable(why) = error else { return Err(error) };
            return Err(Error::Unavailable(format!("what was there is back: {why}")));
        }
        run("rm -rf /data/old-*", &[], None).map(drop)
    }
}

fn run(script: &str, arguments: &[&str], stdin: Option<&InputStream>) -> Result<Executed, Error> {
    services::pipe(SERVICE, &shell(script, arguments), stdin, None)
}

fn shell(script: &str, arguments: &[&str]) -> Vec<String> {
    [&["sh", "-c", script], arguments].concat().into_iter().map(str::to_owned).collect()
}

/// The last line of what a command has complained of.
fn said(stderr: &[u8]) -> String {
    String::from_utf8_lossy(stderr).lines().next_back().unwrap_or("it said nothing").to_owned()
}
