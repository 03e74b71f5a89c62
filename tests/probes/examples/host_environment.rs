//! The host's surroundings stay outside: three variables, no arguments, no working directory, nothing to read, no terminal.

use std::{env, io};

use probes::{Held, check, wasip2::cli};

probes::enable!(held);

fn held() -> Held {
    let mut names: Vec<_> = env::vars().map(|(name, _)| name).collect();
    names.sort();
    check(names == ["ADDON", "ADDON_DATA", "ADDON_ROOT"], format!("the environment has {names:?}"))?;
    check(env::var("ADDON_DATA").is_ok_and(|value| value == "/data"), "ADDON_DATA is not /data")?;
    check(env::var("ADDON_ROOT").is_ok_and(|value| value == "/addon"), "ADDON_ROOT is not /addon")?;

    let arguments = cli::environment::get_arguments();
    check(arguments.is_empty(), format!("the arguments are {arguments:?}"))?;
    let directory = cli::environment::initial_cwd();
    check(directory.is_none(), format!("the working directory is {directory:?}"))?;
    let input = io::read_to_string(io::stdin())?;
    check(input.is_empty(), format!("standard input says {input:?}"))?;

    let terminal = cli::terminal_stdin::get_terminal_stdin().is_some();
    let terminal = terminal || cli::terminal_stdout::get_terminal_stdout().is_some();
    check(!terminal && cli::terminal_stderr::get_terminal_stderr().is_none(), "there is a terminal")
}
