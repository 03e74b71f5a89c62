//! Files and directories without number: the host must refuse those beyond the limit, and give room back for those removed.

use std::fs::{self, File};

use probes::{Held, MAX_FILES, check};

probes::enable!(held);

fn held() -> Held {
    let file = |number| File::create(format!("/data/file-{number}")).is_ok();
    let directory = |number| fs::create_dir(format!("/data/directory-{number}")).is_ok();
    let both = |number| if number % 2 == 0 { file(number) } else { directory(number) };

    let made = (0..1000).filter(|&number| both(number)).count();
    check(made <= MAX_FILES, format!("made {made} files and directories"))?;
    check(made >= MAX_FILES / 2, format!("made only {made} files and directories"))?;

    for number in 0..10 {
        if number % 2 == 0 {
            fs::remove_file(format!("/data/file-{number}"))?;
        } else {
            fs::remove_dir(format!("/data/directory-{number}"))?;
        }
    }
    let again = (1000..2000).filter(|&number| both(number)).count();
    check(again == 10, format!("removed 10, could make {again}"))
}
