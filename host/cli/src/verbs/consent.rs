//! Asking on a terminal before something that cannot be undone, or that lets something in.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

/// False without a terminal: nobody is there to say yes.
pub fn ask(question: &str) -> anyhow::Result<bool> {
    let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal() || !stderr.is_terminal() {
        return Ok(false);
    }
    write!(stderr, "{question} [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// For verbs that destroy: asks on a terminal, goes on without one, as a script has said what it wants.
pub fn destroys(yes: bool, question: &str) -> anyhow::Result<bool> {
    if yes || !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Ok(true);
    }
    ask(question)
}
