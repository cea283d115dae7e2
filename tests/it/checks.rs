//! What `check` concludes and what it does not: one small config root a case.

use biplane::catalog::{CheckOptions, Checked, Outside, Tree, check, check_all};
use biplane::diag::{Style, codes, render};

/// The variables of a case by name.
struct Variables<'a>(&'a [(&'a str, &'a str)]);

impl Outside for Variables<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    fn mounted(&self, path: &str) -> Result<String, String> {
        Err(format!("{path}: no such file"))
    }
}

const BASE: &str = "[topics.raw]\n[topics.orders]\n[dlqs.failed]\n";

/// A root of one pipeline file and `extra` files.
fn tree(text: &str, extra: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    tree.insert("pipelines/case.toml", text.as_bytes());
    for (path, text) in extra {
        tree.insert(*path, text.as_bytes());
    }
    tree
}

/// An offline check; there is a catalog exactly where there are no errors.
fn checked(text: &str, extra: &[(&str, &str)], environment: Option<&str>) -> Checked {
    let options = CheckOptions { environment, require_env: false, outside: &Variables(&[]) };
    let checked = check(&tree(text, extra), &options);
    assert_eq!(checked.catalog.is_none(), checked.errors() > 0, "{}", shown(&checked));
    checked
}

fn shown(checked: &Checked) -> String {
    let texts = checked.findings.iter().map(|finding| render(finding, &checked.sources, Style::Plain));
    texts.collect::<Vec<_>>().join("\n")
}

/// The codes of what is found, sorted.
fn found(text: &str) -> Vec<&'static str> {
    codes_of(&checked(text, &[], None))
}

fn codes_of(checked: &Checked) -> Vec<&'static str> {
    let mut found: Vec<_> = checked.findings.iter().map(|finding| finding.code.name).collect();
    found.sort_unstable();
    found
}

