//! Expressions and templates at their boundary: text and a scope in, a value or a code out.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::functions::{FILTERS, FUNCTIONS, TESTS};
use super::*;
use crate::base::Failure;

/// A scope over plain JSON; the key is no text where it is `false`.
struct Plain(Json);

impl Plain {
    fn found(value: &Json) -> Found<'_> {
        match value {
            Json::String(text) => Found::Text(text),
            Json::Null => Found::Null,
            other => Found::Json(other),
        }
    }
}

impl Scope for Plain {
    fn root(&self, root: Root) -> Result<Option<Found<'_>>, Failure> {
        match (root, self.0.get(root.as_str())) {
            (Root::Key, Some(Json::Bool(false))) => Err(Failure::poison("key-not-text", "no text")),
            (Root::Value | Root::Env, found) => Ok(found.map(Found::Json)),
            (Root::Offset, Some(offset)) => Ok(offset.as_i64().map(Found::Integer)),
            (_, found) => Ok(found.map(Self::found)),
        }
    }

    fn named(&self, root: Root, name: &str) -> Result<Option<Found<'_>>, Failure> {
        Ok(self.0.get(root.as_str()).and_then(|all| all.get(name)).map(Self::found))
    }

    fn names(&self, root: Root) -> Vec<String> {
        let names = self.0.get(root.as_str()).and_then(Json::as_object);
        names.map(|map| map.keys().cloned().collect()).unwrap_or_default()
    }
}

fn scope() -> Plain {
    Plain(json!({
        "value": {"kind": "mail", "n": 5, "deep": {"list": [1, "two", {"x": null}]}, "text": " Ünïcode ",
                  "empty": "", "at": "2026-01-01T12:00:00+02:00"},
        "key": "k1", "topic": "t", "partition": 3, "offset": 42, "timestamp": "2026-01-01T00:00:00.000Z",
        "headers": {"trace": "abc", "nothing": null}, "env": {"url": "http://h", "n": 1},
        "steps": {"crm": {"status": 200, "body": {"slug": "a"}}},
    }))
}

fn eval(source: &str) -> Result<Json, String> {
    let expression = Expression::compile(source, RootSet::RECORD).map_err(|error| error.message)?;
    let scope = scope();
    expression.eval(&scope).map(|value| value.into_owned()).map_err(|failure| failure.code.into_owned())
}

fn render(source: &str) -> Result<Json, String> {
    let template = Template::compile(source, RootSet::RECORD).map_err(|error| error.message)?;
    let scope = scope();
    template.render(&scope).map(|value| value.into_owned()).map_err(|failure| failure.code.into_owned())
}

fn wrong(source: &str) -> (Mistake, String, Option<String>) {
    let error = Expression::compile(source, RootSet::RECORD).unwrap_err();
    (error.mistake, source[error.range].to_owned(), error.suggestion)
}

#[test]
fn paths_comparisons_and_defaults_never_enter_the_interpreter() {
    for (source, expected) in [
        ("value.kind", json!("mail")),
        ("value[\"kind\"]", json!("mail")),
        ("value.deep.list[1]", json!("two")),
        ("value.deep.list[2].x", json!(null)),
        ("headers.trace", json!("abc")),
        ("headers.nothing", json!(null)),
        ("steps.crm.body.slug", json!("a")),
        ("offset", json!(42)),
        ("key", json!("k1")),
        ("'constant'", json!("constant")),
        ("value.kind == 'mail' and value.n >= 5", json!(true)),
        ("value.kind in ['chat', 'mail']", json!(true)),
        ("value.kind not in ['chat', 'mail']", json!(false)),
        ("'ai' in value.kind", json!(true)),
        ("value.nothing is defined", json!(false)),
        ("value.kind is not none", json!(true)),
        ("value.nothing | default('none')", json!("none")),
        ("value.empty or value.kind", json!("mail")),
    ] {
        let expression = Expression::compile(source, RootSet::RECORD).unwrap();
        assert!(expression.is_fast(), "{source}");
        assert_eq!(eval(source), Ok(expected), "{source}");
    }
}

