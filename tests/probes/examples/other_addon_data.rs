//! Other addons' data is out of sight: the host must show `/data` and `/addon` and nothing around them.

use std::fs;

use probes::{Held, check, directory, refused, unreachable, wasip2::filesystem::preopens::get_directories};

probes::enable!(held);

fn held() -> Held {
    let mut names: Vec<_> = get_directories().into_iter().map(|(_, name)| name).collect();
    names.sort();
    check(names == ["/addon", "/data"], format!("the directories are {names:?}"))?;

    let guesses =
        ["/", "/data/..", "/data/../..", "/data/../other", "/addon/../..", "/home", "/root/.local/share/lodger", "."];
    for guess in guesses {
        refused(&format!("list {guess:?}"), fs::read_dir(guess))?;
    }
    let data = directory("/data")?;
    for sibling in
        ["../other", "../../local", "../../lodger/other", "../../../lodger.db", "../../../key", "../../../addons"]
    {
        unreachable(&data, sibling)?;
    }
    Ok(())
}
