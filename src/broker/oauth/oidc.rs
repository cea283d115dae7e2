//! Keeps a token of a token endpoint fresh.
//!
//! One thread asks, with a bounded time for each answer, and asks again well before a token ends, so
//! that the threads of the clients find a fresh one. It starts with the first question for a token
//! and ends with its owner.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::Token;
use super::endpoint::{Endpoint, source_of};
use crate::base::{http_client, now_millis};

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(8);
/// How long somebody may wait for the first answer.
const FIRST: Duration = Duration::from_secs(10);
/// The waits after a failure double up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// A fresh token is got once this share of the old one's life is over. The clients ask at 80 %.
const REFRESH_PERCENT: u32 = 60;
const SHORTEST_REFRESH: Duration = Duration::from_millis(200);

/// Keeps a token fresh.
pub(super) struct Refresher(Arc<Shared>);

struct Shared {
    endpoint: Endpoint,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    started: bool,
    stopped: bool,
    token: Option<Token>,
    /// Why the last question brought none.
    failure: Option<String>,
}

impl Refresher {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self(Arc::new(Shared { endpoint, state: Mutex::default(), changed: Condvar::new() }))
    }

    /// The newest token that lives, or why there is none; waits only while nothing is known.
    pub(super) fn token(&self) -> Result<Token, String> {
        let deadline = Instant::now() + FIRST;
        let mut state = self.0.state.lock();
        if !state.started {
            let shared = Arc::clone(&self.0);
            let asks = move || shared.keep_fresh();
            thread::Builder::new()
                .name("kafka-tokens".to_owned())
                .spawn(asks)
                .map_err(|error| format!("no thread can be started: {error}"))?;
            state.started = true;
        }
        loop {
            if let Some(token) = state.token.as_ref().filter(|token| token.expires_at > now_millis()) {
                return Ok(token.clone());
            }
            if let Some(failure) = &state.failure {
                return Err(failure.clone());
            }
            if self.0.changed.wait_until(&mut state, deadline).timed_out() {
                return Err(format!("{} has not answered within {FIRST:?}", self.0.endpoint.shown()));
            }
        }
    }
}

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.state.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn keep_fresh(&self) {
        let (runtime, client) = match tools() {
            Ok(tools) => tools,
            Err(why) => return self.answered(Err(why)),
        };
        let mut retry = FIRST_RETRY;
        loop {
            let answer = runtime.block_on(self.endpoint.ask(&client));
            let wait = match &answer {
                Ok(token) => {
                    retry = FIRST_RETRY;
                    refresh_in(token.expires_at - now_millis())
                }
                Err(_) => {
                    let longer = (retry * 2).min(LONGEST_RETRY);
                    std::mem::replace(&mut retry, longer)
                }
            };
            self.answered(answer);
            let until = Instant::now() + wait;
            let mut state = self.state.lock();
            while !state.stopped && !self.changed.wait_until(&mut state, until).timed_out() {}
            if state.stopped {
                return;
            }
        }
    }

    fn answered(&self, answer: Result<Token, String>) {
        let mut state = self.state.lock();
        match answer {
            Ok(token) => (state.token, state.failure) = (Some(token), None),
            Err(why) => {
                // While the old one lives nobody else would say so.
                if state.token.as_ref().is_some_and(|token| token.expires_at > now_millis()) {
                    tracing::warn!(target: "kafka", "no fresh OAUTHBEARER token yet: {why}");
                }
                state.failure = Some(why);
            }
        }
        self.changed.notify_all();
    }
}

fn tools() -> Result<(tokio::runtime::Runtime, reqwest::Client), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime can be started: {error}"))?;
    // A redirect would carry the secret elsewhere.
    let client = http_client()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("biplane/", env!("CARGO_PKG_VERSION")))
        .timeout(ANSWER)
        .build();
    Ok((runtime, client.map_err(|error| format!("no HTTP client can be built: {}", source_of(&error)))?))
}

