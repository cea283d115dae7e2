//! Replays at work: what is sent, how fast, how often, and what a kill or a cancel leaves.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::scene::{DEADLINE, Scene, errors, letter};
use crate::support::{Engine, Message, wait_until};

/// How often each value of `number` lies in a topic.
fn numbers(scene: &Scene, topic: &str) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for message in scene.cluster.read_all(topic) {
        *found.entry(message.value_json()["number"].as_u64().expect("a number")).or_default() += 1;
    }
    found
}

/// The only replay of the namespace.
fn only(scene: &Scene) -> Json {
    let all = scene.json(&["replays", "list"]);
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    all[0].clone()
}

fn fill_input(scene: &Scene, count: i64) -> String {
    let input = scene.topic("input");
    let records: Vec<_> =
        (0..count).map(|number| Message::json(format!("key-{number}"), &json!({"number": number}))).collect();
    scene.cluster.produce(&input, &records);
    input
}

#[test]
fn to_a_topic_goes_the_original_without_what_dead_lettering_added_and_only_once() {
    let scene = Scene::new();
    let letters: Vec<_> = (0..20).map(|number| letter(&scene, "good", "schema", number)).collect();
    scene.cluster.produce(&scene.topic("dead"), &letters);
    let other = scene.topic("other");

    let preview = scene.json(&["replays", "start", "--dlq", "dead", "--to-topic", &other, "--dry-run"]);
    assert_eq!(preview["groups"], json!([{"stage": "good", "code": "schema", "count": 20}]));
    assert_eq!((preview["first"].as_array().map(Vec::len), scene.cluster.count(&other)), (Some(5), 0));
    assert_eq!(scene.json(&["replays", "list"]), json!([]), "a dry run leaves nothing");

    assert_eq!(scene.sent(&["--dlq", "dead", "--to-topic", "other", "--where", "value.number < 15"]), 15);
    let sent = scene.cluster.read_all(&other);
    let mut keys: Vec<_> = sent.iter().map(|message| message.key_text().to_owned()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((sent.len(), keys.len()), (15, 15));
    for message in &sent {
        let number = message.value_json()["number"].as_u64().expect("a number");
        let headers = [
            ("trace", format!("trace-{number}")),
            ("biplane-id", format!("before/{number}")),
            ("biplane-replays", "1".to_owned()),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.into_bytes())));
        assert_eq!(message.headers, headers);
        assert_eq!(message.timestamp, Some(1_767_139_200_000), "the original's time");
    }

    assert_eq!(scene.sent(&["--dlq", "dead", "--to-topic", &other]), 5, "what was replayed is left out");
    assert_eq!(scene.sent(&["--dlq", "dead", "--to-topic", &other, "--all", "--key", "key-3"]), 1);
    let all = scene.json(&["replays", "list"]);
    let states: Vec<_> = all.as_array().expect("a list").iter().map(|replay| &replay["state"]).collect();
    assert_eq!(states, ["done", "done", "done"], "{all}");
    let shown = scene.json(&["replays", "show", all[0]["id"].as_str().expect("an id")]);
    assert_eq!(
        (&shown["counts"]["sent"], &shown["counts"]["unselected"]),
        (&15.into(), &5.into()),
        "{shown}"
    );
}

