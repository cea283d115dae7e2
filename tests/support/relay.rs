//! A way to a server that loses one answer when a test says so: the request arrives, is carried out, and the
//! connection breaks before a byte of the answer passes. Knows nothing of any protocol but how short an answer can be.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// An answer of fewer bytes has no rows: it is only that of a question whether the connection works.
const ROWS: usize = 32;

/// The relay; passes everything until told otherwise. It ends with the test process.
pub struct Relay {
    port: u16,
    lose: Arc<AtomicBool>,
    /// Connections of an older age stay open and pass nothing on.
    age: Arc<AtomicUsize>,
}

impl Relay {
    /// A relay before the server that a URL names. Panics where it cannot listen.
    pub fn before(url: &str) -> Self {
        let place = place(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let lose = Arc::new(AtomicBool::new(false));
        let age = Arc::new(AtomicUsize::new(0));
        let (losing, ages) = (Arc::clone(&lose), Arc::clone(&age));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&place) else { continue };
                let never = Arc::new(AtomicBool::new(false));
                let age = Age { born: ages.load(Ordering::SeqCst), now: Arc::clone(&ages) };
                let (to, from) =
                    (server.try_clone().expect("a handle"), client.try_clone().expect("a handle"));
                pass(from, to, never, age.clone());
                pass(server, client, Arc::clone(&losing), age);
            }
        });
        Self { port, lose, age }
    }

    /// The URL that leads through it.
    pub fn url(&self, url: &str) -> String {
        url.replacen(place(url), &format!("127.0.0.1:{}", self.port), 1)
    }

    /// The next answer of the server on any connection that has rows in it is lost, and that connection breaks.
    pub fn lose_next_answer(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    /// From now on nothing passes on the connections that are open, and none of them breaks.
    pub fn mute(&self) {
        self.age.fetch_add(1, Ordering::SeqCst);
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

/// When a connection was made, counted in mutings.
#[derive(Clone)]
struct Age {
    born: usize,
    now: Arc<AtomicUsize>,
}

impl Age {
    fn is_over(&self) -> bool {
        self.now.load(Ordering::SeqCst) > self.born
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, lose: Arc<AtomicBool>, age: Age) {
    thread::spawn(move || {
        let mut buffer = [0; 65536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if age.is_over() {
                continue;
            }
            let lost = count >= ROWS && lose.swap(false, Ordering::SeqCst);
            if lost || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}
