//! Answers, templates and data that mean harm: each ends with its code, within bounds.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{Bed, DEADLINE, INTACT, LIMIT};
use crate::support::stub::{Stub, reply};
use crate::support::{Cluster, Engine, Message, holds_within, wait_until};

/// Waits until each of `count` records is out or dead, and tells the codes of the dead ones by key.
fn codes(cluster: &Cluster, bed: &Bed, count: i64) -> BTreeMap<String, String> {
    let limit = if bed.without == INTACT { DEADLINE } else { LIMIT };
    holds_within(limit, || cluster.count(&bed.topic("output")) + cluster.count(&bed.topic("dlq")) >= count);
    let code = |letter: &Message| letter.header_text("biplane-error-code").expect("a code").to_owned();
    let dead = cluster.read_all(&bed.topic("dlq"));
    dead.iter().map(|letter| (letter.key_text().to_owned(), code(letter))).collect()
}

fn expected<const N: usize>(codes: [(&str, &str); N]) -> BTreeMap<String, String> {
    codes.map(|(key, code)| (key.to_owned(), code.to_owned())).into()
}

fn answer(path: &str, stream: &mut TcpStream) {
    match path {
        "/slow" => {
            // A byte now and then would keep a mere idle timeout from ever firing.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            let (_keep, wait) = std::sync::mpsc::channel::<()>();
            while stream.write_all(b" ").is_ok() {
                let _ = wait.recv_timeout(Duration::from_millis(100));
            }
        }
        "/bomb" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n\"");
            while stream.write_all(&[b'x'; 65_536]).is_ok() {}
        }
        "/bulk" => reply(stream, "200 OK", &format!("\"{}\"", "x".repeat(4 << 20))),
        "/away" => {
            let away =
                b"HTTP/1.1 302 Found\r\nLocation: /fine\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = stream.write_all(away);
        }
        _ => reply(stream, "200 OK", "{}"),
    }
}

/// A deadline over the whole answer, a cap on its body, no redirect followed. Without `http-deadline` a
/// slow answer holds its key for ever; without `body-cap` four mebibytes go through.
#[test]
fn slow_endless_and_redirecting_answers_end_in_the_dlq_with_their_code() {
    fn check(paths: &[&str], without: &'static str) -> BTreeMap<String, String> {
        let cluster = Cluster::shared();
        let stub = Stub::start(answer);
        let stage = format!(
            "[retries.once]\nmax_attempts = 1\n\n[http_clients.stub]\nbase_url = \"{}\"\ntimeout = \"1s\"\n\
             max_response_bytes = \"256KiB\"\n\n[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\
             retry = \"once\"\n\n[[STAGE.steps]]\nhttp.client = \"stub\"\nhttp.path = \"/{{{{ value.path }}}}\"\n",
            stub.url()
        );
        let bed = Bed::new(&cluster, 1, &stage, without);
        let records: Vec<_> = paths.iter().map(|path| Message::json(path, &json!({"path": path}))).collect();
        cluster.produce(&bed.topic("input"), &records);
        let engine = bed.start(&cluster);
        let codes = codes(&cluster, &bed, paths.len() as i64);
        assert!(engine.resident_bytes() < 200 << 20, "{} bytes", engine.resident_bytes());
        codes
    }
    let (slow, bulk) = (("slow", "timeout"), ("bulk", "body-too-large"));
    assert_eq!(
        check(&["slow", "bomb", "bulk", "away", "fine"], INTACT),
        expected([slow, ("bomb", "body-too-large"), bulk, ("away", "http-302")])
    );
    #[cfg(debug_assertions)]
    {
        assert_eq!(check(&["slow", "bulk"], "http-deadline"), expected([bulk]));
        assert_eq!(check(&["slow", "bulk"], "body-cap"), expected([slow]));
    }
}

