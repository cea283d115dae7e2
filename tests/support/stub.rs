//! A small HTTP server on the loopback that answers as a test says and counts what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// One request.
struct Asked<'a> {
    path: &'a str,
    /// How often the path was asked for, this time included.
    times: usize,
    body: &'a str,
    /// Its headers, names in lower case.
    headers: &'a BTreeMap<String, String>,
}

type Answer = dyn Fn(Asked<'_>, &mut TcpStream) + Send + Sync;

/// The running server; it ends with the test process.
pub struct Stub {
    address: String,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Stub {
    /// Starts it on a free port. `answer` gets the path; whatever it writes is the whole answer.
    pub fn start(answer: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(move |asked: Asked<'_>, stream: &mut TcpStream| answer(asked.path, stream)))
    }

    /// Starts it with an answer that looks at bodies.
    pub fn start_with_bodies(answer: impl Fn(&str, &str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(move |asked: Asked<'_>, stream: &mut TcpStream| {
            answer(asked.path, asked.body, stream);
        }))
    }

    /// Starts it with an answer that looks at headers, whose names come in lower case.
    pub fn start_with_headers(
        answer: impl Fn(&str, &BTreeMap<String, String>, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Arc::new(move |asked: Asked<'_>, stream: &mut TcpStream| {
            answer(asked.path, asked.headers, stream);
        }))
    }

    /// Starts it with an answer that is told how often the path was asked for, this time included.
    pub fn counting(answer: impl Fn(&str, usize, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::listen(Arc::new(move |asked: Asked<'_>, stream: &mut TcpStream| {
            answer(asked.path, asked.times, stream);
        }))
    }

    fn listen(answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        let asked = Arc::new(Mutex::new(BTreeMap::new()));
        let counts = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (answer, counts) = (Arc::clone(&answer), Arc::clone(&counts));
                thread::spawn(move || serve(stream, &*answer, &counts));
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
        self.asked.lock().expect("the counts").values().sum()
    }

    /// How many requests came for each path.
    pub fn by_path(&self) -> BTreeMap<String, usize> {
        self.asked.lock().expect("the counts").clone()
    }
}

fn serve(mut stream: TcpStream, answer: &Answer, asked: &Mutex<BTreeMap<String, usize>>) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() || line.is_empty() {
        return;
    }
    let (mut header, mut headers) = (String::new(), BTreeMap::new());
    while reader.read_line(&mut header).is_ok_and(|read| read > 2) {
        if let Some((name, value)) = header.split_once(':') {
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        header.clear();
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let path = line.split_whitespace().nth(1).unwrap_or_default();
    let times = {
        let mut asked = asked.lock().expect("the counts");
        let times = asked.entry(path.to_owned()).or_default();
        *times += 1;
        *times
    };
    answer(Asked { path, times, body: &String::from_utf8_lossy(&body), headers: &headers }, &mut stream);
}

/// A whole answer with a body; the connection ends with it.
pub fn reply(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let _ =
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
}
