//! The service that `http` steps ask, and the bare client that asks the same of it: a process each.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value as Json;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// How long an answer takes, and one that is asked for by a path that begins with `/slow`.
const TAKES: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_secs(1);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

fn runtime() -> Runtime {
    Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// Serves on `address` until it is killed.
pub(crate) fn serve(address: &str) {
    runtime().block_on(async {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            #[expect(clippy::disallowed_methods, reason = "a connection ends with its client")]
            tokio::spawn(answer(stream));
        }
    });
}

/// One connection: a request, its answer, and again.
async fn answer(stream: TcpStream) {
    let mut asked = Vec::with_capacity(1_024);
    loop {
        let end = asked.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        if let Some(end) = end {
            let slow = asked.starts_with(b"GET /slow");
            asked.drain(..end + 4);
            tokio::time::sleep(if slow { SLOW } else { TAKES }).await;
            if stream.writable().await.is_err() || stream.try_write(ANSWER).is_err() {
                return;
            }
            continue;
        }
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read_buf(&mut asked) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Asks `requests` times, `places` at one time, as the engine's client does, decodes each answer, and ends.
pub(crate) fn ask(base: &str, requests: u64, places: u64) {
    let client = biplane::base::http_client()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(places as usize)
        .build()
        .expect("a client");
    let left = Arc::new(AtomicU64::new(requests));
    runtime().block_on(async {
        let asking = (0..places).map(|_| {
            let (client, left, url) = (client.clone(), Arc::clone(&left), format!("{base}/order"));
            async move {
                let more =
                    || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                while more().is_ok() {
                    let answer = client.get(&url).send().await.expect("an answer");
                    let body = answer.bytes().await.expect("its body");
                    std::hint::black_box(serde_json::from_slice::<Json>(&body).expect("JSON"));
                }
            }
        });
        #[expect(clippy::disallowed_methods, reason = "all are waited for")]
        let asking: Vec<_> = asking.map(tokio::spawn).collect();
        for one in asking {
            one.await.expect("it ends");
        }
    });
}
