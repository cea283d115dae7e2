//! `was` and `[removed]`: names that were given up, against those that are there.

use std::collections::HashMap;

use super::scene::Scene;
use crate::diag::{Diagnostic, Span, codes};
use crate::spec::Spanned;

/// A table that had another name before.
#[derive(Debug)]
pub(super) struct Rename {
    pub(super) section: &'static str,
    pub(super) noun: &'static str,
    pub(super) name: String,
    pub(super) was: Spanned<String>,
    /// What the topic was called on the broker before, where it is called otherwise now.
    pub(super) lost: Option<String>,
}

/// Judges them all.
pub(super) fn check(scene: &Scene<'_>) {
    let mut seen: HashMap<(&str, &str), Span> = HashMap::new();
    for rename in &scene.renames {
        let Rename { section, noun, name, was, lost } = rename;
        if let Some(place) = place(scene, section, &was.value) {
            still_defined(scene, rename, place);
        } else if let Some(first) = seen.insert((section, &was.value), was.span) {
            scene.report(
                Diagnostic::new(
                    &codes::WAS_DUPLICATE,
                    format!("{noun} `{name}` and another were both named `{}` before", was.value),
                )
                .at(was.span, "the second")
                .also(first, "the first")
                .help("keep `was` where the state shall go on"),
            );
        } else if let Some(lost) = lost {
            scene.report(
                Diagnostic::new(
                    &codes::WAS_TOPIC,
                    format!("{noun} `{name}` becomes a new, empty topic on the broker"),
                )
                .at(was.span, format!("the records of `{lost}` stay there and are not read"))
                .help(format!("keep the topic: topic = \"{lost}\"")),
            );
        }
    }
    check_removed(scene);
}

fn still_defined(scene: &Scene<'_>, rename: &Rename, place: Span) {
    let Rename { noun, name, was, .. } = rename;
    let message = if *name == was.value {
        format!("{noun} `{name}` was never named otherwise")
    } else {
        format!("{noun} `{name}` was named `{}` before, which is still defined", was.value)
    };
    scene.report(
        Diagnostic::new(&codes::WAS_DEFINED, message)
            .at(was.span, "names what is there")
            .also(place, "is defined here")
            .help("remove `was`, or what has the old name"),
    );
}

fn check_removed(scene: &Scene<'_>) {
    for (section, name) in &scene.sections.removed {
        let renamed =
            scene.renames.iter().find(|rename| rename.section == *section && rename.was.value == name.value);
        let there = place(scene, section, &name.value).map(|place| (place, "is defined here"));
        let there = there.or(renamed.map(|rename| (rename.was.span, "goes on under another name")));
        if let Some((place, label)) = there {
            scene.report(
                Diagnostic::new(
                    &codes::REMOVED_DEFINED,
                    format!("`removed` names `{}` of `{section}`, which is still there", name.value),
                )
                .at(name.span, "said to be gone")
                .also(place, label)
                .help("take it out of `removed`"),
            );
        }
    }
}

fn place(scene: &Scene<'_>, section: &str, name: &str) -> Option<Span> {
    let definitions = scene.sections.named(section)?;
    definitions.get(name).map(|definition| definition.name_span)
}
