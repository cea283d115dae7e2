//! What becomes of records that fail, by a whole runner against the in-process cluster.

use super::tests::{World, stop};
use crate::base::Failure;

#[test]
fn a_dead_letter_keeps_the_id_that_its_record_came_with() {
    let world = World::new(|word, _| match word {
        "bad" => Err(Failure::permanent("bad", "as planned")),
        _ => Ok(()),
    });
    let before = [("biplane-id", &b"before/in/0/7/0"[..]), ("biplane-id", b"\xff"), ("mine", b"\x00")];
    world.produce_with(&[("a", "\"bad\"".to_owned()), ("a", "\"good\"".to_owned())], &before);
    let handle = world.start();
    let dead = world.read("dead", 1).remove(0);
    let out = world.read("out", 1).remove(0);
    stop(&handle);
    let bytes = |headers: &[(String, Vec<u8>)], wanted: &str| -> Vec<Vec<u8>> {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(bytes(&dead.all, "biplane-id"), [b"before/in/0/7/0".to_vec(), b"\xff".to_vec()]);
    assert_eq!(bytes(&dead.all, "mine"), [b"\x00"]);
    assert!(dead.headers["biplane-dlq-id"].starts_with("s/in/"), "{dead:?}");
    assert_eq!(bytes(&out.all, "biplane-id").len(), 1);
    assert!(out.headers["biplane-id"].starts_with("s/in/"), "{out:?}");
}
