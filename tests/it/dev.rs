//! `biplane dev` on the cluster inside its process: no broker is needed, so nothing is skipped.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{ConfigRoot, Dev, Engine, Message, wait_until};

#[test]
fn the_samples_pass_fail_and_land_from_an_empty_folder_and_ctrl_c_leaves_only_the_data_folder() {
    let mut dev = Dev::start(&["--sample"]);
    let told = dev.wait_for("job connectors.sync ");
    assert!(told.contains("succeeded"), "{told}");
    wait_until("the samples are through, and what a job published", Duration::from_secs(60), || {
        let normalize = dev.stage("normalize");
        normalize["counts"]["in"].as_u64() > Some(40)
            && normalize["lag_records"] == 0
            && normalize["in_flight"] == 0
    });
    let normalize = dev.stage("normalize");
    let counts = &normalize["counts"];
    let sum: u64 =
        ["filtered", "dead_lettered", "dropped"].iter().filter_map(|name| counts[name].as_u64()).sum();
    let out = counts["out"].as_u64().expect("a count");
    assert!(out > 0 && sum > 0, "some pass and some do not: {counts}");
    assert!(counts["retried"].as_u64() > Some(0), "{counts}");

    let groups = dev.biplane(&["dlqs", "list"]);
    let groups = groups.as_array().expect("a list");
    let of = |stage: &str| {
        let counted = groups.iter().filter(|group| group["stage"] == stage);
        counted.filter_map(|group| group["count"].as_u64()).sum::<u64>()
    };
    assert_eq!(Some(of("normalize")), counts["dead_lettered"].as_u64(), "what was counted lies there");
    let poison = groups.iter().find(|group| group["code"] == "json").expect("malformed samples");
    let letter = dev.biplane(&["dlqs", "show", poison["dlq"].as_str().expect("a name")]);
    let headers = letter["headers"].as_array().expect("headers");
    assert!(headers.iter().any(|header| header[0] == "biplane-error-code"), "{headers:?}");

    let asked = Instant::now();
    let status = dev.interrupt(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    let left: Vec<_> = std::fs::read_dir(dev.folder()).expect("the folder").flatten().collect();
    assert_eq!(left.iter().map(|entry| entry.file_name()).collect::<Vec<_>>(), [".biplane"]);
}

#[test]
fn the_example_s_service_goes_down_and_up_and_what_it_cost_is_replayed() {
    let dev = Dev::start(&["--sample"]);
    let replayed = dev.wait_for("replayed ");
    assert!(replayed.contains("replayed 1 of"), "{replayed}");
    let said = dev.said();
    let told = [
        "screening is down",
        "`screening` is open",
        "screening is back",
        "`screening` is closed",
        "replayed 1",
    ];
    let places: Vec<_> =
        told.iter().map(|text| said.iter().position(|line| line.contains(text)).expect(text)).collect();
    assert!(places.is_sorted(), "{said:#?}");
    let enrich = dev.stage("enrich");
    let breaker = &enrich["breakers"][0];
    assert_eq!((&breaker["open"], &breaker["opened"]), (&json!(false), &json!(1)), "{enrich}");
    assert_eq!(enrich["failures"]["http-404"], 1, "{enrich}");
    assert!(enrich["failures"]["http-503"].as_u64() > Some(0), "{enrich}");

    // It was given up once and passes now; the outage itself cost no record.
    let settled = |enrich: &serde_json::Value| {
        let counts = &enrich["counts"];
        let count = |name: &str| counts[name].as_u64().unwrap_or_default();
        enrich["lag_records"] == 0 && count("in") == count("out") + count("dead_lettered") + count("dropped")
    };
    wait_until("the record passes", Duration::from_secs(60), || {
        let (normalize, enrich) = (dev.stage("normalize"), dev.stage("enrich"));
        enrich["counts"]["in"].as_u64() == normalize["counts"]["out"].as_u64().map(|out| out + 1)
            && settled(&enrich)
    });
    let given_up = dev.biplane(&["dlqs", "list", "--stage", "enrich"]);
    let codes: Vec<_> = given_up.as_array().expect("a list").iter().map(|group| &group["code"]).collect();
    assert_eq!(codes, ["lookup-missing"], "what was replayed is settled");
    assert_eq!(dev.stage("enrich")["counts"]["dead_lettered"], 2);
}

#[test]
fn a_config_that_does_not_check_never_starts() {
    let root = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(root.path().join("pipelines")).expect("a folder");
    let write = |text: &str| std::fs::write(root.path().join("pipelines/a.toml"), text).expect("a file");
    write("[stages.a]\nfrom = \"nowhere\"\n");
    let run =
        |command: &str| Engine::command(root.path(), &[command], &[("BIPLANE_KAFKA_BROKERS", "127.0.0.1:1")]);
    for command in ["run", "dev"] {
        let output = run(command);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains("pipelines/a.toml:2") && shown.contains("nowhere"), "{command}: {shown}");
    }
}

