//! A dump without end, of bytes or of nothing: the host must stop it at its deadline, however the reader reads, and hold none
//! of it. Only `large` comes to an end, after 300 MiB.

use std::hint::black_box;
use std::io::Write as _;

use probes::{Held, InputStream, OutputStream, broken};

probes::backup!(dump, restore);

fn dump(variant: &str, mut output: OutputStream) -> Held {
    let block = vec![b'x'; 1 << 20];
    let blocks = match variant {
        "silent" => loop {
            black_box(());
        },
        "large" => 300,
        _ => u32::MAX,
    };
    for _ in 0..blocks {
        output.write_all(&block)?;
    }
    if variant == "large" { Ok(()) } else { Err(broken("dumped without end")) }
}

fn restore(_: &str, input: InputStream) -> Held {
    let mut bytes = 0;
    while let Ok(read) = input.blocking_read(u64::MAX) {
        bytes += read.len();
    }
    if bytes == 300 << 20 { Ok(()) } else { Err(broken(format!("{bytes} bytes came back"))) }
}
