//! Points at which a test kills the program: before and after everything that lasts. They count themselves, so that none
//! is forgotten when the code changes: a test asks for their names, then runs the same verb once for each.
//!
//! Only in debug builds; in others there is nothing here.

/// Here the program may die. `LODGER_POINTS` names a file that every point is noted in, a line each; `LODGER_KILL_AT` is the
/// number, from 1, of the one that is the last.
#[cfg(debug_assertions)]
pub(crate) fn point(kind: &str, name: &str) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);

    let number = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
    if let Some(path) = std::env::var_os("LODGER_POINTS") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        // Where it cannot be noted, the test finds too few of them.
        let _ = file.and_then(|mut file| file.write_all(format!("{kind}: {name}\n").as_bytes()));
    }
    if std::env::var("LODGER_KILL_AT").is_ok_and(|at| at == number.to_string()) {
        // Not even destructors run. If it could not be sent there would be nothing to test.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

#[cfg(not(debug_assertions))]
pub(crate) const fn point(_: &str, _: &str) {}
