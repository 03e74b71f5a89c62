//! What `check-write` promised to many streams at once: the host must hold the quota when all of them use it.

use probes::wasip2::{filesystem::types::Descriptor, io::streams::OutputStream};
use probes::{Held, directory, open, within_quota};

probes::enable!(held);

fn held() -> Held {
    let data = directory("/data")?;
    // Eight files, and four descriptors more on the first of them.
    let names = (0..12).map(|number| format!("file-{}", if number < 8 { number } else { 0 }));
    let files = names.map(|name| open(&data, &name)).collect::<Result<Vec<_>, _>>()?;
    let at = |(number, file): (usize, &Descriptor)| match number % 2 {
        0 => file.append_via_stream(),
        _ => file.write_via_stream(0),
    };
    let streams = files.iter().enumerate().map(at).collect::<Result<Vec<_>, _>>()?;
    for _ in 0..16 {
        let promised: Vec<_> = streams.iter().map(|stream| stream.check_write().unwrap_or(0)).collect();
        streams.iter().zip(promised).for_each(spend);
        streams.iter().for_each(|stream| drop(stream.blocking_flush()));
        within_quota("alternating streams")?;
    }
    Ok(())
}

fn spend((stream, promised): (&OutputStream, u64)) {
    let block = vec![b'x'; promised.min(256 << 10) as usize];
    // Refused is what we hope for: `within_quota` looks at the effect.
    stream.write(&block).ok();
}
