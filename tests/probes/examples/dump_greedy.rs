//! Writing more than the host permits, in every way there is: it must end the call and hold none of it. By right, all that is
//! permitted goes through without being flushed, also when the stream is never let go.

use probes::wasip2::io::streams::StreamError;
use probes::{Held, InputStream, OutputStream, broken, check};

probes::backup!(dump, restore);

fn dump(variant: &str, output: OutputStream) -> Held {
    let permit = output.check_write().map_err(failed)?;
    let all = vec![b'x'; permit as usize];
    check((1..=1 << 20).contains(&permit), format!("{permit} bytes are permitted"))?;
    match variant {
        "more" => output.write(&[&all[..], b"x"].concat()).map_err(failed)?,
        "zeroes" => output.write_zeroes(permit + 1).map_err(failed)?,
        "huge" => output.write_zeroes(u64::MAX).map_err(failed)?,
        "twice" => {
            output.write(&all).map_err(failed)?;
            output.write(&all).map_err(failed)?;
        }
        "kept" => {
            output.write(&all).map_err(failed)?;
            check(output.check_write().is_ok_and(|permit| permit == 0), "more is permitted than fits")?;
            std::mem::forget(output.subscribe());
            std::mem::forget(output);
            return Ok(());
        }
        _ => {
            output.write(&all).map_err(failed)?;
            return Ok(());
        }
    }
    Err(broken("wrote more than is permitted"))
}

fn restore(_: &str, input: InputStream) -> Held {
    match input.read(u64::MAX).map(|bytes| bytes.len()) {
        Ok(0..=1_048_576) | Err(StreamError::Closed) => Ok(()),
        other => Err(broken(format!("{other:?} at once"))),
    }
}

fn failed(error: StreamError) -> probes::Error {
    broken(format!("refused something harmless: {error:?}"))
}
