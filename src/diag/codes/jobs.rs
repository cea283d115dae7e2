//! Codes about queues, jobs and databases.

codes! {
    QUEUE_UNDEFINED: Error "queue::undefined", "A job names a queue that is not defined",
        "The name after `queue` refers to `[queues.NAME]`.",
        "[queues.sync]\n\n[jobs.report]\nqueue = \"snyc\"" => "[queues.sync]\n\n[jobs.report]\nqueue = \"sync\"";
    QUEUE_LIMITS: Error "queue::limits", "Two limits of a queue contradict each other",
        "`global_concurrency` holds for all engines together, so neither one engine nor one key can ever have more jobs running than that.",
        "[queues.sync]\nconcurrency = 16\nglobal_concurrency = 8" => "[queues.sync]\nconcurrency = 4\nglobal_concurrency = 8";
    ARGS_PATH: Error "args::path", "A key of jobs is not a path into their args",
        "What tells jobs apart is known when they are enqueued, and SQL enqueues them as well. So it is a field of the args as it is (`args.tenant_id`, `args['tenant-id'].region`, or `args` for all of them) and nothing computed.",
        "[jobs.report]\nqueue = \"sync\"\nunique.by = [\"args.tenant | lower\"]" => "[jobs.report]\nqueue = \"sync\"\nunique.by = [\"args.tenant\"]";
    JOB_UNDEFINED: Error "job::undefined", "A job is enqueued that is not defined",
        "The name after `enqueue.kind` of a step, or after `on_exhausted.enqueue`, refers to `[jobs.NAME]`.",
        "[jobs.report]\nqueue = \"sync\"\non_exhausted.enqueue = \"tell-owne\"" => "[jobs.report]\nqueue = \"sync\"\non_exhausted.enqueue = \"tell-owner\"\n\n[jobs.tell-owner]\nqueue = \"sync\"";
    JOB_ARGS: Error "job::args", "A job is enqueued with args that it refuses",
        "The args of a step `enqueue` that are known before a record comes are checked against the `args_schema` of the job.",
        "[jobs.report]\nargs_schema = \"report.json\"\n\n[[jobs.all.steps]]\nenqueue.kind = \"report\"" => "[jobs.report]\nargs_schema = \"report.json\"\n\n[[jobs.all.steps]]\nenqueue.kind = \"report\"\nenqueue.args = { day = \"{{ args.day }}\" }";
    JOB_LOOP: Error "job::loop", "A job that is exhausted enqueues itself again",
        "`on_exhausted.enqueue` leads from one job to the next. Where it leads back, what always fails goes round for ever; one of them has to be kept for an operator.",
        "[jobs.report]\nqueue = \"sync\"\non_exhausted.enqueue = \"report\"" => "[jobs.report]\nqueue = \"sync\"";
    JOB_STEP: Error "job::step", "A step or a setting of one has no meaning in a job",
        "A job's steps work on one value that is no record: it has no headers, it does not become several, and it does not wait for others in a batch.",
        "[[jobs.report.steps]]\nexplode = \"args.parts\"" => "[[jobs.report.steps]]\nhttp.url = \"http://reports/make\"\nhttp.json = { parts = \"{{ args.parts }}\" }";
    JOB_PULLED: Error "job::pulled", "A job that pull workers do says what an engine should do",
        "The jobs of a queue with `workers = \"pull\"` are claimed over HTTP by programs of your own. No engine runs a step of them, so `steps` and `checkpoint` have no meaning there.",
        "[queues.render]\nworkers = \"pull\"\n\n[jobs.thumbnail]\nqueue = \"render\"\n\n[[jobs.thumbnail.steps]]\nhttp.url = \"http://thumbnails/make\"" => "[queues.render]\nworkers = \"pull\"\n\n[jobs.thumbnail]\nqueue = \"render\"";
    JOB_LIMITS: Error "job::limits", "A step may take longer than its job",
        "`timeout` of a job bounds a whole attempt, all its steps and their waits together. A step's own `timeout` beyond that is never reached.",
        "[jobs.report]\nqueue = \"sync\"\ntimeout = \"1m\"\n\n[[jobs.report.steps]]\ntimeout = \"5m\"\nhttp.url = \"http://reports/make\"" => "[jobs.report]\nqueue = \"sync\"\ntimeout = \"10m\"\n\n[[jobs.report.steps]]\ntimeout = \"5m\"\nhttp.url = \"http://reports/make\"";
    DATABASE_URL: Error "database::url", "A database's URL cannot be used",
        "A URL has the scheme postgres or postgresql and ends in the name of the database. What it holds is not shown, as there may be a password in it.",
        "[databases.app]\nurl = \"db.example.com/app\"" => "[databases.app]\nurl = \"postgres://app@db.example.com/app\"";
    DATABASE_UNDEFINED: Error "database::undefined", "A database is not defined",
        "The name after `sql.database` refers to `[databases.NAME]`. Left out, it is the engine's own.",
        "[databases.app]\nurl = \"{{ env.app_database_url }}\"\n\n[[jobs.a.steps]]\nsql.database = \"ap\"\nsql.text = \"select 1\"" => "[databases.app]\nurl = \"{{ env.app_database_url }}\"\n\n[[jobs.a.steps]]\nsql.database = \"app\"\nsql.text = \"select 1\"";
}
