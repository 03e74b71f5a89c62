//! UDP and listening, though a destination is granted: the host must refuse both whatever the grant.

use std::net::{TcpListener, UdpSocket};

use probes::wasip2::sockets::network::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress};
use probes::wasip2::sockets::udp_create_socket::create_udp_socket;
use probes::wasip2::sockets::{instance_network::instance_network, tcp_create_socket::create_tcp_socket};
use probes::{Held, broken, refused};

probes::enable!(held);

fn held() -> Held {
    for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
        refused(&format!("listen on {address}"), TcpListener::bind(address))?;
        refused(&format!("a datagram socket on {address}"), UdpSocket::bind(address))?;
    }
    refused("a datagram socket", create_udp_socket(IpAddressFamily::Ipv4))?;
    for address in [(0, 0, 0, 0), (127, 0, 0, 1)] {
        let socket =
            create_tcp_socket(IpAddressFamily::Ipv4).map_err(|error| broken(format!("no socket: {error:?}")))?;
        let to = IpSocketAddress::Ipv4(Ipv4SocketAddress { port: 0, address });
        refused("binding", socket.start_bind(&instance_network(), to).and_then(|()| socket.finish_bind()))?;
        refused("listening", socket.start_listen().and_then(|()| socket.finish_listen()))?;
        refused("taking in", socket.accept())?;
    }
    Ok(())
}
