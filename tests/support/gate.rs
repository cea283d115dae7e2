//! A way to a broker that a test can shut for one kind of request, while everything else passes: sends
//! that hang although commits go through, answers that never come, connections that break at once.
//!
//! It stands between clients and a broker on the loopback and reads as much of Kafka's protocol as that
//! takes: the length and kind of each request, and the broker's address in answers that name it, which
//! becomes its own, so that clients come back to it.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::Cluster;

/// A kind of request, by its number in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum Kind {
    Produce = 0,
    Fetch = 1,
    OffsetCommit = 8,
    EndTransaction = 26,
}

/// The kinds whose answers name brokers: metadata, coordinators, the cluster.
const NAMING: [i16; 3] = [3, 10, 60];

/// The gate; open until told otherwise. It ends with the test process.
pub struct Gate {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    broker: u16,
    port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requests: BTreeSet<i16>,
    answers: BTreeSet<i16>,
    /// Which connections have sent requests of a kind.
    users: BTreeSet<(i16, u64)>,
    /// Of these, those whose requests of that kind are held back.
    stalled: BTreeSet<(i16, u64)>,
    connections: u64,
    /// Connections of an older age are broken.
    age: u64,
    streams: Vec<TcpStream>,
    /// How many requests or answers were held back so far.
    held: usize,
}

impl Gate {
    /// A gate before the one broker of `cluster`.
    pub fn before(cluster: &Cluster) -> Self {
        let broker = cluster.brokers().rsplit(':').next().and_then(|port| port.parse().ok());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let shared = Arc::new(Shared {
            broker: broker.expect("the broker's port"),
            port,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.connect(client));
            }
        });
        Self { port, shared }
    }

    /// Where clients find the broker through this gate.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Requests of this kind are held back from now on, with all that comes behind them.
    pub fn hold(&self, kind: Kind) {
        self.shared.state.lock().expect("the state").requests.insert(kind as i16);
    }

    /// Requests of this kind reach the broker, and its answers are held back.
    pub fn hold_answers(&self, kind: Kind) {
        self.shared.state.lock().expect("the state").answers.insert(kind as i16);
    }

    /// Requests of this kind are held back on connections that have sent one before; new ones pass.
    pub fn stall(&self, kind: Kind) {
        let mut state = self.shared.state.lock().expect("the state");
        let of_kind = |(user, _): &&(i16, u64)| *user == kind as i16;
        let users: Vec<_> = state.users.iter().filter(of_kind).copied().collect();
        state.stalled.extend(users);
    }

    /// How many requests and answers were held back so far.
    pub fn held(&self) -> usize {
        self.shared.state.lock().expect("the state").held
    }

    /// Everything passes again, what was held back first.
    pub fn open(&self) {
        let mut state = self.shared.state.lock().expect("the state");
        state.requests.clear();
        state.answers.clear();
        state.stalled.clear();
        self.shared.changed.notify_all();
    }

    /// All connections break, and what is held back is gone.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock().expect("the state");
        state.age += 1;
        for stream in state.streams.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn connect(self: Arc<Self>, client: TcpStream) {
        let Ok(broker) = TcpStream::connect(("127.0.0.1", self.broker)) else { return };
        let both = |stream: &TcpStream| stream.try_clone().expect("a second handle");
        let (from_client, to_client, from_broker, to_broker) = (both(&client), client, both(&broker), broker);
        let (age, number) = {
            let mut state = self.state.lock().expect("the state");
            state.streams.extend([both(&from_client), both(&from_broker)]);
            state.connections += 1;
            (state.age, state.connections)
        };
        let (asked, answered) = mpsc::channel();
        let down = Arc::clone(&self);
        thread::spawn(move || {
            let _ = down.answers(age, &from_broker, &to_client, &answered);
            let _ = to_client.shutdown(Shutdown::Both);
        });
        let _ = self.requests((age, number), &from_client, &to_broker, &asked);
        let _ = to_broker.shutdown(Shutdown::Both);
    }

    fn requests(
        &self,
        (age, number): (u64, u64),
        client: &TcpStream,
        broker: &TcpStream,
        asked: &Sender<i16>,
    ) -> io::Result<()> {
        loop {
            let frame = read_frame(client)?;
            let kind = frame.get(4..6).map_or(-1, |bytes| i16::from_be_bytes([bytes[0], bytes[1]]));
            self.state.lock().expect("the state").users.insert((kind, number));
            self.pass(age, |state| {
                state.requests.contains(&kind) || state.stalled.contains(&(kind, number))
            })?;
            // The broker answers in the order of the requests.
            let _ = asked.send(kind);
            (&*broker).write_all(&frame)?;
        }
    }

    fn answers(
        &self,
        age: u64,
        broker: &TcpStream,
        client: &TcpStream,
        answered: &Receiver<i16>,
    ) -> io::Result<()> {
        loop {
            let mut frame = read_frame(broker)?;
            let kind = answered.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            if NAMING.contains(&kind) {
                self.rename(&mut frame);
            }
            self.pass(age, |state| state.answers.contains(&kind))?;
            (&*client).write_all(&frame)?;
        }
    }

    /// Waits until nothing holds the connection back.
    fn pass(&self, age: u64, held: impl Fn(&State) -> bool) -> io::Result<()> {
        let mut state = self.state.lock().expect("the state");
        if state.age == age && held(&state) {
            state.held += 1;
        }
        while state.age == age && held(&state) {
            state = self.changed.wait(state).expect("the state");
        }
        if state.age == age { Ok(()) } else { Err(io::ErrorKind::ConnectionAborted.into()) }
    }

    /// Puts the gate where an answer names the broker: the host, then four bytes of port.
    fn rename(&self, frame: &mut [u8]) {
        let place = |port: u16| [&b"127.0.0.1"[..], &u32::from(port).to_be_bytes()].concat();
        let (broker, gate) = (place(self.broker), place(self.port));
        let mut start = 0;
        while let Some(found) = frame[start..].windows(broker.len()).position(|bytes| bytes == broker) {
            start += found;
            frame[start..start + gate.len()].copy_from_slice(&gate);
        }
    }
}

/// Four bytes of length, and as many bytes as they say.
fn read_frame(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}
