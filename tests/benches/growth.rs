//! What a call costs in a home that is full, beside the same call in one that is nearly empty.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;
use lodger::{Add, Config, HookRequest, Host, Id};
use rusqlite::params;

use crate::{Bench, Figures, Target, compare};

/// Resources of the full home, and calls on record; all of the addon that is called, which is the worst of cases.
const RESOURCES: usize = 100_000;
const CALLS: usize = 1_000_000;
/// And of the other.
const FEW: usize = 10;

/// Opens of the full home.
const OPENS: usize = 5;

pub async fn measure(figures: &mut Figures) -> anyhow::Result<()> {
    let few = filled(FEW, FEW).await?;
    let many = filled(RESOURCES, CALLS).await?;
    let (_, durable_us, durable) = compare(async || few.durable().await, async || many.durable().await).await?;
    let (_, read_us, read) = compare(async || few.url().await, async || many.url().await).await?;
    let (_, added_us, added) =
        compare(async || comes_and_goes(&few).await, async || comes_and_goes(&many).await).await?;
    figures.add("durable_100k_us", durable_us, None);
    figures.add("read_100k_us", read_us, None);
    figures.add("add_remove_100k_us", added_us, None);
    for (what, ratio) in [("durable", durable), ("read", read), ("add and remove", added)] {
        eprintln!("  {what}: {ratio:.2} times");
    }
    // The worst of the three.
    figures.add("call_100k_over_10", durable.max(read).max(added), Some(Target::AtMost(1.1)));

    let home = many.home.path().join("home");
    drop(many.host);
    let mut opens = Vec::new();
    for _ in 0..OPENS {
        let began = Instant::now();
        let host = Host::open(Config::new(&home)).await?;
        let call = host.call(&many.addon, HookRequest::Url(many.resource.clone())).await?;
        opens.push(began.elapsed().as_secs_f64() * 1e3);
        ensure!(call.outcome.is_completed(), "{}", call.outcome);
    }
    figures.add("open_100k_ms", crate::median(opens), None);
    Ok(())
}

/// Two durable calls with which a resource is made and goes.
async fn comes_and_goes(bench: &Bench) -> anyhow::Result<()> {
    let app: Id = "passing".parse()?;
    let added = bench.host.add(Add::new(app.clone(), bench.addon.clone())).await?;
    ensure!(added.outcome.is_completed(), "{}", added.outcome);
    let removed = bench.host.remove(&app, &bench.addon, None).await?;
    ensure!(removed.outcome.is_completed(), "{}", removed.outcome);
    Ok(())
}

/// The benchmark's addon, with resources and calls beside its own.
async fn filled(resources: usize, calls: usize) -> anyhow::Result<Bench> {
    let mut bench = Bench::new(tempfile::tempdir()?).await?;
    let home = bench.home.path().join("home");
    // Closed meanwhile: the policy is read when it is opened, and all that is there is to stay.
    drop(bench.host);
    std::fs::write(home.join("lodger.toml"), format!("[retention]\ncalls = {}\n", 2 * CALLS))?;
    fill(&home.join("lodger.db"), &bench.addon.to_string(), resources, calls)?;
    bench.host = Host::open(Config::new(&home)).await?.into();
    Ok(bench)
}

/// Writes rows as the host would have, in one transaction.
fn fill(store: &Path, addon: &str, resources: usize, calls: usize) -> anyhow::Result<()> {
    const NUMBERS: &str = "WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n + 1 < ?2)";
    let connection = rusqlite::Connection::open(store)?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    let report: Option<String> =
        connection.query_row("SELECT report FROM call WHERE hook = 'provision'", [], |row| row.get(0))?;
    let transaction = connection.unchecked_transaction()?;
    transaction.execute(
        &format!(
            "{NUMBERS} INSERT INTO resource (key, addon, app, alias, options, variables, state, guest_id, created_at)
             SELECT lower(hex(randomblob(16))), ?1, 'app-' || n, '', '{{}}', '[\"BENCH_URL\"]', 'active', 'made-' || n, ?3
             FROM number"
        ),
        params![addon, resources, now],
    )?;
    // Ids begin with the time, so that all are older than what will be called, and none is too old.
    transaction.execute(
        &format!(
            "{NUMBERS} INSERT INTO call (addon, id, hook, key, actor, started_at, outcome, report)
             SELECT ?1, printf('%012x7000%016x', ?3 - ?2 + n, n), 'unprovision', 'none', 'embedder', ?3 - ?2 + n,
                    'completed', ?4 FROM number"
        ),
        params![addon, calls, now, report],
    )?;
    transaction.commit()?;
    connection.pragma_update(None, "wal_checkpoint", "TRUNCATE")?;
    Ok(())
}
