//! An embedder's own WIT world in Lodger's sandbox: its bindings, our grant, limits and data directory.
//!
//! `cargo xtask guests`, then `cargo run --package lodger --example own_world`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::HashMap;

use lodger::{Access, Config, Extension, Guest, Host, Outcome};
use wasmtime::component::{HasSelf, Linker};

wasmtime::component::bindgen!({
    path: "../../guest-examples/price-rules/wit",
    world: "pricing",
    exports: { default: async },
});

use shop::pricing::customers;

/// The embedder's own state for one call.
struct Orders(HashMap<String, u32>);

impl customers::Host for Orders {
    fn orders(&mut self, customer: String) -> u32 {
        self.0.get(&customer).copied().unwrap_or(0)
    }
}

/// Links the embedder's imports to the state it hands to each call.
fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    customers::add_to_linker::<Guest, HasSelf<Orders>>(linker, Guest::extension_mut)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    lodger::compiler::serve_if_asked();
    let home = tempfile::tempdir()?;
    let mut config = Config::new(home.path());
    config.extension = Some(Extension {
        imports: vec!["shop:pricing/customers".to_owned()],
        exports: vec!["shop:pricing/rules".to_owned()],
        link,
    });
    let host = Host::open(config).await?;
    let incoming = host.inspect("guest-examples/price-rules".as_ref()).await?;
    let addon = host.install(incoming, false).await?.id;
    host.enable(&addon).await?;

    let orders = Orders(HashMap::from([("ann".to_owned(), 12)]));
    let call = host
        .call_world(&addon, "price", Access::ReadOnly, Box::new(orders), async |store, component| {
            let rules = PricingPre::new(component.clone())?.instantiate_async(&mut *store).await?;
            rules.shop_pricing_rules().call_price(store, 2000, "ann").await
        })
        .await?;
    match call.outcome {
        Outcome::Completed(cents) => println!("ann pays {cents} cents, asked in {} µs", call.report.wall_us),
        other => anyhow::bail!("no price: {other}"),
    }
    Ok(())
}
