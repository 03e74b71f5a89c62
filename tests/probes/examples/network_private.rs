//! A granted name that leads to this machine itself: the host must refuse the address, whatever the name.

use std::net::{TcpStream, ToSocketAddrs};

use probes::http::{get, target};
use probes::wasip2::http::types::ErrorCode;
use probes::{Held, check, refused};

probes::enable!(held);

fn held() -> Held {
    let target = target()?;
    let answer = get(&target, "/");
    check(
        matches!(answer, Err(ErrorCode::DestinationIpProhibited)),
        format!("HTTP answered {:?}", answer.map(|_| ())),
    )?;
    refused("a lookup", target.to_socket_addrs())?;
    refused("a connection by name", TcpStream::connect(&target))?;
    refused("a connection by address", TcpStream::connect(target.replace("localhost", "127.0.0.1")))
}
