//! What a stage does to one record: steps, then routing to outputs, as bytes ready to send.
//!
//! Pure but for what steps ask of the world. Nothing is sent here: all outputs of a record are
//! prepared before the first is handed over. A program never changes; a new generation is a new one,
//! and a record in flight ends on its own.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::base::Failure;
use crate::catalog::{Output, Stage, Unmatched};
use crate::expr::{Expression, Root, RootSet};
use crate::record::{Codec, HeaderChange, Item, JsonCodec, RawRecord};
use crate::steps::ports::{Effects, StageOffsets};
use crate::steps::{Chain, ItemScope, MAX_BYTES, OpenError, Pause, Ports, decode_for};
use crate::telemetry::StageMetrics;
use crate::telemetry::traces::StageTracer;

/// The header in which a stage of a loop counts how often a record passed it.
const HOPS: &str = "biplane-hops-";

/// A stage ready to work.
pub(super) struct Program {
    /// The stage as checked.
    pub(super) stage: Arc<Stage>,
    /// A short digest of the catalog it comes from.
    pub(super) generation: Arc<str>,
    /// The consumer group that reads for it.
    pub(super) group: Arc<str>,
    /// Makes the spans of its records, where spans are made.
    pub(super) tracer: Option<StageTracer>,
    /// Where the stage stands, and its effects happen, where that is a database.
    pub(super) offsets: Option<Arc<dyn StageOffsets>>,
    chain: Chain,
    hops: Option<(Arc<str>, u32)>,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("generation", &self.generation).finish_non_exhaustive()
    }
}

/// Where one prepared record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// To the output of that index.
    Output(usize),
    /// To the stage's DLQ.
    DeadLetter,
    /// To where the marks of the record's partition lie.
    Mark,
    /// To the parking topic of the record's input.
    Parked,
}

/// A key or value of what is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The input's bytes (null stays null).
    Input,
    /// Null.
    Null,
    /// Bytes in the batch.
    Bytes(Range<usize>),
}

/// One record to send.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// Where it goes.
    pub(super) target: Target,
    /// Its key.
    pub(super) key: Part,
    /// Its value.
    pub(super) value: Part,
    /// What changes against the input's headers, oldest first.
    pub(super) headers: Vec<HeaderChange>,
}

/// All that one input record becomes; reused from record to record.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What [`Part::Bytes`] points into.
    pub(super) bytes: Vec<u8>,
    /// In the order in which they are sent.
    pub(super) outputs: Vec<Prepared>,
    /// The bytes that outputs have beside `bytes`, where one record becomes many.
    repeated: usize,
    /// The program that prepared it, where another may be in force by the time it is sent.
    pub(super) program: Option<Arc<Program>>,
    /// How many parts of the record no output took, where the stage lets these go.
    pub(super) untaken: u64,
    /// What the record changes in the database that the stage writes.
    pub(super) effects: Effects,
}

impl Batch {
    /// Empties it and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.outputs.clear();
        self.repeated = 0;
        self.untaken = 0;
        self.effects.clear();
        self.program = None;
    }

    /// Adds up what the outputs from `first` on will take, which all repeat the input's key and headers.
    fn weigh(&mut self, first: usize, raw: &RawRecord<'_>) -> Result<(), Failure> {
        let input = raw.size() - raw.value.map_or(0, <[u8]>::len);
        for prepared in &self.outputs[first..] {
            let set = |change: &HeaderChange| match change {
                HeaderChange::Set(_, Some(value)) => value.len(),
                HeaderChange::Set(_, None) | HeaderChange::Remove(_) => 0,
            };
            self.repeated += input + prepared.headers.iter().map(set).sum::<usize>();
        }
        if self.bytes.len() + self.repeated > MAX_BYTES {
            let message = format!("the record's outputs have more than {MAX_BYTES} bytes together");
            return Err(Failure::permanent("explode-too-large", message));
        }
        Ok(())
    }

    /// The bytes of `part`, given those of the input.
    pub(super) fn part<'a>(&'a self, part: &Part, input: Option<&'a [u8]>) -> Option<&'a [u8]> {
        match part {
            Part::Input => input,
            Part::Null => None,
            Part::Bytes(range) => self.bytes.get(range.clone()),
        }
    }
}

/// How the steps ended for a record that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Send what the batch holds; it may be empty where the stage has no outputs.
    Send,
    /// A step or a setting filtered it out.
    Filtered,
    /// No output took it, and the stage lets such records go.
    Unmatched,
}

impl Program {
    /// Opens the steps of `stage`.
    pub(super) fn open(stage: Arc<Stage>, generation: &str, ports: &Ports) -> Result<Self, OpenError> {
        let chain = Chain::open(&stage.steps, Arc::clone(&stage.env), ports)?
            .ending_in_json(stage.outputs.iter().all(only_encodes_json));
        let hops = stage.max_hops.map(|most| (Arc::from(format!("{HOPS}{}", stage.name)), most));
        let group = Arc::clone(&stage.name);
        let offsets = offsets(&stage, ports)?;
        Ok(Self { stage, generation: Arc::from(generation), group, tracer: None, offsets, chain, hops })
    }

