//! Ports for servers that are told theirs before they start.

use std::net::TcpListener;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As `free_port` of `common.sh`: below those that the kernel gives to connections, any of which may be taken
/// between the look and the start.
const FIRST: usize = 20_000;
const COUNT: usize = 12_000;

/// Where this process looks next; no port is given out twice in a row.
static NEXT: LazyLock<AtomicUsize> = LazyLock::new(|| AtomicUsize::new(rand::random_range(0..COUNT)));

/// A port of the loopback that nobody listens on.
pub fn free_port() -> u16 {
    let ports = (0..COUNT).map(|_| FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
    let mut ports = ports.filter_map(|port| u16::try_from(port).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
