//! The main job, visibly, on real examples, in a throw-away home.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use crate::cargo::{cargo, command, root, run, target};
use crate::{engine, guests};

#[derive(clap::Args)]
pub(crate) struct Demo {}

/// The tour, as a person would type it.
const TOUR: &[&str] = &[
    "install guest-examples/app-secrets --yes",
    "enable app-secrets",
    "add shop app-secrets --plan long",
    "env shop",
    "run shop -- sh -c 'echo the app sees $APP_SECRETS_KEY'",
    "plan shop app-secrets standard",
    "explain app-secrets",
    "calls app-secrets",
    "remove shop app-secrets",
    "disable app-secrets",
    "uninstall app-secrets",
];

/// The same with a container: a client writes and reads through the URL that an app was given.
const SERVICES: &[&str] = &[
    "install guest-examples/redis --yes",
    "enable redis",
    "add shop redis",
    "run shop -- sh -c 'docker run --rm --network host redis:7 redis-cli --no-auth-warning -u $REDIS_URL set basket full'",
    "run shop -- sh -c 'docker run --rm --network host redis:7 redis-cli --no-auth-warning -u $REDIS_URL get basket'",
    "reconcile",
    "remove shop redis",
    "disable redis",
    "uninstall redis",
];

/// The images of the tests are made here, not pulled: they have no digest.
const POLICY: &str = "[grant]\nunpinned = [\"docker.io/library/redis:7\"]\n";

impl Demo {
    #[expect(clippy::print_stdout, reason = "the demo shows what it does")]
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let root = root();
        println!("building the guests and the host; the first time takes some minutes");
        guests::build()?;
        run(cargo(&root).args(["build", "--locked", "--package", "lodger-cli"]))?;
        let bin = target().join("debug");
        let home = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir()?;
        std::fs::write(home.path().join("lodger.toml"), POLICY)?;
        let tour = |steps: &[&str]| {
            steps.iter().try_for_each(|step| {
                println!("\n$ lodger {step}");
                // Through a shell, as it is shown: the steps are constants of this file.
                run(command("sh", &root)
                    .args(["-c", &format!("exec \"$LODGER\" {step}")])
                    .env("LODGER", bin.join("lodger"))
                    .env("LODGER_HOME", home.path()))
            })
        };
        tour(TOUR)?;
        match engine::ready(false) {
            Ok(_) => tour(SERVICES)?,
            Err(error) => println!("\nnothing with containers is shown: {error}"),
        }
        println!("\nthe throw-away home is gone; `lodger new my-addon` makes an addon of your own");
        Ok(())
    }
}
