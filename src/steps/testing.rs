//! One step from TOML, run on records that tests make up.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::http::HttpClient;
use super::ports::{Database, Databases, EventTopic, JobKind, Jobs};
use super::{Chain, PlanContext, Ports, Schemas, Sleep, StepPlan, Tables, plan};
use crate::base::{Backoff, CodePattern, Exhausted, Failure, RetryPolicy};
use crate::diag::{Diagnostics, FileId, SourceMap};
use crate::expr::RootSet;
use crate::record::{HeaderChange, Item, JsonCodec, RawRecord};
use crate::spec::{NoSettings, ReadContext, Spanned, TableReader, parse};

/// An open chain of one step and the environment it sees.
pub(super) struct Bench {
    pub(super) chain: Chain,
}

impl Bench {
    pub(super) fn new(step: &str) -> Self {
        Self::with_files(step, &[])
    }

    pub(super) fn with_files(step: &str, files: &[(&str, &str)]) -> Self {
        Self::build(step, files, None, Ports::default())
    }

    pub(super) fn with_client(step: &str, client: HttpClient) -> Self {
        Self::build(step, &[], Some(Arc::new(client)), Ports::default())
    }

    pub(super) fn with_databases(step: &str, databases: Arc<dyn Databases>) -> Self {
        Self::build(step, &[], None, Ports { sql: Some(databases), ..Ports::default() })
    }

    pub(super) fn with_jobs(step: &str, jobs: Arc<dyn Jobs>) -> Self {
        Self::build(step, &[], None, Ports { jobs: Some(jobs), ..Ports::default() })
    }

    pub(super) fn with_programs(step: &str, root: &std::path::Path) -> Self {
        let exec = Some(Arc::new(super::ExecRoot::new(root).unwrap()));
        Self::build(step, &[], None, Ports { exec, ..Ports::default() })
    }

    /// As [`Bench::new`], of a step that only jobs have. Its record stands for a job.
    pub(super) fn of_job(step: &str) -> Self {
        let (plan, findings) = planned_in(RootSet::JOB, step, &[], None);
        let plan = plan.unwrap_or_else(|| panic!("{findings:?}"));
        Self { chain: Chain::open(&[plan], Arc::new(json!({})), &Ports::default()).unwrap() }
    }

    fn build(step: &str, files: &[(&str, &str)], client: Option<Arc<HttpClient>>, ports: Ports) -> Self {
        let (plan, findings) = planned(step, files, client.as_ref());
        let plan = plan.unwrap_or_else(|| panic!("{findings:?}"));
        let env = Arc::new(json!({"name": "test", "url": "http://h"}));
        Self { chain: Chain::open(&[plan], env, &ports).unwrap() }
    }

    /// An open chain of several steps.
    pub(super) fn chain_of(steps: &[&str]) -> Chain {
        let plans: Vec<_> = steps
            .iter()
            .map(|step| {
                let (plan, findings) = planned(step, &[], None);
                plan.unwrap_or_else(|| panic!("{findings:?}"))
            })
            .collect();
        Chain::open(&plans, Arc::new(json!({})), &Ports::default()).unwrap()
    }

    /// The codes of what is reported about `step`.
    pub(super) fn findings(step: &str) -> Vec<&'static str> {
        Self::findings_with(step, &[])
    }

    pub(super) fn findings_with(step: &str, files: &[(&str, &str)]) -> Vec<&'static str> {
        planned(step, files, None).1
    }

    /// The same where the step is one of a job.
    pub(super) fn findings_of_job(step: &str) -> Vec<&'static str> {
        planned_in(RootSet::JOB, step, &[], None).1
    }

    pub(super) fn run(&self, value: Json) -> Result<Vec<Json>, Failure> {
        let bytes = value.to_string().into_bytes();
        self.items(&bytes, |item| item.value().unwrap().clone())
    }

    pub(super) fn run_bytes(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
        self.items(bytes, |item| item.unchanged().unwrap().unwrap().to_vec())
    }

    pub(super) fn headers(&self, value: Json) -> Vec<(String, Option<String>)> {
        let bytes = value.to_string().into_bytes();
        let text = |bytes: &Option<Vec<u8>>| bytes.clone().map(|bytes| String::from_utf8(bytes).unwrap());
        let all = self.items(&bytes, |item| {
            let set = item.header_changes().iter().filter_map(|change| match change {
                HeaderChange::Set(name, value) => Some((name.to_string(), text(value))),
                HeaderChange::Remove(_) => None,
            });
            set.collect::<Vec<_>>()
        });
        all.unwrap().concat()
    }

    pub(super) fn items<T>(&self, bytes: &[u8], see: impl Fn(&mut Item<'_>) -> T) -> Result<Vec<T>, Failure> {
        let mut out = Vec::new();
        self.chain.run_now(Item::new(raw(bytes), &JsonCodec, 1), &mut out)?;
        Ok(out.iter_mut().map(see).collect())
    }

    pub(super) async fn run_waiting(&self, value: Json) -> Result<Vec<(Json, Option<Json>)>, Failure> {
        let bytes = value.to_string().into_bytes();
        let mut out = Vec::new();
        self.chain.run(Item::new(raw(&bytes), &JsonCodec, 1), &mut out, &Sleep).await?;
        Ok(out
            .iter_mut()
            .map(|item| {
                (item.value().unwrap().clone(), item.results().first().map(|(_, result)| (**result).clone()))
            })
            .collect())
    }
}

