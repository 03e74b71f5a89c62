//! A platform that embeds the host: installs an addon, gives it to an app, and reads what the app receives.
//!
//! `cargo xtask guests`, then `cargo run --package lodger --example embed`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use lodger::{Add, Config, Host};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    lodger::compiler::serve_if_asked(); // components are compiled in a child: this program, started again
    let home = tempfile::tempdir()?;
    let host = Host::open(Config::new(home.path())).await?;

    let incoming = host.inspect("guest-examples/app-secrets".as_ref()).await?;
    println!("it may: {:#?}", incoming.grant.lines); // shown to whoever decides
    let addon = host.install(incoming, false).await?.id;
    anyhow::ensure!(host.enable(&addon).await?.outcome.is_completed());

    let shop = Add::new("shop".parse()?, addon.clone());
    let done = host.add(shop).await?;
    println!("{} after {:?}", done.outcome.name(), done.call.map(|call| call.report.wall_us));
    for (name, value) in host.env(&"shop".parse()?).await?.variables {
        println!("{name}={value}");
    }
    Ok(())
}
