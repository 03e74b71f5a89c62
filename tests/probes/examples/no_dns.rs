//! No name lookup: the host must refuse before a query is made, for a name can carry data out.

use probes::wasip2::sockets::{instance_network::instance_network, ip_name_lookup::resolve_addresses};
use probes::{Held, refused};

probes::enable!(held);

fn held() -> Held {
    let network = instance_network();
    for name in ["localhost", "example.com", "stolen-data.example.com", "127.0.0.1", "::1", ""] {
        refused(&format!("resolve {name:?}"), resolve_addresses(&network, name))?;
    }
    Ok(())
}