/// Work without end is cut by its fuel, and so is what has no end of output; the partition goes on.
/// Without `fuel` a loop holds up the whole stage; without `output-cap` the broker is what refuses.
#[test]
fn endless_templates_end_in_the_dlq_and_the_partition_goes_on() {
    fn check(without: &'static str) -> BTreeMap<String, String> {
        let cluster = Cluster::shared();
        let stage = "[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\n[[STAGE.steps]]\n\
            name = \"loop\"\nwhen = \"value.kind == 'loop'\"\nset.text = \"{% for a in range(10000) %}\
            {% for b in range(10000) %}{% for c in range(10000) %}{% endfor %}{% endfor %}{% endfor %}\"\n\n\
            [[STAGE.steps]]\nname = \"flood\"\nwhen = \"value.kind == 'flood'\"\n\
            set.text = \"{% for a in range(90000) %}{{ value.pad }}{% endfor %}\"\n";
        let bed = Bed::new(&cluster, 1, stage, without);
        let pad = "x".repeat(1_000);
        let records =
            ["loop", "flood", "fine"].map(|kind| Message::json(kind, &json!({"kind": kind, "pad": pad})));
        cluster.produce(&bed.topic("input"), &records);
        let _engine = bed.start(&cluster);
        codes(&cluster, &bed, 3)
    }
    let fuel = ("loop", "fuel");
    assert_eq!(check(INTACT), expected([fuel, ("flood", "output-too-large")]));
    #[cfg(debug_assertions)]
    {
        assert!(check("fuel").is_empty());
        assert_ne!(check("output-cap").get("flood").map(String::as_str), Some("output-too-large"));
    }
}

/// How many series tell of dead letters, and whether the log stayed small.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    series: usize,
    more_later: usize,
    brief: bool,
}

/// Series and log lines are bounded by the config, not by what the data says: 200 codes, then many keys
/// and errors. Without `code-bound` each code has a series; without `log-limit` each error has a line.
#[test]
fn many_codes_keys_and_errors_add_few_series_and_log_lines() {
    const CODES: i64 = 200;
    fn check(count: i64, without: &'static str) -> Said {
        let cluster = Cluster::shared();
        let stub = Stub::start(|path, stream| reply(stream, &format!("{} No", &path[1..]), ""));
        let stage = format!(
            "[retries.once]\nmax_attempts = 1\n\n[STAGE]\nfrom = \"input\"\nto = \"output\"\ndlq = \"dead\"\n\
             retry = \"once\"\nbreaker.permanent.enabled = false\nbreaker.transient.enabled = false\n\n[[STAGE.steps]]\nwhen = \"value.number < {CODES}\"\n\
             http.url = \"{}/{{{{ value.number + 400 }}}}\"\n\n[[STAGE.steps]]\nwhen = \"value.number % 2 == 0\"\n\
             fail.code = \"even\"\nfail.message = \"{{{{ value.number }}}}\"\n",
            stub.url()
        );
        let bed = Bed::new(&cluster, 1, &stage, without);
        let mut engine = bed.start(&cluster);
        let mut series = Vec::new();
        for numbers in [0..CODES, CODES..count] {
            let end = numbers.end;
            let records: Vec<_> = numbers
                .map(|number| Message::json(format!("key-{number}"), &json!({"number": number})))
                .collect();
            cluster.produce(&bed.topic("input"), &records);
            wait_until("all are done", DEADLINE, || bed.committed(&cluster) == end);
            series.push(dead_letter_series(&engine));
        }
        assert_eq!(cluster.count(&bed.topic("dlq")), CODES + (count - CODES) / 2);
        assert!(engine.runs());
        let lines = engine.log().lines().count();
        Said { series: series[0], more_later: series[1] - series[0], brief: lines < CODES as usize + 100 }
    }
    assert_eq!(check(20_000, INTACT), Said { series: 65, more_later: 0, brief: true });
    #[cfg(debug_assertions)]
    {
        assert_eq!(check(CODES + 2, "code-bound"), Said { series: 200, more_later: 1, brief: true });
        assert_eq!(check(1_200, "log-limit"), Said { series: 65, more_later: 0, brief: false });
    }
}

fn dead_letter_series(engine: &Engine) -> usize {
    let text = engine.get("/metrics").map(|answer| answer.body).unwrap_or_default();
    text.lines().filter(|line| line.starts_with("biplane_stage_records_dead_lettered_total{")).count()
}
