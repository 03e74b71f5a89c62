//! No TCP: the host must refuse to listen and to connect, before anything leaves the machine.

use std::io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
use std::net::{TcpListener, TcpStream};

use probes::{Held, broken, check, refused};

probes::enable!(held);

fn held() -> Held {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0", "[::ffff:127.0.0.1]:0"] {
        refused(&format!("listen on {address}"), TcpListener::bind(address))?;
    }
    for address in ["127.0.0.1:9", "0.0.0.0:9", "169.254.169.254:80", "192.0.2.1:80", "[::1]:9", "[::ffff:127.0.0.1]:9"]
    {
        let error = TcpStream::connect(address).err().ok_or_else(|| broken(format!("connected to {address}")))?;
        let tried = [ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut];
        check(!tried.contains(&error.kind()), format!("the network answered for {address}: {error}"))?;
    }
    Ok(())
}
