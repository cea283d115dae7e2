//! The shape of a table, learnt by letting its reader read samples: what it asks for is what there is,
//! and what it refuses is not. So the code that parses is the only place that knows the language.
//!
//! Each run puts one value at one place and notes what the reader made of it; what it asked for beyond
//! that is tried next, until nothing new turns up. Pure; meant for the schema and for `explain`, not for
//! a check.

use std::collections::{HashSet, VecDeque};

use indexmap::IndexMap;
use toml::value::Datetime;

use super::ledger::{Asks, Kind, Ledger, Type};
use super::{Entry, NoSettings, Node, NodeValue, ReadContext, Table};
use crate::diag::{Diagnostics, Span};

/// What a table may hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shape {
    /// Its keys in the order of reading.
    pub keys: IndexMap<String, KeyShape>,
    /// What further keys, whose names are the user's own, may hold; `None`: there are none.
    pub rest: Option<KeyShape>,
}

/// What a key may hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KeyShape {
    /// Whether the table makes no sense without it.
    pub required: bool,
    /// Each way to write it.
    pub takes: Vec<Takes>,
}

/// One way to write a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Takes {
    /// What a getter takes.
    Kind(Kind),
    /// A value of a type, whatever it is.
    Type(Type),
    /// A table.
    Table(Shape),
    /// An array of tables.
    Tables(Shape),
}

/// Reads one sample; findings and what is read are of no interest.
pub type ReadSample<'r> = &'r dyn Fn(&Table, ReadContext<'_>);

/// Learns what `read` takes from tables that hold `base`, a key without which it would not read on.
pub fn explore(base: Option<&str>, read: ReadSample<'_>) -> Shape {
    let mut explorer =
        Explorer { base, read, tables: IndexMap::new(), queue: VecDeque::new(), tried: HashSet::new() };
    explorer.run(None);
    while let Some(probe) = explorer.queue.pop_front() {
        explorer.run(Some(&probe));
    }
    explorer.shape("")
}

/// A key that no language has.
const OTHER: &str = "\u{1a}";

const TYPES: [Type; 7] =
    [Type::String, Type::Integer, Type::Float, Type::Boolean, Type::Datetime, Type::Array, Type::Table];

/// A value of one type at one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Probe {
    path: String,
    key: String,
    value: Type,
}

struct Explorer<'r> {
    base: Option<&'r str>,
    read: ReadSample<'r>,
    tables: IndexMap<String, Known>,
    queue: VecDeque<Probe>,
    tried: HashSet<Probe>,
}

/// What is known about one table over all runs.
#[derive(Default)]
struct Known {
    runs: usize,
    keys: IndexMap<String, KnownKey>,
}

#[derive(Default)]
struct KnownKey {
    kinds: Vec<Kind>,
    /// In how many runs it had to be there.
    required: usize,
    /// The types that no getter looked at and nobody refused.
    taken: Vec<Type>,
}

impl Explorer<'_> {
    fn run(&mut self, probe: Option<&Probe>) {
        let (diagnostics, ledger) = (Diagnostics::default(), Ledger::default());
        let context = ReadContext::new(&diagnostics, &NoSettings).noting(Some(&ledger));
        (self.read)(&self.sample(probe), context);
        let tables = ledger.into_tables();
        if let Some(probe) = probe
            && let Some(asks) = tables.get(&probe.path)
            && is_taken(asks, probe)
        {
            let known = self.tables.entry(probe.path.clone()).or_default();
            known.keys.entry(probe.key.clone()).or_default().taken.push(probe.value);
        }
        for (path, asks) in tables {
            self.learn(&path, asks);
        }
    }

    fn learn(&mut self, path: &str, asks: Asks) {
        TYPES.into_iter().for_each(|value| self.plan(path, OTHER, value));
        let known = self.tables.entry(path.to_owned()).or_default();
        known.runs += 1;
        let mut probes = Vec::new();
        for (key, asked) in asks.keys {
            let own = known.keys.entry(key.clone()).or_default();
            own.required += usize::from(asked.required);
            if asked.kinds.is_empty() {
                // Required and missing: how it is read shows once it is there.
                probes.extend(TYPES.map(|value| (key.clone(), value)));
            }
            for kind in asked.kinds {
                match kind {
                    Kind::Any => probes.extend(TYPES.map(|value| (key.clone(), value))),
                    Kind::Table => probes.push((key.clone(), Type::Table)),
                    Kind::Tables => probes.push((key.clone(), Type::Array)),
                    // Its being there may change what else is asked for.
                    _ => probes.push((key.clone(), Type::String)),
                }
                if !own.kinds.contains(&kind) {
                    own.kinds.push(kind);
                }
            }
        }
        probes.into_iter().for_each(|(key, value)| self.plan(path, &key, value));
    }

    fn plan(&mut self, path: &str, key: &str, value: Type) {
        let probe = Probe { path: path.to_owned(), key: key.to_owned(), value };
        if self.tried.insert(probe.clone()) {
            self.queue.push_back(probe);
        }
    }

    /// The table of a run: what is probed inside the tables that lead to it, beside the base.
    fn sample(&self, probe: Option<&Probe>) -> Table {
        let mut entries = Vec::new();
        if let Some(probe) = probe {
            let mut value = sample(probe.value);
            let way = probe.path.split('/').chain([probe.key.as_str()]).filter(|part| !part.is_empty());
            for part in way.collect::<Vec<_>>().into_iter().rev() {
                value = match part.parse::<usize>() {
                    Ok(_) => NodeValue::Array(vec![node(value)]),
                    Err(_) => NodeValue::Table(table(vec![entry(part, value)])),
                };
            }
            if let NodeValue::Table(table) = value {
                entries = table.entries;
            }
        }
        if let Some(base) = self.base
            && entries.iter().all(|entry| entry.key != base)
        {
            entries.push(entry(base, NodeValue::Boolean(true)));
        }
        table(entries)
    }

    fn shape(&self, path: &str) -> Shape {
        let Some(known) = self.tables.get(path) else { return Shape::default() };
        let mut shape = Shape::default();
        for (key, own) in &known.keys {
            let mut takes = Vec::new();
            for kind in &own.kinds {
                match kind {
                    Kind::Any => {}
                    Kind::Table => takes.push(Takes::Table(self.shape(&format!("{path}/{key}")))),
                    Kind::Tables => takes.push(Takes::Tables(self.shape(&format!("{path}/{key}/0")))),
                    kind => takes.push(Takes::Kind(kind.clone())),
                }
            }
            let mut taken = own.taken.clone();
            taken.sort_unstable();
            takes.extend(taken.into_iter().map(Takes::Type));
            let key_shape = KeyShape { required: own.required == known.runs, takes };
            if key != OTHER {
                shape.keys.insert(key.clone(), key_shape);
            } else if !key_shape.takes.is_empty() {
                shape.rest = Some(key_shape);
            }
        }
        shape
    }
}