pub(super) fn raw(bytes: &[u8]) -> RawRecord<'_> {
    RawRecord {
        topic: "orders",
        partition: 3,
        offset: 9,
        timestamp: Some(1_767_225_600_000),
        log_append: false,
        key: Some(b"k1"),
        value: Some(bytes),
        headers: &(),
    }
}

/// Three attempts on transient failures and 5xx without waits.
pub(super) fn quick_retry() -> Arc<RetryPolicy> {
    Arc::new(RetryPolicy {
        name: Arc::from("quick"),
        max_attempts: 3,
        backoff: Backoff::Delays(vec![std::time::Duration::ZERO]),
        on: vec![CodePattern::parse("transient"), CodePattern::parse("http-5xx")],
        not_on: Vec::new(),
        in_place_up_to: None,
        on_exhausted: Exhausted::DeadLetter,
    })
}

/// The database that steps may name.
fn app() -> Arc<Database> {
    let url = "postgres://app@db/app".to_owned();
    Arc::new(Database { name: Arc::from("app"), about: Default::default(), url, max_connections: 1 })
}

/// The topic that jobs may name.
fn events() -> Arc<EventTopic> {
    Arc::new(EventTopic { name: Arc::from("events"), physical: Arc::from("events.v1"), max_bytes: 1 << 20 })
}

/// Any kind that a step may name; the args of `strict` have a number `n`.
fn kind(name: &str) -> Arc<JobKind> {
    let schema = json!({"required": ["n"], "properties": {"n": {"type": "integer"}}}).to_string();
    let files = BTreeMap::from([("schemas/strict.json".to_owned(), schema.into_bytes())]);
    let schema = Schemas::default().get(&files, "strict.json", false).unwrap();
    Arc::new(JobKind { name: Arc::from(name), schema: (name == "strict").then_some(schema) })
}

fn planned(
    step: &str,
    files: &[(&str, &str)],
    client: Option<&Arc<HttpClient>>,
) -> (Option<StepPlan>, Vec<&'static str>) {
    planned_in(RootSet::RECORD, step, files, client)
}

fn planned_in(
    roots: RootSet,
    step: &str,
    files: &[(&str, &str)],
    client: Option<&Arc<HttpClient>>,
) -> (Option<StepPlan>, Vec<&'static str>) {
    let files: BTreeMap<String, Vec<u8>> =
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect();
    let diagnostics = Diagnostics::default();
    let (table, _) = parse(step, FileId(0), &diagnostics);
    let context = PlanContext {
        diagnostics: &diagnostics,
        roots,
        env: &["name".to_owned(), "url".to_owned()],
        earlier: &[Arc::from("before")],
        files: &files,
        schemas: &Schemas::default(),
        tables: &Tables::default(),
        retry: &|name: &Spanned<String>| (name.value == "quick").then(quick_retry),
        http_client: &|_| client.cloned(),
        database: &|name| (name.value == "app").then(app),
        topic: &|name| (name.value == "events").then(events),
        job: &|name| (name.value != "unknown").then(|| kind(&name.value)),
    };
    let read = ReadContext::new(&diagnostics, &NoSettings);
    let plan = plan(TableReader::new(&table, "step 1", read), &context);
    let mut sources = SourceMap::default();
    sources.add("t.toml", step);
    (plan, diagnostics.into_sorted(&sources).iter().map(|finding| finding.code.name).collect())
}
