//! No UDP: the host must refuse to bind, for a socket that is bound can send.

use std::net::UdpSocket;

use probes::{Held, refused};

probes::enable!(held);

fn held() -> Held {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "0.0.0.0:53", "[::1]:0", "[::]:0", "[::ffff:127.0.0.1]:0"] {
        refused(&format!("bind {address}"), UdpSocket::bind(address))?;
    }
    Ok(())
}