/// Whether a probe was taken by a reader that looks at the value itself, without a getter.
fn is_taken(asks: &Asks, probe: &Probe) -> bool {
    let Some(asked) = asks.keys.get(&probe.key) else { return !asks.closed };
    let looked_at = asked.kinds.iter().all(|kind| *kind == Kind::Any);
    let known = !(asks.closed && asked.kinds.is_empty());
    looked_at && known && !asked.refused.contains(&probe.value)
}

fn sample(value: Type) -> NodeValue {
    match value {
        Type::String => NodeValue::String("x".to_owned()),
        Type::Integer => NodeValue::Integer(1),
        Type::Float => NodeValue::Float(1.0),
        Type::Boolean => NodeValue::Boolean(true),
        Type::Datetime => NodeValue::Datetime(Datetime {
            date: Some(toml::value::Date { year: 2026, month: 1, day: 1 }),
            time: Some(toml::value::Time { hour: 0, minute: 0, second: Some(0), nanosecond: None }),
            offset: Some(toml::value::Offset::Z),
        }),
        Type::Array => NodeValue::Array(vec![node(NodeValue::Table(Table::default()))]),
        Type::Table => NodeValue::Table(Table::default()),
    }
}

fn table(entries: Vec<Entry>) -> Table {
    Table { span: Span::default(), entries }
}

fn entry(key: &str, value: NodeValue) -> Entry {
    Entry { key: key.to_owned(), key_span: Span::default(), node: node(value) }
}

fn node(value: NodeValue) -> Node {
    Node { span: Span::default(), value, content: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::TableReader;

    fn read_all(sample: &Table, context: ReadContext<'_>) {
        let mut table = TableReader::new(sample, "t", context);
        table.required("from", TableReader::names);
        table.word("order", &[("key", 1), ("none", 2)]);
        if let Some(node) = table.node("start") {
            match node.value {
                NodeValue::Datetime(_) => drop(table.datetime("start")),
                _ => drop(table.integer("start", 1..=9)),
            }
        }
        if let Some(mut window) = table.table("window") {
            window.size("bytes");
            window.finish();
        }
        if let Some(mut labels) = table.table("labels") {
            for entry in labels.rest() {
                labels.string(&entry.key);
            }
        }
        if table.text("url").is_none() {
            table.required("client", TableReader::name);
        }
        table.node("json");
        table.finish();
    }

    #[test]
    fn what_a_reader_asks_for_is_found_at_every_depth() {
        let shape = explore(None, &read_all);
        let keys: Vec<_> = shape.keys.keys().map(String::as_str).collect();
        assert_eq!(keys, ["from", "order", "start", "window", "labels", "url", "client", "json"]);
        assert!(shape.keys["from"].required && !shape.keys["order"].required);
        assert_eq!(shape.rest, None, "a finished table takes no other key");
        assert_eq!(
            shape.keys["start"].takes,
            [Takes::Kind(Kind::Integer(1, 9)), Takes::Kind(Kind::Datetime)]
        );
        let Takes::Table(window) = &shape.keys["window"].takes[0] else { panic!("{shape:?}") };
        assert_eq!(window.keys["bytes"].takes.len(), 1);
        let Takes::Table(labels) = &shape.keys["labels"].takes[0] else { panic!("{shape:?}") };
        assert_eq!(labels.rest.as_ref().unwrap().takes, [Takes::Kind(Kind::Setting)]);
        assert_eq!(shape.keys["json"].takes.len(), TYPES.len(), "looked at, and never refused");
    }

    #[test]
    fn the_base_is_there_in_every_run() {
        let shape = explore(Some("kind"), &|sample, context| {
            assert!(sample.get("kind").is_some());
            let mut table = TableReader::new(sample, "t", context);
            table.text("kind");
            table.finish();
        });
        assert_eq!(shape.keys["kind"].takes, [Takes::Kind(Kind::Text)]);
    }
}
