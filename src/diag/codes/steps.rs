//! Codes about steps, expressions and templates.

codes! {
    STEP_UNKNOWN: Error "step::unknown", "A step's type is not known",
        "A step is a table with one key that names its type, beside `name`, `when`, `timeout` and `retry`.",
        "[[stages.a.steps]]\nfiltr = \"value.ok\"" => "[[stages.a.steps]]\nfilter = \"value.ok\"";
    STEP_NO_TYPE: Error "step::no-type", "A step has no type",
        "A step is a table with one key that names its type, beside `name`, `when`, `timeout` and `retry`.",
        "[[stages.a.steps]]\nname = \"only-urgent\"" => "[[stages.a.steps]]\nname = \"only-urgent\"\nfilter = \"value.urgent\"";
    STEP_SEVERAL_TYPES: Error "step::several-types", "A step has two types",
        "Steps run one after the other, in the order of the file; two in one table would have none.",
        "[[stages.a.steps]]\nfilter = \"value.ok\"\nvalidate = \"order.json\"" => "[[stages.a.steps]]\nfilter = \"value.ok\"\n\n[[stages.a.steps]]\nvalidate = \"order.json\"";
    STEP_NAME_DUPLICATE: Error "step::name-duplicate", "Two steps of one place have one name",
        "A step's name, its type where none is given, identifies it in results, metrics and diffs. Two steps of one type need names.",
        "[[stages.a.steps]]\nfilter = \"value.ok\"\n\n[[stages.a.steps]]\nfilter = \"value.urgent\"" => "[[stages.a.steps]]\nfilter = \"value.ok\"\n\n[[stages.a.steps]]\nname = \"only-urgent\"\nfilter = \"value.urgent\"";
    STEP_GROUP_UNDEFINED: Error "step-group::undefined", "A step group is not defined",
        "The name after `use` refers to `[[step_groups.NAME.steps]]`.",
        "[[stages.a.steps]]\nuse = \"tidi\"" => "[[step_groups.tidy.steps]]\ndrop = [\"debug\"]\n\n[[stages.a.steps]]\nuse = \"tidy\"";
    STEP_GROUP_CYCLE: Error "step-group::cycle", "A step group uses itself",
        "Groups are written out where they are used; one that contains itself has no end.",
        "[[step_groups.tidy.steps]]\nuse = \"tidy\"" => "[[step_groups.tidy.steps]]\ndrop = [\"debug\"]";
    EXPRESSION_SYNTAX: Error "expression::syntax", "An expression or a template cannot be read",
        "Expressions are bare (`value.kind == 'mail'`), templates are strings with `{{ … }}`. The finding shows where reading stopped.",
        "filter = \"value.kind == \"" => "filter = \"value.kind == 'mail'\"";
    EXPRESSION_BRACES: Error "expression::braces", "An expression is wrapped in `{{ }}`",
        "An expression is bare; braces belong to templates, which make text.",
        "filter = \"{{ value.ok }}\"" => "filter = \"value.ok\"";
    EXPRESSION_UNKNOWN: Error "expression::unknown", "An expression names something that does not exist",
        "Variables, filters, functions and tests are checked before anything runs, so that a typing error is found here and not with the first record.",
        "filter = \"valu.kind | lowercase == 'mail'\"" => "filter = \"value.kind | lower == 'mail'\"";
    EXPRESSION_UNKNOWN_STEP: Error "expression::unknown-step", "An expression reads the result of a step that has not run",
        "`steps.NAME` is the result of an earlier step of the same stage.",
        "[[stages.a.steps]]\nname = \"tenant\"\nhttp.url = \"http://crm/tenants\"\n\n[[stages.a.steps]]\nset.tenant = \"{{ steps.tenent.body }}\"" => "[[stages.a.steps]]\nname = \"tenant\"\nhttp.url = \"http://crm/tenants\"\n\n[[stages.a.steps]]\nset.tenant = \"{{ steps.tenant.body }}\"";
    EXPRESSION_ARGUMENT: Error "expression::argument", "An argument of a filter can never work",
        "A pattern that is no regular expression, a form that strftime does not know, a time zone or a namespace that does not exist: every record would fail with the code `expression`.",
        "[[stages.a.steps]]\nset.at = \"{{ timestamp | format_time('%H:%M', timezone='Europe/Berln') }}\"" => "[[stages.a.steps]]\nset.at = \"{{ timestamp | format_time('%H:%M', timezone='Europe/Berlin') }}\"";
    TEMPLATE_LOOKS_LIKE_PATH: Warning "template::looks-like-path", "A text looks like a path but is no template",
        "Where a template is expected, text without braces stands for itself: `\"value.kind\"` gives those ten letters, not the field.",
        "[[stages.a.steps]]\n[stages.a.steps.map]\nkind = \"value.kind\"" => "[[stages.a.steps]]\n[stages.a.steps.map]\nkind = \"{{ value.kind }}\"";
    TEMPLATE_URL_DATA: Error "template::url-data", "Message data forms the scheme or host of a URL",
        "Whoever writes records could make the engine call any address. Only text and `env` may stand before the path.",
        "[[stages.a.steps]]\nhttp.url = \"http://{{ value.host }}/orders\"" => "[[stages.a.steps]]\nhttp.url = \"{{ env.crm_url }}/orders/{{ value.id }}\"";
    STEP_BATCH_NEVER_FULL: Warning "step::batch-never-full", "A batch can never hold as many records as it waits for",
        "Records that wait in a batch hold places of the stage's `concurrency`. A batch that waits for more records than that never fills, so that every request goes out only after the whole `linger`.",
        "[stages.a]\nfrom = \"orders\"\nconcurrency = 16\n\n[[stages.a.steps]]\nhttp.url = \"http://scores/batch\"\nhttp.json = \"{{ value }}\"\nhttp.batch = { records = 50, linger = \"20ms\" }" => "[stages.a]\nfrom = \"orders\"\nconcurrency = 100\n\n[[stages.a.steps]]\nhttp.url = \"http://scores/batch\"\nhttp.json = \"{{ value }}\"\nhttp.batch = { records = 50, linger = \"20ms\" }";
    STEP_BATCH_LINGER: Error "step::batch-linger", "A batch waits for records as long as its step may take",
        "`timeout` bounds a record's whole run of the step, the wait in a batch with it. Where `linger` is as long, a batch that does not fill fails with `timeout` before it is sent.",
        "[[stages.a.steps]]\ntimeout = \"1s\"\nhttp.url = \"http://scores/batch\"\nhttp.json = \"{{ value }}\"\nhttp.batch = { records = 10, linger = \"2s\" }" => "[[stages.a.steps]]\ntimeout = \"5s\"\nhttp.url = \"http://scores/batch\"\nhttp.json = \"{{ value }}\"\nhttp.batch = { records = 10, linger = \"50ms\" }";
    STEP_JOBS_ONLY: Error "step::jobs-only", "A step, or a setting of one, has a meaning only in a job",
        "`http.callback_within` lets a job wait until the other side, which answered 202, calls back, and `wait` waits for that alone; `sql.repeat` goes on for as long as there is something left; `publish` sends an event once its job is done, where a stage has outputs. A record of a stage cannot wait so: its partition would stand still.",
        "[[stages.a.steps]]\nhttp.url = \"http://reports/make\"\nhttp.callback_within = \"1h\"" => "[[jobs.a.steps]]\nhttp.url = \"http://reports/make\"\nhttp.callback_within = \"1h\"";
    LOOKUP_MISSING: Error "lookup::missing", "A lookup table's file does not exist",
        "Tables are named relative to the folder lookups/ of the config root.",
        "[[stages.a.steps]]\nlookup.table = \"peopel.csv\"\nlookup.key = \"email\"\nlookup.by = \"value.from\"" => "[[stages.a.steps]]\nlookup.table = \"people.csv\"\nlookup.key = \"email\"\nlookup.by = \"value.from\"";
    LOOKUP_INVALID: Error "lookup::invalid", "A lookup table cannot be used",
        "The file is no CSV, JSON or TOML, a cell is not of its column's type, the key column is missing, or two rows have one key.",
        "email,name\na@x.com,Ann\na@x.com,Bob" => "email,name\na@x.com,Ann\nb@x.com,Bob";
    SQL_MISSING: Error "sql::missing", "A file with a statement does not exist",
        "Statements are named relative to the folder sql/ of the config root.",
        "[[jobs.a.steps]]\nsql.file = \"prun.sql\"" => "[[jobs.a.steps]]\nsql.file = \"prune.sql\"";
    SQL_STATEMENT: Error "sql::statement", "A text cannot be the statement of a step",
        "A step carries out one statement with named binds, in a transaction of its own and on a connection that others use next. The text is fixed: values come by binds, so that no data is ever read as SQL.",
        "[[jobs.a.steps]]\nsql.text = \"delete from notes where author = {{ args.author }}\"" => "[[jobs.a.steps]]\nsql.text = \"delete from notes where author = :author\"\nsql.bind.author = \"{{ args.author }}\"";
    SQL_BIND: Error "sql::bind", "The binds of a statement and what is given do not fit",
        "Each `:name` of the statement needs a value under `sql.bind`, and each value a `:name`. A `:` in a string, a comment or a cast (`::`) begins none.",
        "[[jobs.a.steps]]\nsql.text = \"delete from notes where id = :id\"\nsql.bind.note = \"{{ args.id }}\"" => "[[jobs.a.steps]]\nsql.text = \"delete from notes where id = :id\"\nsql.bind.id = \"{{ args.id }}\"";
    SQL_REPEAT: Error "sql::repeat", "A statement would be repeated without an end",
        "`repeat = \"until-zero\"` carries a statement out until it changes no row. One that only reads finds the same rows each time.",
        "[[jobs.a.steps]]\nsql.text = \"select 1\"\nsql.repeat = \"until-zero\"" => "[[jobs.a.steps]]\nsql.text = \"delete from notes where id in (select id from notes where old limit :batch)\"\nsql.repeat = \"until-zero\"\nsql.batch = 5000";
    EXEC_PROGRAM: Error "exec::program", "A program cannot be known before a record comes",
        "The first of `argv` says what is started, so it stands in the file as it is: a path below the config root, a whole path, or a name that is looked for in the engine's `PATH`. The others may be templates.",
        "[[jobs.a.steps]]\nexec.argv = [\"{{ args.program }}\", \"--fast\"]" => "[[jobs.a.steps]]\nexec.argv = [\"programs/render\", \"{{ args.kind }}\"]";
    EXEC_LINES: Error "exec::lines", "A program that lives from run to run hangs on one of them",
        "With `mode = \"lines\"` a program is started once and then answers a line for each record or job. What it is started with can only come from `env`.",
        "[[jobs.a.steps]]\nexec.argv = [\"programs/score\", \"{{ args.kind }}\"]\nexec.mode = \"lines\"" => "[[jobs.a.steps]]\nexec.argv = [\"programs/score\", \"{{ env.model }}\"]\nexec.mode = \"lines\"";
    EXEC_NOT_ALLOWED: Warning "exec::not-allowed", "Programs run only where the deployment allows it",
        "An engine does not start with such a step unless it is run with `--allow-exec`, or with `BIPLANE_ALLOW_EXEC=true`; a check with that variable says nothing of it.",
        "[[jobs.a.steps]]\nexec.argv = [\"programs/render\"]" => "[[jobs.a.steps]]\nhttp.url = \"http://render/make\"   # or: biplane run --allow-exec";
}