#[test]
fn undefined_is_an_error_wherever_it_is_used() {
    for source in [
        "value.nothing",
        "value.nothing.deeper",
        "value.nothing == 1",
        "value.nothing in [1]",
        "not value.nothing",
        "value.nothing | upper",
        "headers.missing",
        "steps.other.status",
    ] {
        assert_eq!(eval(source), Err("undefined".to_owned()), "{source}");
    }
}

#[test]
fn unknown_names_are_found_when_compiling_with_the_nearest_known() {
    let near = |source, at: &str, meant: &str| {
        assert_eq!(wrong(source), (Mistake::Unknown, at.to_owned(), Some(meant.to_owned())), "{source}");
    };
    near("valu.kind", "valu", "value");
    near("value.kind | uper", "uper", "upper");
    near("value.n is od", "od", "odd");
    near("nov()", "nov", "now");
    assert_eq!(wrong("value.x.y.foo()").0, Mistake::Unknown);
    assert_eq!(
        wrong("{{ value.kind }}"),
        (Mistake::Braces, "{{ value.kind }}".into(), Some("value.kind".into()))
    );
    assert_eq!(wrong("value.kind == ").0, Mistake::Syntax);
    assert_eq!(wrong("").0, Mistake::Syntax);
    assert!(Expression::compile("value.a == '{{'", RootSet::RECORD).is_ok());
    let error = Expression::compile("value.x", RootSet::ENV).unwrap_err();
    assert_eq!(error.message, "`value` is not in scope here");
    let error = Template::compile("a {{ 1 }} {{ valu.x }}", RootSet::RECORD).unwrap_err();
    assert_eq!(error.range, 13..17);
}

#[test]
fn every_registered_name_exists_in_the_interpreter() {
    let unknown = |source: String| {
        let expression = Expression::compile(&source, RootSet::RECORD).unwrap();
        let scope = scope();
        let failure = expression.eval_interpreted(&scope).err();
        failure.is_some_and(|failure| failure.message.contains("is unknown"))
    };
    let unknown_filters: Vec<_> =
        FILTERS.iter().filter(|name| unknown(format!("value.kind | {name}"))).collect();
    assert!(unknown_filters.is_empty(), "{unknown_filters:?}");
    let words = TESTS.iter().filter(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()));
    // `true`, `false` and `in` are read as words of the language behind `is`, and work.
    let unknown_tests: Vec<_> = words
        .filter(|name| {
            Expression::compile(&format!("value.kind is {name}"), RootSet::RECORD).is_ok()
                && unknown(format!("value.kind is {name}"))
        })
        .collect();
    assert!(unknown_tests.is_empty(), "{unknown_tests:?}");
    let unknown_functions: Vec<_> = FUNCTIONS.iter().filter(|name| unknown(format!("{name}()"))).collect();
    assert!(unknown_functions.is_empty(), "{unknown_functions:?}");
}

