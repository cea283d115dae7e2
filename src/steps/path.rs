//! Places inside a value, as `set`, `drop`, `rename`, `explode` and `into` name them: `a.b.c`.

use serde_json::{Map, Value as Json};

use crate::base::Failure;
use crate::diag::{Diagnostic, Diagnostics, codes};
use crate::spec::Spanned;

/// Names from the value's top to a field; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FieldPath(Vec<String>);

impl FieldPath {
    pub(super) fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Reads `a.b.c`; reports an empty name.
    pub(super) fn read(text: &Spanned<String>, diagnostics: &Diagnostics) -> Option<Self> {
        let names: Vec<_> = text.value.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            diagnostics.push(
                Diagnostic::new(&codes::VALUE_EMPTY, format!("`{}` is no path to a field", text.value))
                    .at(text.span, "a name is empty")
                    .help("names are joined by single dots: `customer.address`"),
            );
            return None;
        }
        if names.len() > 1 && names[0] == "value" {
            diagnostics.push(
                Diagnostic::new(
                    &codes::TEMPLATE_LOOKS_LIKE_PATH,
                    format!("`{}` begins with `value`, though paths of fields begin below it", text.value),
                )
                .at(text.span, "means the field `value`")
                .help(format!("write `{}`", names[1..].join("."))),
            );
        }
        Some(Self(names))
    }

    /// Whether it is a field of the value itself, which an object takes in any case.
    pub(super) fn is_top(&self) -> bool {
        self.0.len() == 1
    }

    /// What stands there.
    pub(super) fn get<'v>(&self, value: &'v Json) -> Option<&'v Json> {
        self.0.iter().try_fold(value, |value, name| value.as_object()?.get(name))
    }

    /// Whether [`FieldPath::set`] would find objects all the way.
    ///
    /// # Errors
    /// A permanent failure `not-an-object`.
    pub(super) fn check(&self, value: &Json) -> Result<(), Failure> {
        let mut value = value;
        for (depth, name) in self.0.iter().enumerate() {
            let Json::Object(map) = value else { return Err(self.not_an_object(depth)) };
            match map.get(name) {
                Some(inner) => value = inner,
                None => return Ok(()),
            }
        }
        Ok(())
    }

    /// Puts `new` there; objects on the way are made.
    ///
    /// # Errors
    /// A permanent failure `not-an-object` where something else stands in the way; nothing is changed
    /// then.
    pub(super) fn set(&self, value: &mut Json, new: Json) -> Result<(), Failure> {
        self.check(value)?;
        let Some((last, parents)) = self.0.split_last() else { return Ok(()) };
        let mut place = value;
        for (depth, name) in parents.iter().enumerate() {
            let Json::Object(map) = place else { return Err(self.not_an_object(depth)) };
            place = map.entry(name.as_str()).or_insert_with(|| Json::Object(Map::new()));
        }
        let Json::Object(map) = place else { return Err(self.not_an_object(parents.len())) };
        map.insert(last.clone(), new);
        Ok(())
    }

    /// Takes what stands there out; the order of what is left stays.
    pub(super) fn remove(&self, value: &mut Json) -> Option<Json> {
        let (last, parents) = self.0.split_last()?;
        let parent = parents.iter().try_fold(value, |value, name| value.as_object_mut()?.get_mut(name))?;
        parent.as_object_mut()?.shift_remove(last)
    }

    fn not_an_object(&self, depth: usize) -> Failure {
        let place =
            if depth == 0 { "the value".to_owned() } else { format!("`{}`", self.0[..depth].join(".")) };
        Failure::permanent(
            "not-an-object",
            format!("{place} is no object, so `{}` cannot be set", self.0.join(".")),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(text: &str) -> FieldPath {
        FieldPath::new(text.split('.').map(str::to_owned).collect())
    }

    #[test]
    fn objects_on_the_way_are_made_and_other_values_are_not_overwritten() {
        let mut value = json!({"a": {"b": 1}, "s": "text"});
        path("a.c.d").set(&mut value, json!(2)).unwrap();
        assert_eq!(value, json!({"a": {"b": 1, "c": {"d": 2}}, "s": "text"}));
        let before = value.clone();
        assert_eq!(path("s.x.y").set(&mut value, json!(3)).unwrap_err().code, "not-an-object");
        assert_eq!(value, before);
        assert_eq!(path("a.b").remove(&mut value), Some(json!(1)));
        assert_eq!(path("a.nothing").remove(&mut value), None);
    }
}
