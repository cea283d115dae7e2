//! What expressions see of an item. Nothing is decoded here: see [`decode_for`].

use std::sync::OnceLock;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value as Json;

use crate::base::Failure;
use crate::expr::{Found, Root, RootSet, Scope};
use crate::record::{HeaderChange, Item};

/// Decodes the item's value if an expression that reads `reads` is about to look at it.
///
/// # Errors
/// The codec's poison failure.
pub fn decode_for(item: &mut Item<'_>, reads: RootSet) -> Result<(), Failure> {
    if reads.contains(Root::Value) { item.decode() } else { Ok(()) }
}

/// An item and the environment, as expressions see them. A key or header that is not UTF-8 is an
/// error only for the expression that touches it.
pub struct ItemScope<'a> {
    item: &'a Item<'a>,
    env: &'a Json,
    timestamp: OnceLock<String>,
}

impl<'a> ItemScope<'a> {
    /// The scope of `item`.
    pub fn new(item: &'a Item<'a>, env: &'a Json) -> Self {
        Self { item, env, timestamp: OnceLock::new() }
    }

    fn timestamp(&self) -> Found<'_> {
        match self.item.raw.timestamp.and_then(DateTime::<Utc>::from_timestamp_millis) {
            None => Found::Null,
            Some(time) => {
                Found::Text(self.timestamp.get_or_init(|| time.to_rfc3339_opts(SecondsFormat::Millis, true)))
            }
        }
    }

    /// The last value under `name` once the item's own changes are made: the outer `None` means no
    /// such header.
    fn header(&self, name: &str) -> Option<Option<&[u8]>> {
        for change in self.item.header_changes().iter().rev() {
            match change {
                HeaderChange::Set(set, value) if &**set == name => return Some(value.as_deref()),
                HeaderChange::Remove(removed) if &**removed == name => return None,
                HeaderChange::Set(..) | HeaderChange::Remove(_) => {}
            }
        }
        self.item.raw.headers.last(name)
    }
}

impl Scope for ItemScope<'_> {
    fn root(&self, root: Root) -> Result<Option<Found<'_>>, Failure> {
        let raw = &self.item.raw;
        Ok(match root {
            Root::Value => self.item.peek().map(Found::Json),
            Root::Key => Some(match raw.key {
                None => Found::Null,
                Some(bytes) => Found::Text(
                    std::str::from_utf8(bytes)
                        .map_err(|_| Failure::poison("key-not-text", "the record's key is not UTF-8 text"))?,
                ),
            }),
            Root::Topic => Some(Found::Text(raw.topic)),
            Root::Partition => Some(Found::Integer(raw.partition.into())),
            Root::Offset => Some(Found::Integer(raw.offset)),
            Root::Timestamp => Some(self.timestamp()),
            Root::Env => Some(Found::Json(self.env)),
            Root::Args => self.item.job.map(|job| Found::Json(&job.args)),
            Root::Job => self.item.job.map(|job| Found::Json(&job.job)),
            Root::FireAt => self.item.job.map(|job| Found::Text(&job.fire_at)),
            Root::Window => self.item.job.map(|job| Found::Json(&job.window)),
            Root::Headers | Root::Steps | Root::Error | Root::Item => None,
        })
    }

    fn named(&self, root: Root, name: &str) -> Result<Option<Found<'_>>, Failure> {
        match root {
            Root::Steps => Ok(self.item.result(name).map(Found::Json)),
            Root::Headers => match self.header(name) {
                None => Ok(None),
                Some(None) => Ok(Some(Found::Null)),
                Some(Some(bytes)) => match std::str::from_utf8(bytes) {
                    Ok(text) => Ok(Some(Found::Text(text))),
                    Err(_) => Err(Failure::poison(
                        "header-not-text",
                        format!("the header `{name}` is not UTF-8 text"),
                    )),
                },
            },
            _ => Ok(None),
        }
    }

    fn names(&self, root: Root) -> Vec<String> {
        match root {
            Root::Steps => self.item.results().iter().map(|(name, _)| name.to_string()).collect(),
            Root::Headers => self.header_names(),
            _ => Vec::new(),
        }
    }
}

/// The same, beside one of the items of a list.
pub(super) struct EachScope<'a> {
    pub(super) outer: &'a ItemScope<'a>,
    pub(super) item: &'a Json,
}

impl Scope for EachScope<'_> {
    fn root(&self, root: Root) -> Result<Option<Found<'_>>, Failure> {
        if root == Root::Item { Ok(Some(Found::Json(self.item))) } else { self.outer.root(root) }
    }

    fn named(&self, root: Root, name: &str) -> Result<Option<Found<'_>>, Failure> {
        self.outer.named(root, name)
    }

    fn names(&self, root: Root) -> Vec<String> {
        self.outer.names(root)
    }
}

impl ItemScope<'_> {
    fn header_names(&self) -> Vec<String> {
        let headers = self.item.raw.headers;
        let mut names: Vec<String> = Vec::new();
        let raw = (0..headers.len()).map(|index| headers.get(index).0);
        let set = self.item.header_changes().iter().filter_map(|change| match change {
            HeaderChange::Set(name, _) => Some(&**name),
            HeaderChange::Remove(_) => None,
        });
        for name in raw.chain(set) {
            if self.header(name).is_some() && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::expr::Expression;
    use crate::record::{JsonCodec, RawRecord};

    static HEADERS: [(&str, Option<&[u8]>); 5] = [
        ("a", Some(b"1")),
        ("a", Some(b"2")),
        ("null", None),
        ("bytes", Some(b"\xff")),
        ("gone", Some(b"x")),
    ];

    fn item() -> Item<'static> {
        let raw = RawRecord {
            topic: "orders",
            partition: 3,
            offset: 9,
            timestamp: Some(1_767_225_600_123),
            log_append: false,
            key: Some(b"\xff\xfe"),
            value: Some(b"{\"a\": 1}"),
            headers: &HEADERS,
        };
        let mut item = Item::new(raw, &JsonCodec, 1);
        item.change_header(HeaderChange::Set("new".into(), Some(b"n".to_vec())));
        item.change_header(HeaderChange::Remove("gone".into()));
        item
    }

    fn eval(source: &str) -> Result<Json, String> {
        let expression = Expression::compile(source, RootSet::RECORD).unwrap();
        let mut item = item();
        decode_for(&mut item, expression.reads()).unwrap();
        let env = json!({"e": 1});
        let scope = ItemScope::new(&item, &env);
        expression.eval(&scope).map(|value| value.into_owned()).map_err(|failure| failure.code.into_owned())
    }

    #[test]
    fn each_root_is_what_the_documentation_says() {
        for (source, expected) in [
            ("value.a", json!(1)),
            ("topic ~ '/' ~ partition ~ '/' ~ offset", json!("orders/3/9")),
            ("timestamp", json!("2026-01-01T00:00:00.123Z")),
            ("env.e", json!(1)),
            ("headers.a", json!("2")),
            ("headers.null", json!(null)),
            ("headers.new", json!("n")),
            ("headers.gone is defined", json!(false)),
        ] {
            assert_eq!(eval(source), Ok(expected), "{source}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_fail_only_what_touches_them() {
        assert_eq!(eval("key"), Err("key-not-text".to_owned()));
        assert_eq!(eval("key | default('x')"), Err("key-not-text".to_owned()));
        assert_eq!(eval("headers.bytes"), Err("header-not-text".to_owned()));
        assert_eq!(eval("headers.bytes is defined"), Err("header-not-text".to_owned()));
        assert_eq!(eval("headers.a == '2'"), Ok(json!(true)));
    }
}