#[test]
fn every_name_of_the_register_is_documented() {
    let page = include_str!("../../docs/expressions.md");
    let words = FILTERS.iter().chain(FUNCTIONS);
    let missing: Vec<_> = words
        .filter(|name| {
            let ends = ["`", "(", " ", "`,"];
            !ends.iter().any(|end| {
                page.contains(&format!("`{name}{end}")) || page.contains(&format!("| {name}{end}"))
            }) && !page.contains(&format!("\\| {name}"))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_lone_expression_keeps_its_type_and_anything_else_is_text() {
    assert_eq!(render("{{ value.n }}"), Ok(json!(5)));
    assert_eq!(render("{{ value.deep.list }}"), Ok(json!([1, "two", {"x": null}])));
    assert_eq!(render("{{ value.n }} "), Ok(json!("5 ")));
    assert_eq!(
        render("{{ value.kind }}/{{ offset }}/{{ value.deep }}"),
        Ok(json!("mail/42/{\"list\":[1,\"two\",{\"x\":null}]}"))
    );
    assert_eq!(render("{% for x in value.deep.list[:2] %}<{{ x }}>{% endfor %}\n"), Ok(json!("<1><two>\n")));
    assert_eq!(render("{% raw %}{{ x }}{% endraw %}"), Ok(json!("{{ x }}")));
    assert_eq!(render("{{ '}}' }}{{ value.kind }}"), Ok(json!("}}mail")));
    assert_eq!(render("plain"), Ok(json!("plain")));
    assert!(render("{{ value.kind ").is_err());
    assert!(render("{% include 'x' %}").is_err());
}

#[test]
fn message_data_is_never_rendered_as_a_template() {
    let scope = Plain(json!({"value": {"x": "{{ env.secret }}"}, "env": {"secret": "s"}}));
    for source in ["{{ value.x }}!", "{{ value.x | trim }}!", "{% if true %}{{ value.x }}{% endif %}!"] {
        let template = Template::compile(source, RootSet::RECORD).unwrap();
        assert_eq!(*template.render(&scope).unwrap(), json!("{{ env.secret }}!"));
    }
}

#[test]
fn filters_of_the_trade_do_what_they_say() {
    for (source, expected) in [
        ("'abc' | sha256", json!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
        ("'abc' | md5", json!("900150983cd24fb0d6963f7d28e17f72")),
        ("'Hi There' | hmac_sha256('key') | length", json!(64)),
        ("'www.example.com' | uuid5('dns')", json!("2ed6657d-e927-568b-95e1-2665a8aea6a2")),
        ("value.at | parse_time", json!("2026-01-01T10:00:00.000Z")),
        ("'01.02.2026' | parse_time('%d.%m.%Y')", json!("2026-02-01T00:00:00.000Z")),
        ("value.at | to_timestamp", json!(1_767_261_600_000_i64)),
        ("1767261600 | parse_time", json!("2026-01-01T10:00:00.000Z")),
        ("value.at | format_time('%H:%M', timezone='Europe/Berlin')", json!("11:00")),
        ("value.text | fold | trim", json!("unicode")),
        ("'a1b22' | regex_find_all('[0-9]+')", json!(["1", "22"])),
        ("'k=v' | regex_find('(\\\\w)=(\\\\w)')", json!(["k", "v"])),
        ("'none' | regex_find('[0-9]')", json!(null)),
        ("'a-b' | regex_replace('-', '+')", json!("a+b")),
        ("value.kind | regex_match('^m')", json!(true)),
        ("'{\"a\": [1]}' | from_json", json!({"a": [1]})),
        ("value.deep.list | to_json", json!("[1,\"two\",{\"x\":null}]")),
        ("'ü' | base64_encode", json!("w7w=")),
        ("'w7w' | base64_decode", json!("ü")),
        ("uuid7() | length", json!(36)),
        ("now() | length", json!(24)),
    ] {
        assert_eq!(eval(source), Ok(expected), "{source}");
    }
    for source in [
        "'soon' | parse_time",
        "'{' | from_json",
        "'!' | base64_decode",
        "'x' | uuid5('y' ~ '')",
        "'a' | regex_match('(' ~ '')",
        "'a' | regex_match('((a{100}){100}){100}' ~ '')",
        "value.at | format_time('%H', timezone='Mars' ~ '')",
        "value.at | format_time('%Q' ~ '')",
        "value.kind | int",
    ] {
        assert_eq!(eval(source), Err("expression".to_owned()), "{source}");
    }
}

#[test]
fn endless_work_and_huge_results_end_with_a_code() {
    assert_eq!(
        render("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}"),
        Err("fuel".into())
    );
    let repeat = render("{% for a in range(9000) %}{{ 'x' * 1000 }}{% endfor %}");
    assert!(
        matches!(repeat.as_ref().map_err(String::as_str), Err("fuel" | "output-too-large")),
        "{repeat:?}"
    );
    let scope = Plain(json!({"value": {"x": "y".repeat(600_000)}}));
    let code = |source: &str| {
        let template = Template::compile(source, RootSet::RECORD).unwrap();
        template.render(&scope).map(|_| ()).map_err(|failure| failure.code.into_owned())
    };
    assert_eq!(code("{{ value.x }}{{ value.x }}"), Err("output-too-large".to_owned()));
    assert_eq!(
        code("{% if true %}{{ value.x }}{{ value.x }}{% endif %}"),
        Err("output-too-large".to_owned())
    );
    assert_eq!(code("{{ value.x }}"), Ok(()));
}

#[test]
fn a_large_record_is_no_endless_work() {
    let scope = Plain(json!({"value": {"x": " Some Words".repeat(80_000), "l": vec!["item"; 20_000]}}));
    for source in [
        "'zzz' in (value.x | lower | trim)",
        "value.x | split(' ') | length",
        "value.x | regex_find_all('zzz') | length",
        "value.x | sha256",
        "value.l | map('upper') | unique | join(',')",
        "value.x | fold | length",
    ] {
        let expression = Expression::compile(source, RootSet::RECORD).unwrap();
        assert!(expression.eval(&scope).is_ok(), "{source}: {:?}", expression.eval(&scope).err());
    }
}

#[test]
fn a_key_that_is_no_text_fails_only_where_it_is_touched() {
    let scope = Plain(json!({"key": false, "value": {"a": 1}}));
    let code = |source: &str| {
        let expression = Expression::compile(source, RootSet::RECORD).unwrap();
        let seen = expression.eval(&scope).map(|_| ()).map_err(|failure| failure.code.into_owned());
        assert_eq!(seen, expression.eval_interpreted(&scope).map(|_| ()).map_err(|f| f.code.into_owned()));
        seen
    };
    assert_eq!(code("value.a == 1 or key == 'x'"), Ok(()));
    assert_eq!(code("key == 'x'"), Err("key-not-text".to_owned()));
    assert_eq!(code("key | upper"), Err("key-not-text".to_owned()));
}

#[test]
fn urls_take_encoded_data_behind_a_host_from_the_config() {
    let url = |source: &str| {
        let template = Template::compile_url(source, RootSet::RECORD).map_err(|error| error.mistake)?;
        let scope =
            Plain(json!({"value": {"id": "a/b?c=ü&d", "up": ".."}, "env": {"url": "http://h:1/base"}}));
        Ok(template
            .text(&scope)
            .map(|text| text.unwrap().into_owned())
            .map_err(|failure| failure.code.into_owned()))
    };
    assert_eq!(url("http://h/{{ value.id }}"), Ok(Ok("http://h/a%2Fb%3Fc%3D%C3%BC%26d".to_owned())));
    assert_eq!(
        url("{{ env.url }}/x/{{ value.id }}"),
        Ok(Ok("http://h:1/base/x/a%2Fb%3Fc%3D%C3%BC%26d".to_owned()))
    );
    assert_eq!(url("http://h/{{ value.up }}/admin"), Ok(Err("url".to_owned())));
    for source in [
        "{{ value.id }}",
        "http://{{ value.id }}/x",
        "http://h{{ value.id }}",
        "{{ env.url }}{{ value.id }}",
        "http{{ value.id }}://h/",
        "//{{ value.id }}/",
        "http:///{{ value.id }}/",
        "https:////{{ value.id }}",
        "{{ env.url }}:///{{ value.id }}/",
        "http://{{ env.url }}{{ value.id }}/",
        "/{{ value.id }}",
    ] {
        assert_eq!(url(source), Err(Mistake::Data), "{source}");
    }
    assert_eq!(url("{% if true %}http://h{% endif %}"), Err(Mistake::Syntax));
}

#[test]
fn the_roots_that_are_read_are_known() {
    let reads = |source: &str| Expression::compile(source, RootSet::RECORD).unwrap().reads();
    assert_eq!(reads("1"), RootSet::EMPTY);
    assert_eq!(reads("value.text[1:3] ~ key"), RootSet::EMPTY.with(Root::Value).with(Root::Key));
    let template =
        Template::compile("{% for s in steps.crm %}{{ headers.a }}{% endfor %}", RootSet::RECORD).unwrap();
    assert_eq!(template.reads(), RootSet::EMPTY.with(Root::Steps).with(Root::Headers));
    let [named] = template.names() else { panic!("{:?}", template.names()) };
    assert_eq!((named.root, &*named.name, named.range.clone()), (Root::Steps, "crm", 12..21));
}

#[test]
fn names_below_env_have_the_place_where_they_stand_as_such() {
    let names = |source: &str| {
        let template = Template::compile(source, RootSet::RECORD).unwrap();
        let named = |named: &Named| (named.name.clone(), source[named.range.clone()].to_owned());
        template.names().iter().map(named).collect::<Vec<_>>()
    };
    let of = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    assert_eq!(names("https://env.example.com/{{ env.path }}"), [of("path", "env.path")]);
    assert_eq!(names("{{ value.slots > env.slots }}"), [of("slots", "env.slots")]);
    assert_eq!(names("{{ env['a-b'] }}/{{ env[\"c\"] }}"), [of("a-b", "env['a-b']"), of("c", "env[\"c\"]")]);
    assert!(names("{{ 'env.x' }} {{ env[value.name] }}").is_empty());
    let whole = Template::compile("{{ env[value.name] }}", RootSet::RECORD).unwrap();
    assert_eq!(whole.reads_whole(), RootSet::EMPTY.with(Root::Env));
}

#[test]
fn every_mistake_of_a_text_is_told() {
    let told = |source: &str| {
        let error = Template::compile(source, RootSet::RECORD).unwrap_err();
        error.each().map(|error| source[error.range].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(told("{{ valu.x | uper }} {{ nope }}"), ["valu", "uper", "nope"]);
    assert_eq!(told("{% if valu %}{{ nope }}{% endif %}"), ["valu", "nope"]);
}

#[test]
fn a_hyphen_behind_a_dot_is_told_as_such() {
    let told = |source: &str| {
        let error = Expression::compile(source, RootSet::RECORD).unwrap_err();
        assert!(error.more.is_empty(), "{error:?}");
        (source[error.range].to_owned(), error.suggestion.unwrap_or_default())
    };
    assert_eq!(told("env.crm-url"), ("env.crm-url".to_owned(), "env['crm-url']".to_owned()));
    assert_eq!(told("1 + steps.a.b-c-d"), ("steps.a.b-c-d".to_owned(), "steps.a['b-c-d']".to_owned()));
    assert!(Expression::compile("value.a-value.b", RootSet::RECORD).is_ok());
    assert!(Expression::compile("env.a - 1", RootSet::RECORD).is_ok());
}

#[test]
fn constant_arguments_that_can_never_work_are_found_when_compiling() {
    let told = |source: &str| {
        let error = Expression::compile(source, RootSet::RECORD).unwrap_err();
        (error.mistake, source[error.range].to_owned(), error.suggestion)
    };
    let wrong =
        |text: &str, near: Option<&str>| (Mistake::Argument, text.to_owned(), near.map(str::to_owned));
    assert_eq!(told("timestamp | format_time('%Y', timezone='Mars')"), wrong("'Mars'", None));
    assert_eq!(
        told("timestamp | format_time('%Y', timezone='Europe/Berln')"),
        wrong("'Europe/Berln'", Some("Europe/Berlin"))
    );
    assert_eq!(told("timestamp | format_time('%Q')"), wrong("'%Q'", Some("%Y-%m-%d")));
    assert_eq!(told("value.x | parse_time('%d.%m.%!')"), wrong("'%d.%m.%!'", Some("%Y-%m-%d")));
    assert_eq!(told("value.x | regex_match('(a')"), wrong("'(a'", None));
    let large = "'((a{100}){100}){100}'";
    assert_eq!(told(&format!("value.x | regex_find({large})")), wrong(large, None));
    assert_eq!(told("value.x | uuid5('dnss')"), wrong("'dnss'", None));
    for fine in ["value.x | regex_match(value.p)", "timestamp | format_time('%F', timezone='UTC')"] {
        assert!(Expression::compile(fine, RootSet::RECORD).is_ok(), "{fine}");
    }
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Json::from),
        (-3i64..3).prop_map(Json::from),
        Just(json!(i64::MAX)),
        Just(json!(u64::MAX)),
        prop_oneof![Just(0.0), Just(1.0), Just(-0.5), Just(1e300)].prop_map(Json::from),
        "[ab1]{0,2}".prop_map(Json::from),
    ]
}

fn record() -> impl Strategy<Value = Json> {
    let inner = prop_oneof![
        3 => scalar(),
        1 => proptest::collection::vec(scalar(), 0..3).prop_map(Json::from),
        1 => proptest::collection::btree_map("[ab]", scalar(), 0..3).prop_map(|map| json!(map)),
    ];
    let value = prop_oneof![
        4 => proptest::collection::btree_map("[abc]", inner.clone(), 0..4).prop_map(|map| json!(map)),
        1 => inner,
    ];
    (value, prop_oneof![Just(json!(null)), "[ab]{0,2}".prop_map(Json::from), Just(json!(false))]).prop_map(
        |(value, key)| json!({"value": value, "key": key, "offset": 7, "headers": {"a": "1", "b": null}}),
    )
}

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("value".to_owned()),
        "value\\.[abc]",
        "value\\.[abc]\\.[ab]",
        "value\\.[abc]\\[[012]\\]",
        "value\\['[ab]'\\]",
        "headers\\.[abc]",
        Just("headers".to_owned()),
        Just("key".to_owned()),
        Just("offset".to_owned()),
        Just("topic".to_owned()),
    ]
}

fn constant() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("none".to_owned()),
        Just("true".to_owned()),
        "-?[0-3]",
        Just("1.0".to_owned()),
        "'[ab1]{0,2}'",
        Just("['a', 1, none, 'b']".to_owned()),
        Just("[]".to_owned()),
    ]
}

fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => path(),
        2 => constant(),
        1 => path().prop_map(|path| format!("{path} is defined")),
        1 => path().prop_map(|path| format!("{path} is not none")),
        1 => path().prop_map(|path| format!("{path} is undefined")),
        1 => (path(), constant()).prop_map(|(path, other)| format!("{path} | default({other})")),
    ];
    leaf.prop_recursive(3, 12, 2, |inner| {
        let operator = prop_oneof![
            Just("=="),
            Just("!="),
            Just("<"),
            Just("<="),
            Just(">"),
            Just(">="),
            Just("in"),
            Just("not in"),
            Just("and"),
            Just("or"),
        ];
        prop_oneof![
            4 => (inner.clone(), operator, inner.clone()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})")),
            1 => inner.clone().prop_map(|a| format!("not ({a})")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, c, b)| format!("({a}) if ({c}) else ({b})")),
        ]
    })
}

fn outcome(result: Result<Json, Failure>) -> Result<Json, String> {
    result.map_err(|failure| failure.code.into_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_fast_way_and_the_interpreter_agree_on_expressions(source in expression(), record in record()) {
        let compiled = Expression::compile(&source, RootSet::RECORD).unwrap();
        let scope = Plain(record);
        let fast = outcome(compiled.eval(&scope).map(|value| value.into_owned()));
        let slow = outcome(compiled.eval_interpreted(&scope));
        prop_assert_eq!(fast, slow, "{}", source);
        let truthy = compiled.truthy(&scope).map_err(|failure| failure.code.into_owned());
        let asked = Expression::compile(&format!("not not ({source})"), RootSet::RECORD).unwrap();
        let asked = outcome(asked.eval_interpreted(&scope)).map(|truth| truth == json!(true));
        prop_assert_eq!(truthy, asked, "{}", source);
    }

    #[test]
    fn the_fast_way_and_the_interpreter_agree_on_templates(
        parts in proptest::collection::vec(prop_oneof![path().prop_map(|path| format!("{{{{ {path} }}}}")), "[a-c ]{0,3}"], 0..4),
        record in record(),
    ) {
        let source = parts.concat();
        let compiled = Template::compile(&source, RootSet::RECORD).unwrap();
        let scope = Plain(record);
        let fast = outcome(compiled.render(&scope).map(|value| value.into_owned()));
        prop_assert_eq!(fast, outcome(compiled.render_interpreted(&scope)), "{}", source);
    }

    #[test]
    fn a_tree_written_as_text_is_the_tree_rendered(
        sources in proptest::collection::vec((any::<String>(), path()), 0..4),
        record in record(),
    ) {
        let leaf = |path: &str| Template::compile(&format!("{{{{ {path} }}}}"), RootSet::RECORD).unwrap();
        let fields: std::collections::BTreeMap<_, _> = sources.into_iter().collect();
        let items = fields.values().map(|path| TemplateTree::Leaf(leaf(path))).collect();
        let mut tree: Vec<_> =
            fields.iter().map(|(name, path)| (name.clone(), TemplateTree::Leaf(leaf(path)))).collect();
        tree.push(("list\n".to_owned(), TemplateTree::Array(items)));
        tree.push(("constant".to_owned(), TemplateTree::Constant(json!({"a": [1.5, null]}))));
        let (tree, scope) = (TemplateTree::Object(tree), Plain(record));
        let mut text = Vec::new();
        let written = tree.write_json(&scope, &mut text);
        match tree.render(&scope) {
            Ok(value) => prop_assert_eq!(text, serde_json::to_vec(&value).unwrap()),
            Err(failure) => prop_assert_eq!(written.unwrap_err(), failure),
        }
    }

    #[test]
    fn no_text_makes_the_compiler_panic(source in "[a-z{}%'\"\\[\\](). |=<>0-9#-]{0,24}") {
        let _ = Expression::compile(&source, RootSet::RECORD);
        let _ = Template::compile(&source, RootSet::RECORD);
        let _ = Template::compile_url(&source, RootSet::RECORD);
    }
}

#[test]
fn bombs_in_one_call_are_refused_before_they_grow() {
    let scope = Plain(json!({"value": {"x": "y".repeat(500_000), "l": vec![0; 20_000]}}));
    for source in [
        "'x' * 1000000000",
        "[1] * 1000000000",
        "range(1000000000) | list",
        "value.x | indent(1000000000)",
        "'%999999999d' | format(1)",
        "value.x | replace('y', value.x)",
        "value.x | replace('', value.x)",
        "value.l | join(value.x)",
        "value.x | regex_replace('y', value.x)",
        "value.x | regex_replace('(y+)', '$1$1$1$1$1$1$1$1$1')",
        "value.x | regex_replace('y+', '$0' * 100000)",
        "[1] | batch(1000000000, 0) | list",
        "[1] | slice(1000000000, 0) | list",
        "2 ** 1000000000",
        "value.x ~ value.x ~ value.x",
    ] {
        let expression = Expression::compile(source, RootSet::RECORD).unwrap();
        let code = expression
            .eval(&scope)
            .map(|value| value.to_string().len())
            .map_err(|failure| failure.code.into_owned());
        assert!(
            matches!(code.as_ref().map_err(String::as_str), Err("fuel" | "output-too-large" | "expression")),
            "{source}: {code:?}"
        );
    }
}
