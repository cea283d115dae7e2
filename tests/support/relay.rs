//! A way to a server that loses one answer when a test says so: the request arrives, is carried out, and the
//! connection breaks before a byte of the answer passes. Knows nothing of any protocol but how short an answer can be.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// An answer of fewer bytes has no rows: it is only that of a question whether the connection works.
const ROWS: usize = 32;

/// The relay; passes everything until told otherwise. It ends with the test process.
pub struct Relay {
    port: u16,
    lose: Arc<AtomicBool>,
}

impl Relay {
    /// A relay before the server that a URL names. Panics where it cannot listen.
    pub fn before(url: &str) -> Self {
        let place = place(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let lose = Arc::new(AtomicBool::new(false));
        let losing = Arc::clone(&lose);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&place) else { continue };
                let never = Arc::new(AtomicBool::new(false));
                pass(client.try_clone().expect("a handle"), server.try_clone().expect("a handle"), never);
                pass(server, client, Arc::clone(&losing));
            }
        });
        Self { port, lose }
    }

    /// The URL that leads through it.
    pub fn url(&self, url: &str) -> String {
        url.replacen(place(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// The next answer of the server on any connection that has rows in it is lost, and that connection breaks.
    pub fn lose_next_answer(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    /// Whether an answer that was to be lost still is to come.
    pub fn waits(&self) -> bool {
        self.lose.load(Ordering::SeqCst)
    }
}

fn place(url: &str) -> &str {
    let (_, rest) = url.rsplit_once('@').expect("a URL with a role");
    rest.split('/').next().expect("a place")
}

fn pass(mut from: TcpStream, mut to: TcpStream, lose: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let lost = count >= ROWS && lose.swap(false, Ordering::SeqCst);
            if lost || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