#[test]
fn what_is_missing_is_said_with_the_right_exit_code() {
    let root = tempfile::tempdir().expect("a folder");
    let code = |arguments: &[&str], root: &Path| {
        let output = Engine::command(root, arguments, &[("BIPLANE_LISTEN", "127.0.0.1:1")]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (exit, text) = code(&["run"], root.path());
    assert_eq!(exit, Some(1), "no config root is a finding of its own: {text}");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (exit, text) = code(&["run"], shipped);
    assert_eq!(exit, Some(2), "{text}");
    assert!(text.contains("BIPLANE_KAFKA_BROKERS"), "{text}");
    let (exit, text) = code(&["stages", "list"], root.path());
    assert_eq!(exit, Some(2), "{text}");
    assert!(text.contains("BIPLANE_KAFKA_BROKERS"), "{text}");
    let (exit, text) = code(&["dlqs", "list"], shipped);
    assert_eq!(exit, Some(2), "{text}");
}

#[test]
fn with_brokers_away_the_engine_lives_is_not_ready_and_ends_in_time_on_sigterm() {
    let root = ConfigRoot::example("away.");
    let mut engine = Engine::launch(&root, "127.0.0.1:1", &[("BIPLANE_LOG_FORMAT", "json")]);
    wait_until("it says that the brokers are away", Duration::from_secs(30), || {
        engine.get("/ready").is_some_and(|ready| ready.status == 503 && ready.body.contains("brokers"))
            && engine.get("/v1/status").is_some_and(|status| status.body.contains("unreachable"))
    });
    assert_eq!(engine.get("/live").map(|live| live.status), Some(200));
    let metrics = engine.get("/metrics").map(|metrics| metrics.body).unwrap_or_default();
    assert!(metrics.contains("biplane_stage_records_in_total{stage=\"normalize\"} 0"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");

    let asked = Instant::now();
    let status = engine.terminate(Duration::from_secs(20));
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(12), "within the stages' drain: {:?}", asked.elapsed());
    let log = engine.log();
    let event = log.lines().find(|line| line.contains("listening")).expect("an event");
    let event: serde_json::Value = serde_json::from_str(event).expect("one JSON object a line");
    assert_eq!(event["level"], "INFO", "{event}");
}

#[test]
fn a_partition_of_the_kafka_in_memory_is_warned_of_once_when_it_comes_near_its_limit_and_once_past_it() {
    let pipeline = "[topics.\"in\"]\npartitions = 2\n[topics.\"out\"]\n[dlqs.d]\n\
                    [stages.a]\nfrom = \"in\"\nto = \"out\"\ndlq = \"d\"\n[[stages.a.steps]]\nfilter = \"false\"\n";
    let dev = Dev::on(&[("pipelines/p.toml", pipeline)]);
    let value = json!({ "text": "x".repeat(10_000) });
    let write = |count: usize| {
        dev.cluster().produce("in", &vec![Message::json("k", &value).at(1); count]);
    };
    let warned = |what: &str| {
        let lines = dev.said();
        lines.iter().filter(|line| line.contains("`in[1]`") && line.contains(what)).count()
    };
    let seen = |count: u64| {
        wait_until("the stage has read them", Duration::from_secs(30), || {
            dev.stage("a")["counts"]["in"] == count
        });
    };
    write(300);
    seen(300);
    write(150);
    // One line on standard output and one in the log.
    wait_until("both warn", Duration::from_secs(30), || warned("4.0 of the 5 MiB") == 2);
    let line = dev.said().into_iter().find(|line| line.starts_with("warning: ")).expect("a line");
    assert!(line.starts_with("warning: `in[1]`: ") && line.contains("BIPLANE_KAFKA_BROKERS"), "{line}");
    assert_eq!(warned("the oldest records are gone"), 0);
    write(150);
    wait_until("both warn again", Duration::from_secs(30), || warned("the oldest records are gone") == 2);
    seen(600);
    assert_eq!(warned("4.0 of the 5 MiB"), 2);
    assert_eq!(dev.said().iter().filter(|line| line.contains("in[0]")).count(), 0);
}

const JOB: &str = r#"
[queues.work]

[jobs.greet]
queue = "work"

[[jobs.greet.steps]]
map.text = "hello {{ args.name }}"
"#;

/// A folder that everybody may enter, as a project's is.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), everybody).expect("a mode");
    let pipelines = folder.path().join("config/pipelines");
    std::fs::create_dir_all(&pipelines).expect("a folder");
    std::fs::write(pipelines.join("jobs.toml"), JOB).expect("a file");
    folder
}

#[test]
fn jobs_run_on_a_private_postgres_whose_data_outlives_a_restart() {
    let mut dev = Dev::in_folder(project(), &[]);
    let database = dev.says("postgres");
    let enqueue = |dev: &Dev, name: &str| {
        wait_until("jobs run", Duration::from_secs(60), || dev.status()["jobs"]["state"] == "running");
        let args = json!({ "name": name }).to_string();
        dev.biplane(&["jobs", "enqueue", "greet", "--args", &args, "--wait"])
    };
    assert_eq!(enqueue(&dev, "one")["state"], "succeeded");
    let asked = Instant::now();
    let status = dev.interrupt(Duration::from_secs(10));
    assert!(status.success(), "{status}");
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());

    let dev = Dev::in_folder(dev.into_folder(), &[]);
    assert_eq!(dev.says("postgres"), database, "one folder, one server");
    assert_eq!(enqueue(&dev, "two")["state"], "succeeded");
    let jobs = dev.biplane(&["jobs", "list", "--state", "succeeded"]);
    assert_eq!(jobs.as_array().map(Vec::len), Some(2), "{jobs}");
}

#[test]
fn a_private_postgres_ends_with_an_engine_that_is_killed() {
    let dev = Dev::in_folder(project(), &[]);
    let folder = dev.folder().join(".biplane");
    let of_version = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("postgres-");
    let server = std::fs::read_dir(&folder).expect("it").flatten().find(of_version).expect("its data").path();
    let lock = server.join("data/postmaster.pid");
    assert!(lock.is_file());
    let folder = dev.killed();
    wait_until("the server has ended", Duration::from_secs(30), || !lock.exists());
    let dev = Dev::in_folder(folder, &[]);
    assert!(dev.says("postgres").starts_with("postgres://"), "another starts on what it left");
}

#[test]
fn a_folder_without_programs_is_said() {
    let folder = project();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let named = [("BIPLANE_POSTGRES_BIN", empty.to_str().expect("UTF-8"))];
    let output = Engine::command(&folder.path().join("config"), &["dev", "--listen", "127.0.0.1:0"], &named);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("`initdb` is not there") && said.contains("BIPLANE_POSTGRES_BIN"), "{said}");
}
