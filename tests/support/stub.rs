//! A small HTTP server on the loopback that answers as a test says and counts what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Answers one request by its path; whatever is written is the whole answer.
pub type Answer = fn(&str, &mut TcpStream);

/// As [`Answer`], with the body of the request behind its path.
type BodyAnswer = dyn Fn(&str, &str, &mut TcpStream) + Send + Sync;

/// The running server; it ends with the test process.
pub struct Stub {
    address: String,
    asked: Arc<AtomicUsize>,
}

impl Stub {
    /// Starts it on a free port.
    pub fn start(answer: Answer) -> Self {
        Self::start_with_bodies(move |path, _, stream| answer(path, stream))
    }

    /// Starts it with an answer that looks at bodies.
    pub fn start_with_bodies(answer: impl Fn(&str, &str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        let answer: Arc<BodyAnswer> = Arc::new(answer);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, counter) = (Arc::clone(&answer), Arc::clone(&counter));
                thread::spawn(move || serve(stream, &*answer, &counter));
            }
        });
        Self { address, asked }
    }

    /// Where it listens, as `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Acquire)
    }
}

fn serve(mut stream: TcpStream, answer: &BodyAnswer, asked: &AtomicUsize) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let (mut header, mut length) = (String::new(), 0);
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        header.clear();
    }
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    asked.fetch_add(1, Ordering::AcqRel);
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    answer(path, &String::from_utf8_lossy(&body), &mut stream);
}

/// A whole answer with a body; the connection ends with it.
pub fn reply(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}
