//! Writes the document of the HTTP API that is checked in: what the server serves.

use crate::cargo::{cargo, root, run};

#[derive(clap::Args)]
pub(crate) struct OpenApi {}

impl OpenApi {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        // The test that compares the two.
        run(cargo(&root())
            .args(["test", "--locked", "--package", "lodger-cli", "--test", "end-to-end"])
            .arg("server::openapi::the_document_that_is_served_is_the_one_that_is_checked_in")
            .env("LODGER_TEST_BLESS", "1"))
    }
}