fn refresh_in(life_millis: i64) -> Duration {
    let life = Duration::from_millis(u64::try_from(life_millis).unwrap_or_default());
    (life / 100 * REFRESH_PERCENT).max(SHORTEST_REFRESH)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc;

    use serde_json::json;

    use super::super::jwt::unsigned;
    use super::*;

    const LOOK: Duration = Duration::from_millis(10);

    /// A token endpoint that gives these answers one after the other, the last for ever; what it was
    /// asked comes by the receiver.
    fn endpoint(answers: Vec<(&'static str, String)>) -> (String, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token?tenant=secret-too", listener.local_addr().unwrap());
        let (asked, questions) = mpsc::channel();
        thread::spawn(move || {
            for (index, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let mut reader = BufReader::new(stream);
                let mut question = String::new();
                while !question.ends_with("\r\n\r\n") && reader.read_line(&mut question).is_ok_and(|n| n > 0)
                {
                }
                let length = question.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok()
                });
                let mut body = vec![0; length.unwrap_or_default()];
                reader.read_exact(&mut body).unwrap();
                question.push_str(&String::from_utf8(body).unwrap());
                let (status, body) = &answers[index.min(answers.len() - 1)];
                let length = body.len();
                let _ = write!(
                    reader.get_mut(),
                    "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                if asked.send(question).is_err() {
                    return;
                }
            }
        });
        (url, questions)
    }

    fn refresher(url: &str) -> Refresher {
        let scope = Some("kafka read/write".to_owned());
        Refresher::new(Endpoint::new(url, "me".to_owned(), "hunter2".to_owned(), scope).unwrap())
    }

    fn handed_out(life: i64) -> String {
        let jwt =
            unsigned(&json!({ "sub": "me-myself", "exp": now_millis() as f64 / 1_000.0 + life as f64 }));
        json!({ "access_token": jwt, "token_type": "Bearer", "expires_in": life * 100 }).to_string()
    }

    #[test]
    fn a_token_is_asked_for_once_and_again_before_it_ends() {
        let (url, questions) = endpoint(vec![("200 OK", handed_out(3)), ("200 OK", handed_out(3_600))]);
        let refresher = refresher(&url);
        let first = refresher.token().unwrap();
        assert_eq!(first.principal, "me-myself");
        assert!(first.expires_at <= now_millis() + 3_000, "`exp` counts where it is earlier");
        let question = questions.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(question.starts_with("POST /token?tenant=secret-too HTTP/1.1"), "{question}");
        assert!(
            question.to_ascii_lowercase().contains("authorization: basic bwu6ahvudgvymg=="),
            "{question}"
        );
        assert!(question.ends_with("grant_type=client_credentials&scope=kafka%20read%2Fwrite"), "{question}");
        questions.recv_timeout(Duration::from_secs(10)).expect("asked again without anybody's asking");
        let deadline = Instant::now() + Duration::from_secs(10);
        while refresher.token().is_ok_and(|token| token == first) && Instant::now() < deadline {
            thread::park_timeout(LOOK);
        }
        assert!(refresher.token().unwrap().expires_at > now_millis() + 3_000_000);
        assert!(questions.try_recv().is_err(), "a token that lives long is not asked for again");
    }

    #[test]
    fn a_refusal_is_told_without_the_secret_and_asked_again() {
        let refusal = json!({ "error": "invalid_client", "error_description": "no such client" });
        let echo = json!({ "error": "invalid_client", "error_description": "hunter2 is wrong" });
        let (url, _questions) = endpoint(vec![
            ("401 Unauthorized", refusal.to_string()),
            ("401 Unauthorized", echo.to_string()),
            ("200 OK", handed_out(60)),
        ]);
        let refresher = refresher(&url);
        let error = refresher.token().map(|_| ()).unwrap_err();
        assert!(error.contains("/token answers 401 (invalid_client: no such client)"), "{error}");
        assert!(error.contains("_CLIENT_SECRET") && !error.contains("secret-too"), "{error}");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match refresher.token() {
                Ok(_) => break,
                Err(error) => assert!(!error.contains("hunter2"), "{error}"),
            }
            assert!(Instant::now() < deadline, "it recovers by itself");
            thread::park_timeout(LOOK);
        }
    }

    #[test]
    fn an_endpoint_that_is_away_is_no_long_wait() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started = Instant::now();
        let error = refresher(&format!("http://127.0.0.1:{port}/")).token().map(|_| ()).unwrap_err();
        assert!(error.contains("does not answer") && error.contains("TOKEN_ENDPOINT_URL"), "{error}");
        assert!(started.elapsed() < FIRST, "{:?}", started.elapsed());
    }
}