    /// The program under its group's whole name.
    #[must_use]
    pub(super) fn read_by(mut self, group: &str) -> Self {
        self.group = Arc::from(group);
        self.chain = self.chain.owned_by(&self.group);
        self
    }

    /// The program whose steps count their time there.
    #[must_use]
    pub(super) fn timed_by(mut self, metrics: &StageMetrics) -> Self {
        self.chain = self.chain.timed(|step| metrics.step(step));
        self
    }

    /// The program whose records have spans.
    #[must_use]
    pub(super) fn traced_by(self, tracer: Option<StageTracer>) -> Self {
        Self { tracer, ..self }
    }

    /// Whether a record may have to wait inside the steps.
    pub(super) fn waits(&self) -> bool {
        self.chain.waits()
    }

    /// The names of its steps in their order, of those that ask another system.
    pub(super) fn asking(&self) -> impl Iterator<Item = Option<&Arc<str>>> {
        self.chain.asking()
    }

    /// Hands the key to `limit` by which the rate of this record is limited; `None`: it has no limit.
    pub(super) fn rate_key<T>(
        &self,
        raw: RawRecord<'_>,
        limit: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, Failure> {
        match &self.stage.rate_limit.per_key {
            Some(per_key) => self.text_of(&per_key.key, raw, limit),
            None => Ok(None),
        }
    }

    /// Hands the key to `mark` by which equal records are told; `None`: it is equal to no other.
    pub(super) fn dedupe_key<T>(
        &self,
        raw: RawRecord<'_>,
        mark: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, Failure> {
        match &self.stage.dedupe {
            Some(dedupe) => self.text_of(&dedupe.key, raw, mark),
            None => Ok(None),
        }
    }

    /// Hands the text of an expression over a record as it was read to `take`; `None`: it is null, or asks
    /// for a value that is.
    fn text_of<T>(
        &self,
        key: &Expression,
        raw: RawRecord<'_>,
        take: impl FnOnce(&str) -> T,
    ) -> Result<Option<T>, Failure> {
        if raw.value.is_none() && key.reads().contains(Root::Value) {
            return Ok(None);
        }
        let mut item = Item::new(raw, &*self.stage.codec, 1);
        decode_for(&mut item, key.reads())?;
        let scope = ItemScope::new(&item, self.chain.env());
        Ok(key.text(&scope)?.map(|key| take(&key)))
    }

    /// Runs a record through a program that does not wait.
    pub(super) fn prepare_now(
        &self,
        raw: RawRecord<'_>,
        attempt: u32,
        batch: &mut Batch,
    ) -> Result<Verdict, Failure> {
        let hop = self.hop(&raw)?;
        if let Some(verdict) = self.tombstone(&raw, hop.as_ref(), batch)? {
            return Ok(verdict);
        }
        let mut items = Vec::with_capacity(1);
        self.chain.run_now(Item::new(raw, &*self.stage.codec, attempt), &mut items)?;
        self.route(items, hop.as_ref(), batch)
    }

    /// Runs a record through a program that may wait, by `pause` where a step tries itself again.
    /// Dropping the future abandons the record.
    pub(super) async fn prepare(
        &self,
        raw: RawRecord<'_>,
        attempt: u32,
        batch: &mut Batch,
        pause: &dyn Pause,
    ) -> Result<Verdict, Failure> {
        let hop = self.hop(&raw)?;
        if let Some(verdict) = self.tombstone(&raw, hop.as_ref(), batch)? {
            return Ok(verdict);
        }
        let mut items = Vec::with_capacity(1);
        self.chain.run(Item::new(raw, &*self.stage.codec, attempt), &mut items, pause).await?;
        self.route(items, hop.as_ref(), batch)
    }

    fn hop(&self, raw: &RawRecord<'_>) -> Result<Option<HeaderChange>, Failure> {
        let Some((header, most)) = &self.hops else { return Ok(None) };
        let passed = raw.headers.last(header).flatten();
        let passed: u32 =
            passed.and_then(|bytes| std::str::from_utf8(bytes).ok()?.parse().ok()).unwrap_or_default();
        if passed >= *most {
            return Err(Failure::permanent(
                "max-hops",
                format!("the record has passed this stage {passed} times; `max_hops` is {most}"),
            ));
        }
        let count = (passed + 1).to_string().into_bytes();
        Ok(Some(HeaderChange::Set(Arc::clone(header), Some(count))))
    }

    /// The stage's word on a record, or a part of it, that no output takes.
    pub(super) fn untaken(&self, batch: &mut Batch) -> Result<(), Failure> {
        match self.stage.unmatched {
            Unmatched::Drop => {
                batch.untaken += 1;
                Ok(())
            }
            Unmatched::DeadLetter => {
                let message = "no output of the stage takes the record";
                Err(Failure::permanent("unmatched", message).dead_lettered())
            }
        }
    }

    fn route(
        &self,
        items: Vec<Item<'_>>,
        hop: Option<&HeaderChange>,
        batch: &mut Batch,
    ) -> Result<Verdict, Failure> {
        if items.is_empty() {
            return Ok(Verdict::Filtered);
        }
        if self.stage.outputs.is_empty() {
            self.collect_effects(&items, batch);
            return Ok(Verdict::Send);
        }
        let many = items.len() > 1;
        for mut item in items {
            let first = batch.outputs.len();
            let taken = self.route_item(&mut item, hop, batch)?;
            if !taken {
                self.untaken(batch)?;
            }
            if many {
                batch.weigh(first, &item.raw)?;
            }
        }
        Ok(if batch.outputs.is_empty() { Verdict::Unmatched } else { Verdict::Send })
    }

    /// What the steps have left to be changed, part by part and in their order.
    fn collect_effects(&self, items: &[Item<'_>], batch: &mut Batch) {
        for item in items {
            for (place, (step, _)) in self.stage.effects().enumerate() {
                let left = item.result(step).and_then(Json::as_array);
                batch.effects.extend(left.map(|values| (place, values.clone())));
            }
        }
    }

    /// Prepares the outputs that take `item`; false where none does.
    fn route_item(
        &self,
        item: &mut Item<'_>,
        hop: Option<&HeaderChange>,
        batch: &mut Batch,
    ) -> Result<bool, Failure> {
        let mut taken = false;
        let mut encoded: Option<(&'static str, Part)> = None;
        for (index, output) in self.stage.outputs.iter().enumerate() {
            if !self.matches(output, item)? {
                continue;
            }
            let value = match &encoded {
                Some((codec, part)) if *codec == output.codec.name() => part.clone(),
                _ => self.encode(output, item, batch)?,
            };
            encoded = Some((output.codec.name(), value.clone()));
            let key = self.key(output, item, batch)?;
            let headers = self.headers(output, item, hop, |_| true)?;
            batch.outputs.push(Prepared { target: Target::Output(index), key, value, headers });
            taken = true;
            if !self.stage.match_all {
                break;
            }
        }
        Ok(taken)
    }

    fn matches(&self, output: &Output, item: &mut Item<'_>) -> Result<bool, Failure> {
        let Some(when) = &output.when else { return Ok(true) };
        decode_for(item, when.reads())?;
        when.truthy(&ItemScope::new(item, self.chain.env()))
    }

    fn encode(&self, output: &Output, item: &mut Item<'_>, batch: &mut Batch) -> Result<Part, Failure> {
        match item.unchanged() {
            Some(None) => return Ok(Part::Null),
            Some(Some(_)) if output.codec.name() == self.stage.codec.name() => return Ok(Part::Input),
            _ => {}
        }
        let start = batch.bytes.len();
        match item.encoded() {
            Some(json) if output.codec.name() == JsonCodec.name() => batch.bytes.extend_from_slice(json),
            _ => output.codec.encode(item.value()?, &mut batch.bytes)?,
        }
        Ok(Part::Bytes(start..batch.bytes.len()))
    }

    pub(super) fn key(
        &self,
        output: &Output,
        item: &mut Item<'_>,
        batch: &mut Batch,
    ) -> Result<Part, Failure> {
        let Some(key) = &output.key else { return Ok(Part::Input) };
        decode_for(item, key.reads())?;
        let scope = ItemScope::new(item, self.chain.env());
        Ok(match key.text(&scope)? {
            None => Part::Null,
            Some(text) => {
                let start = batch.bytes.len();
                batch.bytes.extend_from_slice(text.as_bytes());
                Part::Bytes(start..batch.bytes.len())
            }
        })
    }

    pub(super) fn headers(
        &self,
        output: &Output,
        item: &mut Item<'_>,
        hop: Option<&HeaderChange>,
        wanted: impl Fn(RootSet) -> bool,
    ) -> Result<Vec<HeaderChange>, Failure> {
        let mut changes: Vec<_> = item.header_changes().iter().chain(hop).cloned().collect();
        for (name, template) in output.headers.iter().filter(|(_, template)| wanted(template.reads())) {
            decode_for(item, template.reads())?;
            let scope = ItemScope::new(item, self.chain.env());
            let text = template.text(&scope)?;
            let value = text.map(|text| text.into_owned().into_bytes());
            changes.push(HeaderChange::Set(Arc::clone(name), value));
        }
        Ok(changes)
    }
}

/// Where a stage stands that is exactly-once in a database, with what it changes there.
fn offsets(stage: &Stage, ports: &Ports) -> Result<Option<Arc<dyn StageOffsets>>, OpenError> {
    let Some((_, first)) = stage.effects().next() else { return Ok(None) };
    let databases = ports.sql.as_ref().ok_or_else(|| OpenError::new("no database can be asked here"))?;
    let effects = stage.effects().map(|(step, effect)| (Arc::clone(step), effect.clone())).collect();
    databases.offsets(first.asked.database.as_ref(), effects).map(Some)
}

/// Whether an output writes JSON and looks at no value to decide anything.
fn only_encodes_json(output: &Output) -> bool {
    let looks = output.when.iter().chain(&output.key).map(|expression| expression.reads());
    let mut looks = looks.chain(output.headers.iter().map(|(_, template)| template.reads()));
    output.codec.name() == JsonCodec.name() && !looks.any(|reads| reads.contains(Root::Value))
}
