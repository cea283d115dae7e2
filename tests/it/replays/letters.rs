//! Which dead letters are offered, and which are not any more.

use serde_json::json;

use super::scene::{Scene, errors, letter};
use crate::support::Message;

#[test]
fn filters_select_by_what_a_dead_letter_says_and_what_its_record_holds() {
    let scene = Scene::new();
    let mut letters: Vec<_> = (0..6).map(|number| letter(&scene, "good", "http-503", number)).collect();
    letters.extend((6..10).map(|number| letter(&scene, "good", "schema", number)));
    letters.push(Message { value: Some(b"no json".to_vec()), ..letter(&scene, "good", "json", 10) });
    letters.push(Message { value: Some(b"words".to_vec()), ..letter(&scene, "wordy", "schema", 11) });
    letters.push(Message::new("stranger", "{\"number\": 3}"));
    scene.cluster.produce(&scene.topic("dead"), &letters);

    for (expected, filters) in [
        (13, &[][..]),
        (11, &["--stage", "good"]),
        (12, &["--stage", "good", "--stage", "wordy"]),
        (6, &["--code", "http-5xx"]),
        (6, &["--code", "transient"]),
        (7, &["--code", "http-503", "--code", "json"]),
        (5, &["--fingerprint", "print-schema"]),
        (1, &["--key", "key-7"]),
        (2, &["--since", "2026-01-10T00:00:00Z", "--stage", "good", "--until", "2027-01-01T00:00:00Z"]),
        (1, &["--since", "1m"]),
        (2, &["--where", "value.number == 3"]),
        (1, &["--where", "value == 'words'"]),
        (4, &["--where", "error.code == 'schema' and value.number > 5"]),
        (2, &["--where", "topic is defined and partition == 1 and offset < 6"]),
        (1, &["--where", "headers.trace == 'trace-9'"]),
    ] {
        assert_eq!(scene.listed(filters), expected, "{filters:?}");
    }
    let output = scene.run(&["dlqs", "list", "--where", "value.number == 3"]);
    // The text of `wordy` is a value that has no number.
    assert!(errors(&output).contains("left out: 1 record whose value --where reads"), "{}", errors(&output));
    assert!(errors(&output).contains("left out: 1 record on which --where fails"), "{}", errors(&output));
    let output = scene.run(&["dlqs", "list", "--where", "eror.code == 'schema'"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("did you mean `error`?"), "{}", errors(&output));

    let shown = scene.json(&["dlqs", "show", "dead", "--key", "key-7"]);
    assert_eq!(shown["key"]["text"], "key-7");
    assert!(shown.get("state").is_none(), "{shown}");
}

#[test]
fn what_was_discarded_is_not_offered_any_more_and_all_shows_it_with_its_state() {
    let scene = Scene::new();
    let letters: Vec<_> = (0..10)
        .map(|number| letter(&scene, "good", if number < 4 { "schema" } else { "json" }, number))
        .collect();
    scene.cluster.produce(&scene.topic("dead"), &letters);

    let counted = scene.json(&["dlqs", "discard", "dead", "--code", "schema", "--dry-run"]);
    let groups = json!([{"stage": "good", "code": "schema", "count": 4}]);
    assert_eq!(counted, json!({"groups": groups, "count": 4, "discarded": false}));
    assert_eq!(scene.listed(&[]), 10, "a dry run changes nothing");
    let output = scene.run(&["dlqs", "discard", "dead"]);
    assert_eq!(output.status.code(), Some(2), "there is nobody to ask");
    assert_eq!(scene.listed(&[]), 10);

    let discarded = scene.json(&["dlqs", "discard", "dead", "--code", "schema", "--yes"]);
    assert_eq!(discarded, json!({"groups": groups, "count": 4, "discarded": true}));
    assert_eq!((scene.listed(&[]), scene.listed(&["--all"])), (6, 10));
    assert_eq!(scene.listed(&["--code", "schema"]), 0);
    let all = scene.json(&["dlqs", "list", "--all", "--code", "schema"]);
    assert_eq!(all[0]["state"], "discarded", "{all}");
    let output = scene.run(&["dlqs", "show", "dead", "--key", "key-1"]);
    assert_eq!(output.status.code(), Some(3), "{}", errors(&output));
    let shown = scene.json(&["dlqs", "show", "dead", "--key", "key-1", "--all"]);
    assert_eq!(shown["state"], "discarded");

    let other = scene.topic("other");
    assert_eq!(scene.sent(&["--dlq", "dead", "--to-topic", &other]), 6);
    let again = scene.json(&["dlqs", "discard", "dead", "--yes"]);
    assert_eq!(again["count"], 0, "what was replayed is not open: {again}");
    let all = scene.json(&["dlqs", "list", "--all"]);
    let states: Vec<_> = all.as_array().expect("a list").iter().map(|group| &group["state"]).collect();
    assert_eq!(states, ["replayed", "discarded"], "{all}");
}
