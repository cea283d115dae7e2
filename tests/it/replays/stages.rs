//! Replays to the stage that gave records up, while it runs.

use serde_json::json;

use super::scene::{DEADLINE, Scene};
use crate::support::{Engine, Message, wait_until};

/// Two stages read one topic; one of them fails for what is bad.
const CONFIG: &str = r#"
[topics.input]
topic      = "NAME.input"
partitions = 3

[topics.other]
topic = "NAME.other"

[topics.sibling]
topic = "NAME.sibling"

[dlqs.dead]
topic = "NAME.dead"

[stages.good]
from = "input"
to   = "other"
dlq  = "dead"
[[stages.good.steps]]
when = "value.bad"
fail = { code = "bad", message = "it is bad" }
[[stages.good.steps]]
set.offset = "{{ offset }}"
set.topic  = "{{ topic }}"

[stages.sibling]
from = "input"
to   = "sibling"
dlq  = "dead"
"#;

#[test]
fn what_a_stage_gave_up_comes_back_to_it_alone_as_if_it_had_never_left() {
    let scene = Scene::with(CONFIG);
    scene.cluster.create_topic(&scene.topic("sibling"), 3, &[]);
    let (input, other, dead) = (scene.topic("input"), scene.topic("other"), scene.topic("dead"));
    let record = |number: usize| {
        let value = json!({ "number": number, "bad": number < 20 });
        Message::json(format!("key-{number}"), &value).header("trace", format!("trace-{number}"))
    };
    scene.cluster.produce(&input, &(0..30).map(record).collect::<Vec<_>>());
    let variables = [("BIPLANE_NAMESPACE", &*scene.name)];
    let mut engine = Engine::start(&scene.root, scene.cluster.brokers(), &variables);
    wait_until("the bad ones are given up", DEADLINE, || scene.cluster.count(&dead) == 20);
    wait_until("the sibling has all", DEADLINE, || scene.cluster.count(&scene.topic("sibling")) == 30);

    // Not healed yet: they come back, fail again, and are given up a second time.
    assert_eq!(scene.sent(&["--dlq", "dead", "--where", "value.number < 5"]), 5);
    wait_until("they are given up again", DEADLINE, || scene.cluster.count(&dead) == 25);
    let again = scene.cluster.read_all(&dead);
    let again: Vec<_> =
        again.iter().filter(|letter| letter.header_text("biplane-replays") == Some("1")).collect();
    assert_eq!(again.len(), 5);
    for letter in again {
        assert_eq!(letter.header_text("biplane-topic"), Some(&*input), "the first place counts");
        assert_eq!(
            (letter.header_text("biplane-origin"), letter.header_text("biplane-stage")),
            (None, Some("good"))
        );
    }
    assert!(engine.terminate(DEADLINE).success());

    let healed = CONFIG.replace("NAME", &scene.name).replace("value.bad", "false");
    scene.root.write("pipelines/a.toml", &healed);
    let engine = Engine::start(&scene.root, scene.cluster.brokers(), &variables);
    assert_eq!(
        scene.sent(&["--dlq", "dead"]),
        20,
        "those that were replayed and failed are new dead letters"
    );
    wait_until("all is written", DEADLINE, || scene.cluster.count(&other) == 30);
    assert_eq!(scene.cluster.count(&scene.topic("sibling")), 30, "nobody else has seen them");
    let written = scene.cluster.read_all(&other);
    let mut ids: Vec<_> =
        written.iter().map(|message| message.header_text("biplane-id").expect("an id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 30);
    for message in &written {
        let (value, key) = (message.value_json(), message.key_text());
        assert_eq!((&value["topic"], message.header_text("biplane-origin")), (&json!(input), None), "{key}");
        let place = message.header_text("biplane-id").expect("an id");
        assert!(
            place.contains(&format!("good/{input}/")) && place.ends_with(&format!("/{}/0", value["offset"])),
            "{place}"
        );
        let trace = format!("trace-{}", value["number"]);
        assert_eq!(message.header_text("trace"), Some(&*trace));
    }
    wait_until("the cursor of the stage moves", DEADLINE, || {
        let topic = format!("{}.good.replay", scene.name);
        let committed = scene.cluster.committed(&format!("{}.good", scene.name), &topic);
        committed.values().map(|(offset, _)| offset).sum::<i64>() == 25
    });
    assert_eq!((scene.listed(&[]), scene.listed(&["--all"])), (0, 25));
    drop(engine);
}
