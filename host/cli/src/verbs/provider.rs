//! `lodger provider`
mod offer;
use crate::context::Context;
/// Providers
#[derive(clap::Args)]
pub struct Provider {
    #[command(subcommand)]
    what: What,
}
#[derive(clap::Subcommand)]
enum What {
    Credentials(offer::Credentials),
    Manifest(offer::Manifest),
}
impl Provider {
    pub async fn run(self, context: &Context) -> anyhow::Result<u8> {
        match self.what {
            What::Credentials(verb) => verb.run(context).await,
            What::Manifest(verb) => verb.run(context).await,
        }
    }
}