/// What the primary places of a check's findings cover.
fn places(checked: &Checked) -> Vec<&str> {
    let spans = checked.findings.iter().filter_map(|finding| finding.primary.as_ref());
    spans.map(|label| checked.sources.text(label.span)).collect()
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_name_that_only_begins_like_a_topic_is_undefined() {
    let text = "[topics.orders]\n[dlqs.d]\n[stages.a]\nfrom = \"orders\"\nto = \"orders.v2\"\ndlq = \"d\"\n";
    assert_eq!(found(text), ["topic::undefined"]);
}

#[test]
fn names_without_quotes_are_told_in_every_section_and_who_names_them_is_not_blamed() {
    let text = "[topics.raw.in]\npartitions = 1\n[topics.orders]\n[dlqs.a.b]\n[retries.a.b]\nmax_attempts = 2\n\
                [http_clients.a.b]\nbase_url = \"http://h\"\n[stages.x.y]\nfrom = \"raw.in\"\nto = \"orders\"\n\
                [stages.z]\nfrom = \"raw.in\"\nto = \"orders\"\ndlq = \"a.b\"\nretry = \"a.b\"\n\
                [[stages.z.steps]]\nhttp.client = \"a.b\"\n";
    assert_eq!(found(text), ["toml::unquoted-dots"; 5]);
    // A second name that begins like the first.
    let text = format!(
        "{BASE}[topics.orders.v2]\npartitions = 1\n[stages.a]\nfrom = \"raw\"\nto = \"orders.v2\"\n\
                        dlq = \"failed\"\n[stages.b]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n"
    );
    let checked = checked(&text, &[], None);
    assert_eq!((codes_of(&checked), places(&checked)), (vec!["toml::unquoted-dots"], vec!["v2"]));
}

#[test]
fn an_unknown_key_that_holds_a_table_is_an_unknown_key() {
    let stage = "[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n";
    for topic in
        ["partitions = 6\nsetings.\"min.insync.replicas\" = 2", "setings.\"min.insync.replicas\" = 2"]
    {
        let text = format!("[topics.raw]\n{topic}\n[topics.orders]\n[dlqs.failed]\n{stage}");
        assert_eq!(found(&text), ["key::unknown"], "{topic}");
    }
    let text = format!(
        "{BASE}{stage}labels.team = \"us\"\n[retries.r]\nbackoff.max = \"9s\"\n[stages.b]\n\
                        from = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\nretry = \"r\"\n"
    );
    assert_eq!(found(&text), NOTHING, "tables that belong to a definition are no names");
}

#[test]
fn of_values_that_are_not_set_nothing_is_concluded() {
    let text = r#"
[env]
a = { var = "A" }
b = { var = "B" }
d = { var = "D" }
size = { var = "SIZE" }
time = { var = "TIME" }
word = { var = "WORD" }

[topics.a]
topic = "{{ env.a }}"
max_message_bytes = "{{ env.size }}"
[topics.b]
topic = "{{ env.b }}"
[dlqs.d]
topic = "{{ env.d }}"
[dlqs.e]
max_message_bytes = "{{ env.size }}"

[retries.r]
max_attempts = 9
delays = ["{{ env.time }}", "1s"]
on_exhausted = "{{ env.word }}"
in_place_up_to = "500ms"
on = ["{{ env.word }}"]
not_on = ["{{ env.word }}"]

[http_clients.h]
base_url = "http://h"
timeout = "{{ env.time }}"
connect_timeout = "5s"

[stages.s]
from = "a"
dlq = "d"
deadline = "900ms"
window.bytes = "1KiB"
retry = "r"
match = "{{ env.word }}"
[[stages.s.steps]]
timeout = "800ms"
http.client = "h"
[[stages.s.outputs]]
to = "b"
[[stages.s.outputs]]
to = "b"
when = "value.x"

[stages.t]
from = "b"
retry = "r"
unmatched = "{{ env.word }}"
tombstones = "{{ env.word }}"
[[stages.t.outputs]]
to = "b.out"
when = "value.x"

[stages.u]
from = "b"
to = "b.out"
dlq = "e"
[topics."b.out"]
"#;
    let checked = checked(text, &[], None);
    assert!(checked.findings.is_empty(), "{}", shown(&checked));
}

#[test]
fn defaults_are_for_what_is_created_here_and_a_table_s_own_choice_leaves_them_out() {
    let text = r#"
[env]
token = { var = "TOKEN", secret = true }

[defaults.topics]
partitions = 6
retention = "7d"
[defaults.retries]
backoff = { initial = "1s", max = "2s" }
[defaults.http_clients]
bearer = "{{ env.token }}"
[defaults.stages]
unmatched = "drop"
match = "all"
dlq = "failed"
window.bytes = "32MiB"
window.records = 500

[topics.raw]
external = true
[topics.orders]
partitions = 2
[dlqs.failed]
[retries.listed]
delays = ["3s"]
[retries.computed]
backoff.max = "9s"
[http_clients.crm]
base_url = "http://crm"
basic = { user = "me", password = "{{ env.token }}" }

[stages.a]
from = "raw"
to = "orders"
retry = "listed"
window.records = 50
[stages.b]
from = "raw"
retry = "computed"
[[stages.b.steps]]
http.client = "crm"
"#;
    let checked = checked(text, &[], None);
    assert!(checked.findings.is_empty(), "{}", shown(&checked));
    let catalog = checked.catalog.unwrap();
    let window = catalog.stages()["a"].window;
    assert_eq!((window.records, window.bytes.0), (50, 32 << 20), "a table in defaults is filled key by key");
    let raw = &catalog.topics()["raw"];
    assert_eq!((raw.partitions, raw.settings.len()), (None, 0), "an external topic is not created");
    let retry = |stage: &str| catalog.stages()[stage].retry.backoff.longest(9).as_secs();
    assert_eq!((retry("a"), retry("b")), (3, 9));
}

#[test]
fn one_mistake_is_one_finding_whoever_comes_upon_it() {
    let stages: String = (0..4)
        .map(|n| format!("[stages.s{n}]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n"))
        .collect();
    let text = format!("{BASE}{stages}[defaults.stages]\ndeadline = \"soon\"\n");
    let checked = checked(&text, &[], None);
    assert_eq!(codes_of(&checked), ["value::unit"], "{}", shown(&checked));
    let uses: String = (0..4).map(|n| format!("[[stages.s{n}.steps]]\nuse = \"g\"\n")).collect();
    let group =
        "[[step_groups.g.steps]]\ntimeout = \"1s\"\nhttp = { url = \"http://h/\", methd = \"GET\" }\n";
    let checked = self::checked(&format!("{BASE}{stages}{uses}{group}"), &[], None);
    assert_eq!(codes_of(&checked), ["key::unknown"], "{}", shown(&checked));
    assert!(checked.findings[0].help[1].contains("the same holds for stage `s1`, stage `s2`, stage `s3`"));
    let schema = "[[step_groups.g.steps]]\nvalidate = \"a.json\"\n";
    let checked =
        self::checked(&format!("{BASE}{stages}{uses}{schema}"), &[("schemas/a.json", "{\"type\": 1}")], None);
    assert_eq!(codes_of(&checked), ["schema::invalid"], "{}", shown(&checked));
}

#[test]
fn the_dead_letter_of_an_input_without_a_size_fits_the_dlq() {
    let text = "[topics.small]\nmax_message_bytes = \"256KiB\"\n[topics.raw]\n[topics.orders]\n[dlqs.failed]\n\
                [stages.a]\nfrom = [\"small\", \"raw\"]\nto = \"orders\"\ndlq = \"failed\"\n";
    let catalog = checked(text, &[], None).catalog.unwrap();
    let size = catalog.dlqs()["failed"].topic.max_message_bytes.unwrap().0;
    assert_eq!(size, 1_048_588 + (64 << 10), "the broker's own bound and the headers");
}

#[test]
fn env_is_what_a_template_reads_and_not_a_text_that_looks_like_it() {
    let root = |env: &str, client: &str| {
        format!(
            "{BASE}[env]\n{env}\n[http_clients.h]\n{client}\n[stages.a]\nfrom = \"raw\"\nto = \"orders\"\n\
                 dlq = \"failed\"\n[[stages.a.steps]]\nhttp.client = \"h\"\n"
        )
    };
    let path = "path = { var = \"P\", default = \"x\" }";
    assert_eq!(found(&root(path, "base_url = \"https://env.example.com/{{ env.path }}\"")), NOTHING);
    assert_eq!(found(&root(path, "base_url = \"https://h/{{ env['pth'] }}\"")), ["env::undefined"]);
    let token = "token = { var = \"T\", secret = true }";
    let bearer = |text: &str| root(token, &format!("base_url = \"http://h\"\nbearer = \"{text}\""));
    assert_eq!(found(&bearer("{{ 's3cr3t' }}")), ["secret::literal"]);
    assert_eq!(found(&bearer("{{ env['token'] }}")), NOTHING);
}

#[test]
fn names_of_env_with_hyphens_or_dots_are_written_in_brackets() {
    let root = |read: &str| {
        format!(
            "{BASE}[env]\ncrm-url = {{ default = \"http://h\" }}\n\"a.b\" = {{ default = \"x\" }}\n\
                 [http_clients.h]\nbase_url = \"{{{{ {read} }}}}\"\n[stages.a]\nfrom = \"raw\"\nto = \"orders\"\n\
                 dlq = \"failed\"\n[[stages.a.steps]]\nhttp.client = \"h\"\nhttp.path = \"/{{{{ env.a.b }}}}\"\n"
        )
    };
    let checked = checked(&root("env.crm-url"), &[], None);
    assert_eq!(codes_of(&checked), ["env::template", "env::undefined"], "{}", shown(&checked));
    assert!(shown(&checked).contains("write `env['a.b']`"), "{}", shown(&checked));
    assert_eq!(found(&root("env['crm-url']")), ["env::undefined"]);
}

#[test]
fn a_broken_environment_hides_nothing_else() {
    let text = "[env]\nx = { var = \"X\" }\n[topics.raw]\n[dlqs.unused]\n\
                [stages.a]\nfrom = \"rw\"\nto = \"raw\"\ntopic = 1\n";
    let broken = [("environments/prod.toml", "x = \n")];
    let checked = checked(text, &broken, None);
    let expected = ["dlq::missing", "key::unknown", "name::unused", "toml::syntax", "topic::undefined"];
    assert_eq!(codes_of(&checked), expected);
    let required = CheckOptions { environment: Some("prod"), require_env: true, outside: &Variables(&[]) };
    let checked = check(&tree(text, &broken), &required);
    assert!(!codes_of(&checked).contains(&"env::missing"), "its value may stand where it cannot be read");
}

#[test]
fn a_number_past_64_bits_is_one_finding() {
    let text = format!(
        "{BASE}[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\nconcurrency = 99999999999999999999\n"
    );
    assert_eq!(found(&text), ["toml::syntax"]);
}

#[test]
fn places_are_those_of_the_names_meant() {
    let steps = "[[stages.a.steps]]\nfilter = \"value.slots > env.slots\"\n";
    let text = format!("{BASE}[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n{steps}");
    assert_eq!(places(&checked(&text, &[], None)), ["env.slots"]);
}

#[test]
fn every_mistake_of_an_expression_is_found_in_one_run() {
    let steps = "[[stages.a.steps]]\nset.x = \"{{ valu.a | uper }}-{{ nope }}\"\n";
    let text = format!("{BASE}[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n{steps}");
    assert_eq!(places(&checked(&text, &[], None)), ["valu", "uper", "nope"]);
}

#[test]
fn schemas_that_only_others_name_or_nobody_are_judged_at_their_own_place() {
    let text = format!(
        "{BASE}[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n\
                        [[stages.a.steps]]\nvalidate = \"a.json\"\n"
    );
    let extra = [
        ("schemas/a.json", "{\"$ref\": \"b.json\"}"),
        ("schemas/b.json", "{\"type\": "),
        ("schemas/c.json", "{\"type\": \"strin\"}"),
        ("schemas/readme.md", "no schema"),
    ];
    let checked = checked(&text, &extra, None);
    let files = checked.findings.iter().filter_map(|finding| finding.primary.as_ref());
    let files: Vec<_> = files.map(|label| checked.sources.path(label.span.file)).collect();
    assert_eq!(files, ["schemas/b.json", "schemas/c.json"], "{}", shown(&checked));
}

#[test]
fn a_circle_through_a_dlq_is_a_circle_unless_an_output_in_it_counts() {
    let root = |first: &str, second: &str| {
        format!(
            "[topics.raw]\n[topics.orders]\n[topics.\"d.dlq\"]\nexternal = true\n[dlqs.d]\n[dlqs.e]\n\
                 [stages.work]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"d\"\n{first}\n\
                 [stages.repair]\nfrom = \"d.dlq\"\nto = \"raw\"\ndlq = \"e\"\n{second}\n"
        )
    };
    let checked = checked(&root("", ""), &[], None);
    assert_eq!(codes_of(&checked), ["stage::cycle"]);
    assert!(shown(&checked).contains("by way of the DLQ `d`"), "{}", shown(&checked));
    assert!(checked.findings[0].help[0].contains("`max_hops = 3` on stage `repair`"), "{}", shown(&checked));
    assert_eq!(found(&root("max_hops = 3", "")), ["stage::cycle"], "dead letters are not counted");
    assert_eq!(found(&root("", "max_hops = 3")), NOTHING);
    let text = "[topics.\"d.dlq\"]\nexternal = true\n[topics.\"e.dlq\"]\nexternal = true\n[dlqs.d]\n[dlqs.e]\n\
                [stages.a]\nfrom = \"e.dlq\"\ndlq = \"d\"\n[[stages.a.steps]]\nfilter = \"value.x\"\n\
                [stages.b]\nfrom = \"d.dlq\"\ndlq = \"e\"\n[[stages.b.steps]]\nfilter = \"value.x\"\n";
    assert_eq!(found(text), ["stage::cycle"], "two stages whose DLQs are each other's inputs");
}

#[test]
fn credentials_are_found_wherever_they_are_sent() {
    let root = |step: &str| {
        format!(
            "{BASE}[env]\npublic = {{ var = \"P\" }}\nsecret = {{ var = \"S\", secret = true }}\n\
                 [stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n[[stages.a.steps]]\n{step}\n"
        )
    };
    let url = "http.url = \"http://h/\"\n";
    for step in [
        &format!("{url}http.query.api_key = \"abc\""),
        &format!("{url}http.query = {{ token = 12345 }}"),
        &format!("{url}http.headers.PRIVATE-TOKEN = \"abc\""),
        &format!("{url}http.headers.X-Vault-Token = \"{{{{ 'abc' }}}}\""),
        "http.url = \"http://me:word@h/\"",
        "http.url = \"http://h/?api_key=abc\"",
    ] {
        assert_eq!(found(&root(step)), ["secret::literal"], "{step}");
    }
    let header = |from: &str| root(&format!("{url}http.headers.x-api-key = \"{{{{ {from} }}}}\""));
    assert_eq!(found(&header("env.public")), ["secret::not-marked"]);
    assert_eq!(found(&header("env.secret")), NOTHING);
    assert_eq!(found(&header("value.token")), NOTHING);
}

#[test]
fn limits_that_contradict_each_other_are_found() {
    let root = |more: &str, steps: &str| {
        format!(
            "[topics.raw]\npartitions = 2\n[topics.orders]\n[dlqs.failed]\n[http_clients.h]\n\
                 base_url = \"http://h\"\ntimeout = \"30s\"\n[stages.a]\nfrom = \"raw\"\nto = \"orders\"\n\
                 dlq = \"failed\"\n{more}\n[[stages.a.steps]]\nhttp.client = \"h\"\n{steps}\n"
        )
    };
    assert_eq!(found(&root("span.records = 10\nwindow.records = 100", "")), ["stage::limits"]);
    assert_eq!(found(&root("span.records = 10\nconcurrency = 64", "")), ["stage::limits"]);
    assert_eq!(found(&root("span.records = 50\nwindow.records = 100", "")), NOTHING);
    assert_eq!(found(&root("deadline = \"20s\"", "")), ["stage::limits"], "the client's timeout is longer");
    assert_eq!(found(&root("deadline = \"20s\"", "timeout = \"25s\"")), ["stage::limits"]);
    assert_eq!(found(&root("deadline = \"20s\"", "timeout = \"15s\"")), NOTHING);
    assert_eq!(found(&root("", "timeout = \"40s\"")), ["stage::pointless"], "the client gives up before");
}

#[test]
fn keys_of_a_stage_are_known_wherever_they_end_up() {
    let root = |tail: &str| {
        format!(
            "{BASE}[[step_groups.g.steps]]\nfilter = \"value.x\"\n[stages.a]\nfrom = \"raw\"\ndlq = \"failed\"\n\
                 [[stages.a.outputs]]\nto = \"orders\"\n[[stages.a.steps]]\nuse = \"g\"\n{tail}"
        )
    };
    assert_eq!(found(&root("")), NOTHING);
    for tail in [
        "concurrency = 8\n",
        "retry = \"built-in\"\n",
        "[[stages.a.steps]]\n[stages.a.steps.http]\nurl = \"http://h/\"\nconcurrency = 8\n",
        "[[stages.a.outputs]]\nto = \"raw\"\nwhen = \"value.x\"\nunmatched = \"drop\"\nmax_hops = 1\n",
    ] {
        let found = found(&root(tail));
        assert!(
            found.iter().all(|code| matches!(
                *code,
                "toml::key-after-steps" | "output::unreachable" | "stage::cycle"
            )),
            "{tail} {found:?}"
        );
        assert!(found.contains(&"toml::key-after-steps"), "{tail}");
    }
    let described = "[[stages.a.steps]]\nname = \"only-y\"\nfilter = \"value.y\"\ndescription = \"only y\"\nowner = \"us\"\n";
    assert_eq!(found(&root(described)), NOTHING, "a step has a description of its own");
}

#[test]
fn what_people_read_stands_on_every_table() {
    let about = "description = \"d\"\nowner = \"o\"\nrunbook = \"r\"\nlabels.a = \"b\"\n";
    let text = format!(
        "{BASE}[env.x]\ndefault = \"1\"\n{about}[stages.a]\nfrom = \"raw\"\ndlq = \"failed\"\n{about}\
                        [[stages.a.steps]]\nfilter = \"value.x\"\n{about}[[stages.a.outputs]]\nto = \"orders\"\n{about}"
    );
    assert_eq!(found(&text), NOTHING);
}

#[test]
fn a_name_of_a_step_is_a_name() {
    let steps = "[[stages.a.steps]]\nname = \"Not a name\"\nfilter = \"value.x\"\n";
    let text = format!("{BASE}[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n{steps}");
    assert_eq!(found(&text), ["name::invalid"]);
}

#[test]
fn lists_and_times_may_come_from_env() {
    let text = r#"
[env]
wait  = { default = "3s" }
code  = { default = "http-503" }
names = { default = "connect" }
start = { default = "2026-01-01T00:00:00Z" }
[topics.raw]
[topics.orders]
[dlqs.failed]
headers = ["{{ env.names }}"]
[retries.r]
delays = ["1s", "{{ env.wait }}"]
on = ["{{ env.code }}"]
[stages.a]
from = "raw"
to = "orders"
dlq = "failed"
retry = "r"
start = "{{ env.start }}"
"#;
    let catalog = checked(text, &[], None).catalog.unwrap();
    let stage = &catalog.stages()["a"];
    assert_eq!(stage.retry.backoff.longest(3).as_secs(), 3);
    assert_eq!(format!("{:?}", stage.retry.on), "[Code(\"http-503\")]");
    assert_eq!(stage.start, biplane::catalog::Start::At(1_767_225_600_000));
    assert_eq!(catalog.dlqs()["failed"].headers.len(), 2);
}

#[test]
fn a_value_that_was_filled_in_stands_in_no_finding() {
    let text = r#"
[env]
secret = { var = "S", secret = true }
[topics.raw]
partitions = "{{ env.secret }}"
[topics.orders]
[dlqs.failed]
[stages.a]
from = "raw"
to = "orders"
dlq = "failed"
order = "{{ env.secret }}"
deadline = "{{ env.secret }}"
"#;
    let variables = [("S", "c4n4ry")];
    let options = CheckOptions { environment: None, require_env: true, outside: &Variables(&variables) };
    let checked = check(&tree(text, &[]), &options);
    assert_eq!(codes_of(&checked), ["value::type", "value::unit", "value::word"]);
    assert!(!shown(&checked).contains("c4n4ry"), "{}", shown(&checked));
    let variables = [("S", "41")];
    let options = CheckOptions { outside: &Variables(&variables), ..options };
    assert!(!shown(&check(&tree(text, &[]), &options)).contains("41 "), "nor a number");
}

#[test]
fn a_default_is_of_its_type_whatever_the_variables_say() {
    let text = format!(
        "{BASE}[env]\nx = {{ var = \"X\", type = \"integer\", default = \"many\" }}\n[stages.a]\n\
                        from = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\nconcurrency = \"{{{{ env.x }}}}\"\n"
    );
    let variables = [("X", "4")];
    let options = CheckOptions { environment: None, require_env: true, outside: &Variables(&variables) };
    assert_eq!(codes_of(&check(&tree(&text, &[]), &options)), ["env::type"]);
}

#[test]
fn all_environments_are_those_that_are_committed_and_findings_say_which() {
    let text = format!(
        "{BASE}[env]\nx = {{ var = \"X\", type = \"integer\" }}\n[stages.a]\nfrom = \"raw\"\n\
                        to = \"orders\"\ndlq = \"failed\"\nconcurrency = \"{{{{ env.x }}}}\"\n"
    );
    let whole = [("environments/a.toml", "x = 1\n"), ("environments/b.toml", "x = 2\n")];
    let options = CheckOptions { environment: None, require_env: true, outside: &Variables(&[]) };
    let checked = check_all(&tree(&text, &whole), &options);
    assert!(checked.findings.is_empty(), "{}", shown(&checked));
    assert!(checked.catalog.is_some());
    let lacking = [whole[0], ("environments/b.toml", ""), ("environments/c.toml", "x = 0\n")];
    let checked = check_all(&tree(&text, &lacking), &options);
    let messages: Vec<_> = checked.findings.iter().map(|finding| finding.message.as_str()).collect();
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(
        messages.iter().any(|message| message.ends_with("SLOTS") || message.contains("(environment `b`)"))
    );
    assert!(messages.iter().any(|message| message.contains("(environment `c`)")), "{messages:?}");
    assert!(checked.catalog.is_none());
}

#[test]
fn the_steps_of_a_group_that_nothing_uses_are_judged() {
    let group = "[[step_groups.g.steps]]\nset.x = \"{{ steps.earlier.body | uper }}\"\n";
    let text = format!("{BASE}{group}[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n");
    assert_eq!(found(&text), ["expression::unknown", "name::unused"]);
}

#[test]
fn a_former_name_is_in_the_catalog() {
    let text = format!("{BASE}[stages.a]\nwas = \"b\"\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n");
    let catalog = checked(&text, &[], None).catalog.unwrap();
    assert_eq!(catalog.stages()["a"].was.as_deref(), Some("b"));
    let text = format!(
        "{BASE}[defaults.stages]\nwas = \"b\"\n[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n"
    );
    assert_eq!(found(&text), ["key::unknown"], "no two stages had one name");
}

#[test]
fn saying_what_holds_anyway_is_no_mistake() {
    let text = format!(
        "{BASE}[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\nunmatched = \"dead-letter\"\n"
    );
    assert_eq!(found(&text), NOTHING);
}

#[test]
fn a_text_in_a_url_that_looks_like_a_path_is_a_warning() {
    let steps = "[[stages.a.steps]]\nhttp.client = \"h\"\nhttp.path = \"value.id\"\n";
    let text = format!(
        "{BASE}[http_clients.h]\nbase_url = \"http://h\"\n[stages.a]\nfrom = \"raw\"\nto = \"orders\"\ndlq = \"failed\"\n{steps}"
    );
    assert_eq!(found(&text), ["template::looks-like-path"]);
}

/// A page's example as a config root: fragments of steps stand in a stage.
fn example(text: &str) -> Option<Tree> {
    let extra = [
        ("schemas/order.json", "{\"type\": \"object\"}"),
        ("schemas/legacy-order.json", "{\"type\": \"object\"}"),
        ("schemas/report.json", "{\"required\": [\"day\"]}"),
        ("lookups/people.csv", "email,name\na@x.com,Ann\n"),
        ("sql/prune.sql", "delete from notes"),
    ];
    let first = text.lines().next().unwrap_or_default();
    Some(match () {
        () if first.starts_with("biplane ") || text.contains('\\') && first.starts_with("description") => {
            return None;
        }
        () if first.starts_with('{') => {
            tree("[topics.orders]\nschema = \"order.json\"\n", &[("schemas/order.json", text)])
        }
        () if first.starts_with("email,") => {
            let step =
                "[[stages.a.steps]]\nlookup = { table = \"people.csv\", key = \"email\", by = \"key\" }\n";
            tree(step, &[("lookups/people.csv", text)])
        }
        () if text.contains("# pipelines/b.toml") => {
            let (one, other) = text.split_once("# pipelines/b.toml").unwrap();
            tree(one, &[("pipelines/b.toml", other)])
        }
        () if first.starts_with('[') => tree(text, &extra),
        () => tree(&format!("[[stages.a.steps]]\n{text}"), &extra),
    })
}

#[test]
fn the_example_of_every_page_is_the_mistake_and_its_cure_is_not() {
    let (mut judged, mut failed) = (0, Vec::new());
    let online = [&codes::SQL_REFUSED, &codes::DATABASE_MIGRATIONS].map(|code| code.name);
    let offline =
        || codes::all().filter(|code| !code.name.starts_with("broker::") && !online.contains(&code.name));
    for code in offline() {
        let required = code.name == "env::missing";
        let has = |text: &str| {
            let tree = example(text)?;
            let variables: &[(&str, &str)] =
                if text.contains("export CRM_TOKEN") { &[("CRM_TOKEN", "x")] } else { &[] };
            let options =
                CheckOptions { environment: None, require_env: required, outside: &Variables(variables) };
            let found = check(&tree, &options);
            Some((found.findings.iter().any(|finding| finding.code == code), shown(&found)))
        };
        let (Some((wrong, seen)), Some((right, left))) = (has(code.mistake), has(code.cure)) else {
            continue;
        };
        if !wrong {
            failed.push(format!("the mistake of {} gives\n{seen}", code.name));
        }
        if right {
            failed.push(format!("the cure of {} gives\n{left}", code.name));
        }
        judged += 1;
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert_eq!(offline().count() - judged, 4, "commands and bytes cannot be judged");
}
