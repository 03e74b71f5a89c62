//! `cargo xtask`: everything a contributor runs.

mod bench;
mod cargo;
mod demo;
mod engine;
mod guests;
mod openapi;
mod test;
mod tester;

use clap::Parser;

/// Everything a contributor runs
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Build everything and run the main job on a real example, in a throw-away home
    Demo(demo::Demo),
    /// Formatting, clippy with warnings as errors, all tests
    Test(test::Test),
    /// Install and start a container engine, and make the images the tests use
    Engine(engine::Engine),
    /// Install Schemathesis, which tries the HTTP API against its document
    Tester(tester::Tester),
    /// Build the guests, and leave each addon's component beside its addon.json
    Guests(guests::Guests),
    /// Write host/server/openapi.json, the document of the HTTP API
    #[command(name = "openapi")]
    OpenApi(openapi::OpenApi),
    /// Measure hook calls beside bare wasmtime, bash and SQLite
    Bench(bench::Bench),
}

fn main() -> anyhow::Result<()> {
    match Task::parse() {
        Task::Demo(task) => task.run(),
        Task::Test(task) => task.run(),
        Task::Engine(task) => task.run(),
        Task::Tester(task) => task.run(),
        Task::Guests(task) => task.run(),
        Task::OpenApi(task) => task.run(),
        Task::Bench(task) => task.run(),
    }
}