#[test]
fn a_record_is_sent_again_only_so_often() {
    let scene = Scene::new();
    let mut letters: Vec<_> = (0..3).map(|number| letter(&scene, "good", "schema", number)).collect();
    let replayed = |message: &mut Message, times: &str| {
        let header = message.headers.iter_mut().find(|(name, _)| name == "biplane-replays");
        header.expect("the header").1 = Some(times.as_bytes().to_vec());
    };
    replayed(&mut letters[1], "2");
    replayed(&mut letters[2], "3");
    letters.push(letter(&scene, "good", "schema", 3).header("biplane-truncated", "9999999"));
    scene.cluster.produce(&scene.topic("dead"), &letters);
    let other = scene.topic("other");
    let output = scene.run(&["replays", "start", "--dlq", "dead", "--to-topic", &other, "--yes"]);
    assert_eq!(output.status.code(), Some(1), "something was left: {}", errors(&output));
    let told = errors(&output);
    assert!(told.contains("left out: 1 record sent again as often as `--max-replays` allows"), "{told}");
    assert!(told.contains("left out: 1 record cut when they were dead-lettered"), "{told}");
    assert_eq!(numbers(&scene, &other).into_keys().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(
        scene.sent(&["--dlq", "dead", "--to-topic", &other, "--max-replays", "4", "--key", "key-2"]),
        1
    );
    let sent = scene.cluster.read_all(&other);
    let times = sent.iter().find(|message| message.key_text() == "key-2");
    assert_eq!(times.and_then(|message| message.header_text("biplane-replays")), Some("4"));
}

#[test]
fn any_topic_can_be_sent_again_by_offsets_and_a_rate_is_kept() {
    let scene = Scene::new();
    let input = fill_input(&scene, 300);
    let other = scene.topic("other");
    let output = scene.run(&["replays", "start", "--topic", "input", "--yes"]);
    let told = errors(&output);
    assert!(output.status.code() == Some(2) && told.contains("`--to-stage good`"), "{told}");
    let output = scene.run(&["replays", "start", "--topic", &scene.topic("dead"), "--to-topic", &other]);
    assert!(errors(&output).contains("say `--dlq dead`"), "{}", errors(&output));

    let nowhere = scene.topic("nowhere");
    let output = scene.run(&["replays", "start", "--topic", "input", "--to-topic", &nowhere, "--yes"]);
    assert!(output.status.code() == Some(3) && errors(&output).contains(&nowhere), "{}", errors(&output));
    assert_eq!(scene.json(&["replays", "list"]), json!([]), "what has nowhere to go is no replay");

    let some = ["--partition", "1", "--from-offset", "5", "--to-offset", "25"];
    let sent = scene.sent(&[&["--topic", "input", "--to-topic", &other], &some[..]].concat());
    assert_eq!(sent, 20);
    let first = scene.cluster.read_all(&input).into_iter().filter(|message| message.partition == 1);
    let sorted = |messages: &mut dyn Iterator<Item = Message>| {
        let mut values: Vec<_> = messages.map(|message| message.value).collect();
        values.sort();
        values
    };
    let sent = scene.cluster.read_all(&other);
    assert_eq!(sorted(&mut sent.into_iter()), sorted(&mut first.skip(5).take(20)));

    let started = Instant::now();
    let sent = scene.sent(&[
        "--topic",
        "input",
        "--to-topic",
        &other,
        "--rate",
        "100/s",
        "--where",
        "value.number < 150",
    ]);
    assert_eq!(sent, 150);
    let took = started.elapsed();
    // 150 at 100 a second, of which a tenth of a second may be made up for.
    assert!(took >= Duration::from_millis(1_350) && took < Duration::from_secs(15), "{took:?}");
}

/// Kills a replay midway and resumes it: how often each record was sent, and how many were sent twice.
fn killed_and_resumed(without: &str) -> usize {
    const COUNT: i64 = 1_000;
    let scene = Scene::new();
    fill_input(&scene, COUNT);
    let other = scene.topic("other");
    let variables = [&scene.variables()[..], &[("BIPLANE_TEST_WITHOUT", without)]].concat();
    let arguments =
        ["replays", "start", "--topic", "input", "--to-topic", &other, "--rate", "250/s", "--yes"];
    let mut first = Engine::begin(scene.root.path(), &arguments, &variables);
    wait_until("most of it is sent", DEADLINE, || scene.cluster.count(&other) >= 700);
    first.kill().expect("it runs");
    first.wait().expect("it has ended");
    let before = scene.cluster.count(&other);
    assert!(before < COUNT, "it was killed too late: {before}");

    let replay = only(&scene);
    assert_eq!(replay["state"], "running", "nobody has ended it: {replay}");
    let ended = scene.json(&["replays", "resume", replay["id"].as_str().expect("an id")]);
    assert_eq!((&ended["state"], &ended["counts"]["sent"]), (&json!("done"), &json!(COUNT)), "{ended}");
    let sent = numbers(&scene, &other);
    assert_eq!(sent.len(), usize::try_from(COUNT).expect("it fits"), "each record was sent");
    sent.values().map(|times| times - 1).sum()
}

/// Without the cursor it begins anew.
#[test]
fn a_replay_that_was_killed_goes_on_at_its_cursor() {
    // What was sent within a second and the slack of the rate, and what the kill took to arrive.
    const MOST: usize = 400;
    let repeated = killed_and_resumed("");
    assert!(repeated <= MOST, "{repeated} were sent twice");
    #[cfg(debug_assertions)]
    {
        let repeated = killed_and_resumed("replay-cursor");
        assert!(repeated > MOST, "{repeated} were sent twice without a cursor");
    }
}

#[test]
fn dead_letters_of_a_replay_that_was_killed_are_each_sent_and_settled() {
    let scene = Scene::new();
    let letters: Vec<_> = (0..900).map(|number| letter(&scene, "good", "schema", number)).collect();
    scene.cluster.produce(&scene.topic("dead"), &letters);
    let other = scene.topic("other");
    let arguments = ["replays", "start", "--dlq", "dead", "--to-topic", &other, "--rate", "200/s", "--yes"];
    let mut first = Engine::begin(scene.root.path(), &arguments, &scene.variables());
    wait_until("half of it is sent", DEADLINE, || scene.cluster.count(&other) >= 450);
    first.kill().expect("it runs");
    first.wait().expect("it has ended");
    // A new one leaves out what the killed one has settled, and takes the rest.
    let sent = scene.sent(&["--dlq", "dead", "--to-topic", &other]);
    let found = numbers(&scene, &other);
    assert_eq!(found.len(), 900);
    let repeated: usize = found.values().map(|times| times - 1).sum();
    assert!(sent < 900 && repeated <= 350, "{sent} were sent, {repeated} of them again");
    assert_eq!((scene.listed(&[]), scene.listed(&["--all"])), (0, 900));
}

fn end_of(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("it has ended");
    (output.status.code(), errors(&output))
}

#[test]
fn a_replay_is_cancelled_from_elsewhere_and_two_never_work_on_one() {
    let scene = Scene::new();
    fill_input(&scene, 1_000);
    let other = scene.topic("other");
    let arguments = ["replays", "start", "--topic", "input", "--to-topic", &other, "--rate", "50/s", "--yes"];
    let first = Engine::begin(scene.root.path(), &arguments, &scene.variables());
    wait_until("some of it is sent", DEADLINE, || scene.cluster.count(&other) >= 20);
    let replay = only(&scene);
    let id = replay["id"].as_str().expect("an id");
    assert_eq!(replay["state"], "running", "{replay}");

    let second = scene.run(&["replays", "resume", id]);
    assert_eq!(second.status.code(), Some(3), "{}", errors(&second));
    assert!(errors(&second).contains("another command works on the replay"), "{}", errors(&second));

    let started = Instant::now();
    assert!(scene.run(&["replays", "cancel", id]).status.success());
    let (code, told) = end_of(first);
    assert!(started.elapsed() < Duration::from_secs(5), "it took {:?}", started.elapsed());
    assert!(code == Some(3) && told.contains("the replay was cancelled by"), "{code:?}: {told}");
    let shown = scene.json(&["replays", "show", id]);
    assert_eq!(shown["state"], "cancelled", "{shown}");
    assert_eq!(shown["counts"]["sent"], json!(scene.cluster.count(&other)), "{shown}");
    let output = scene.run(&["replays", "resume", id]);
    assert!(output.status.code() == Some(2) && errors(&output).contains("has ended"), "{}", errors(&output));
    let output = scene.run(&["replays", "show", "none"]);
    assert!(output.status.code() == Some(2) && errors(&output).contains("there is no replay `none`"));
}

#[test]
fn dead_letters_of_a_stage_that_is_gone_stay_and_say_so() {
    let scene = Scene::new();
    let letters = ["good", "old", "old"].into_iter().enumerate();
    let letters: Vec<_> =
        letters.map(|(number, stage)| letter(&scene, stage, "schema", number as i64)).collect();
    scene.cluster.produce(&scene.topic("dead"), &letters);
    let output = scene.run(&["replays", "start", "--dlq", "dead", "--yes"]);
    let told = errors(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("2 records of stages that are not in the files"), "{told}");
    assert!(told.contains("not in the files: `old`"), "{told}");
    assert_eq!(scene.listed(&[]), 2, "these are still open");
    // To the stage goes what it takes for the original: its partition, and where it came from.
    let sent = scene.cluster.read_all(&format!("{}.good.replay", scene.name));
    assert_eq!((sent.len(), sent[0].partition), (1, 0));
    let origin = format!("{}/0/0/1767139200000", scene.topic("input"));
    assert_eq!(sent[0].header_text("biplane-origin"), Some(&*origin));
    assert_eq!(scene.sent(&["--dlq", "dead", "--to-stage", "good"]), 2);
    let sent = scene.cluster.read_all(&format!("{}.good.replay", scene.name));
    assert_eq!(sent.iter().map(|message| message.partition).collect::<Vec<_>>(), [0, 1, 2]);
}
