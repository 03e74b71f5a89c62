//! An import that the host does not have: the host must refuse the addon at install, and name the import.

wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package probes:unknown;
        world probe {
            import evil:host/shell;
            export lodger:addon/setup@0.1.0;
        }
        package evil:host {
            interface shell {
                run: func(command: string) -> string;
            }
        }
    ",
    with: { "lodger:addon/types@0.1.0": probes::lodger::addon::types },
    generate_all,
});

use probes::{Held, broken};

struct Probe;
export!(Probe);

impl exports::lodger::addon::setup::Guest for Probe {
    fn enable() -> Held {
        Err(broken(evil::host::shell::run("id")))
    }

    fn disable() -> Held {
        Ok(())
    }
}
