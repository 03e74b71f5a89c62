//! Text that acts on who reads it: the host must escape what is not plain in log, progress and error, and forge no lines.

use std::io::{self, Write};

use probes::{Error, Held, progress};

probes::enable!(held);

const ATTACKS: [&str; 9] = [
    "\u{1b}[31mred\u{1b}[2J\u{1b}]0;title\u{7}",
    "\u{1b}]52;c;c3RvbGVu\u{7}clipboard",
    "\u{9b}31mone-byte escape",
    "bidi \u{202e}desrever\u{202c} \u{2066}isolate\u{2069}",
    "harmless\rforged line",
    "\n2030-01-01T00:00:00Z ERROR lodger: forged line\n\ndata: forged event\n\n",
    "zero\0byte",
    "back\u{8}\u{8}\u{8}\u{8}space",
    "hidden\u{200b}\u{feff}\u{e0041}",
];

fn held() -> Held {
    for attack in ATTACKS {
        println!("{attack}");
        eprintln!("{attack}");
        progress::step(attack);
    }
    io::stderr().write_all(b"not UTF-8: \xff\xfe\xc3\n")?;
    Err(Error::Other(ATTACKS.concat()))
}
