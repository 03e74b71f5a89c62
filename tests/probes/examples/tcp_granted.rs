//! TCP to a granted name: the host must connect to it after a lookup, and to no other name, address or port.

use std::io::{Read, Write};
use std::net::TcpStream;

use probes::http::{port, target};
use probes::wasip2::sockets::{instance_network::instance_network, ip_name_lookup::resolve_addresses};
use probes::{Held, check, refused};

probes::enable!(held);

fn held() -> Held {
    let (target, port, other) = (target()?, port("TARGET")?, port("OTHER")?);
    refused("an address that no lookup has given", TcpStream::connect(("127.0.0.1", port)))?;
    let network = instance_network();
    for name in ["example.com", "stolen-data.localhost", "localhost.", "127.0.0.1", "2130706433", "0x7f.1", "::1", ""] {
        // Past std, which takes an address for a name that needs no lookup.
        refused(&format!("looking up {name:?}"), resolve_addresses(&network, name))?;
    }
    let mut stream = TcpStream::connect(&target)?;
    stream.write_all(b"GET /echo HTTP/1.1\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    check(said.ends_with("GET /echo HTTP/1.1\r\n\r\n"), format!("the server said {said:?}"))?;
    // What the lookup gave may be dialled by number from now on, at the granted port.
    drop(TcpStream::connect(("127.0.0.1", port))?);
    refused("another port of the name", TcpStream::connect(("localhost", other)))?;
    refused("another port of the address", TcpStream::connect(("127.0.0.1", other)))?;
    for address in ["127.0.0.2", "0.0.0.0", "::1", "::ffff:127.0.0.1", "192.0.2.1"] {
        refused(address, TcpStream::connect((address, port)))?;
    }
    Ok(())
}
