//! TLS in front of a server that knows none, with a certificate for the loopback that an authority of the
//! tests' own has given. Both were made once, for a hundred years; nobody else trusts them.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// How long one side is listened to before the other.
const TURN: Duration = Duration::from_millis(5);

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support/tls").join(name)
}

/// The authority that has given the certificate.
pub fn authority() -> PathBuf {
    file("authority.pem")
}

/// One that has not.
pub fn other_authority() -> PathBuf {
    file("other.pem")
}

/// Where TLS is spoken for the server at `address`, until the test process ends.
pub fn before(address: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let place = listener.local_addr().expect("its address").to_string();
    let certificate = CertificateDer::from_pem_file(file("server.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(file("server.key")).expect("its key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_no_client_auth().with_single_cert(vec![certificate], key);
    let (config, server) = (Arc::new(config.expect("a pair")), address.to_owned());
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (config, server) = (Arc::clone(&config), server.clone());
            thread::spawn(move || pass(client, &server, config));
        }
    });
    place
}

fn pass(client: TcpStream, server: &str, config: Arc<ServerConfig>) {
    let (Ok(mut server), Ok(session)) = (TcpStream::connect(server), ServerConnection::new(config)) else {
        return;
    };
    for side in [&client, &server] {
        side.set_read_timeout(Some(TURN)).expect("a limit");
    }
    let mut client = StreamOwned::new(session, client);
    while copy(&mut client, &mut server) && copy(&mut server, &mut client) {}
}

/// Passes on what is there; false once there is an end.
fn copy(from: &mut impl Read, to: &mut impl Write) -> bool {
    let mut bytes = [0; 16_384];
    match from.read(&mut bytes) {
        Ok(0) => false,
        Ok(count) => to.write_all(&bytes[..count]).and_then(|()| to.flush()).is_ok(),
        Err(error) => {
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
        }
    }
}
