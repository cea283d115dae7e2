//! Codes about topics, DLQs, retries and stages.

codes! {
    TOPIC_UNDEFINED: Error "topic::undefined", "A stage names a topic that is not defined",
        "Every topic that a stage reads or writes is a `[topics.NAME]` table somewhere in the config root; a topic of another system is declared with `external = true`.",
        "[stages.enrich]\nfrom = \"ordres\"" => "[topics.orders]\npartitions = 6\n\n[stages.enrich]\nfrom = \"orders\"";
    TOPIC_PHYSICAL_DUPLICATE: Error "topic::physical-duplicate", "Two tables mean the same topic on the broker",
        "Two identities for one topic would fight over its settings, and edges between stages would go unseen.",
        "[topics.a]\ntopic = \"orders\"\n\n[topics.orders]" => "[topics.a]\ntopic = \"orders.a\"\n\n[topics.orders]";
    TOPIC_NAME: Error "topic::name", "A topic's name is not one that Kafka takes",
        "Kafka allows letters, digits, `.`, `_` and `-`, at most 249 of them, and not `.` or `..`.",
        "[topics.orders]\ntopic = \"orders/eu\"" => "[topics.orders]\ntopic = \"orders.eu\"";
    TOPIC_SETTING_CONFLICT: Error "topic::setting-conflict", "A broker setting is given in two ways",
        "`retention`, `cleanup` and `max_message_bytes` set the broker's settings of the same meaning; naming one in `settings` as well is ambiguous.",
        "[topics.orders]\nretention = \"7d\"\nsettings.\"retention.ms\" = 1000" => "[topics.orders]\nretention = \"7d\"";
    TOPIC_EXTERNAL_SETTINGS: Error "topic::external-settings", "An external topic is given broker settings",
        "A topic with `external = true` belongs to another system: it is never created or changed, so its settings cannot be set here.",
        "[topics.orders]\nexternal = true\nretention = \"7d\"" => "[topics.orders]\nexternal = true";
    TOPIC_SCHEMA_CONFLICT: Error "topic::schema-conflict", "Two stages write a topic under different schemas",
        "A reader of the topic can rely on one schema only. The last `validate` of each writer has to name the same file, that of the topic if it has one.",
        "[topics.orders]\nschema = \"order.json\"\n\n[stages.import]\nfrom = \"raw\"\nto = \"orders\"\n\n[[stages.import.steps]]\nvalidate = \"legacy-order.json\"" => "[topics.orders]\nschema = \"order.json\"\n\n[stages.import]\nfrom = \"raw\"\nto = \"orders\"\n\n[[stages.import.steps]]\nvalidate = \"order.json\"";
    SCHEMA_MISSING: Error "schema::missing", "A schema file does not exist",
        "Schemas are named relative to the folder schemas/ of the config root.",
        "[topics.orders]\nschema = \"ordr.json\"" => "[topics.orders]\nschema = \"order.json\"";
    SCHEMA_INVALID: Error "schema::invalid", "A schema file is no JSON Schema",
        "The file is not JSON, or not a schema of the draft that its `$schema` names, or refers to a file outside schemas/.",
        "{ \"type\": \"strin\" }" => "{ \"type\": \"string\" }";
    DLQ_UNDEFINED: Error "dlq::undefined", "A stage names a DLQ that is not defined",
        "The name after `dlq` refers to `[dlqs.NAME]`.",
        "[stages.enrich]\nfrom = \"orders\"\ndlq = \"ordrs\"" => "[dlqs.orders]\n\n[stages.enrich]\nfrom = \"orders\"\ndlq = \"orders\"";
    DLQ_MISSING: Error "dlq::missing", "A stage dead-letters but names no DLQ",
        "The stage's retry policy, `unmatched` or `tombstones` says dead-letter, so there must be a place for the record.",
        "[stages.enrich]\nfrom = \"orders\"" => "[dlqs.orders]\n\n[stages.enrich]\nfrom = \"orders\"\ndlq = \"orders\"";
    DLQ_SMALL: Warning "dlq::small", "A DLQ takes smaller records than its stages read",
        "A dead letter is the original record with headers that say why, up to 64 KiB of them. A record that is too large for the DLQ loses its value there. Left out, `max_message_bytes` of a DLQ is that of its inputs plus 64 KiB; a topic without one takes the broker's 1 MiB.",
        "[topics.orders]\nmax_message_bytes = \"8MiB\"\n\n[dlqs.orders]\nmax_message_bytes = \"1MiB\"\n\n[stages.enrich]\nfrom = \"orders\"\ndlq = \"orders\"" => "[topics.orders]\nmax_message_bytes = \"8MiB\"\n\n[dlqs.orders]\n\n[stages.enrich]\nfrom = \"orders\"\ndlq = \"orders\"";
    DLQ_FEEDS_ITSELF: Error "dlq::feeds-itself", "A stage dead-letters into a topic that it reads",
        "A record that always fails would go round for ever. Read a DLQ's topic in a stage with another DLQ.",
        "[topics.\"orders.dlq\"]\nexternal = true\n\n[dlqs.orders]\ntopic = \"orders.dlq\"\n\n[stages.repair]\nfrom = \"orders.dlq\"\ndlq = \"orders\"" => "[topics.\"orders.dlq\"]\nexternal = true\n\n[dlqs.orders]\ntopic = \"orders.dlq\"\n\n[dlqs.repair]\n\n[stages.repair]\nfrom = \"orders.dlq\"\ndlq = \"repair\"";
    RETRY_UNDEFINED: Error "retry::undefined", "A retry policy is not defined",
        "The name after `retry` refers to `[retries.NAME]`; `built-in` is always there.",
        "[stages.enrich]\nfrom = \"orders\"\nretry = \"gentel\"" => "[retries.gentle]\nmax_attempts = 5\n\n[stages.enrich]\nfrom = \"orders\"\nretry = \"gentle\"";
    RETRY_NO_ATTEMPTS: Error "retry::no-attempts", "A retry policy allows no attempt",
        "`max_attempts` counts the first try; 1 means no second one.",
        "[retries.never]\nmax_attempts = 0" => "[retries.never]\nmax_attempts = 1";
    RETRY_BACKOFF: Error "retry::backoff", "A retry policy's waits make no sense",
        "The longest wait is not under the first one, and the factor is at least 1.",
        "[retries.gentle]\nbackoff = { initial = \"10s\", max = \"1s\" }" => "[retries.gentle]\nbackoff = { initial = \"1s\", max = \"10s\" }";
    RETRY_NOTHING: Error "retry::nothing", "A retry policy retries nothing",
        "`not_on` takes back all that `on` gives. Where nothing is to be tried again, `max_attempts = 1` says so.",
        "[retries.gentle]\non = [\"transient\"]\nnot_on = [\"transient\"]" => "[retries.gentle]\non = [\"transient\"]\nnot_on = [\"http-501\"]";
    RETRY_DEADLINE: Error "retry::deadline", "A single wait is longer than the stage's record deadline",
        "A record is given up at its deadline, so the waits behind it never happen.",
        "[retries.slow]\nbackoff.delays = [\"1h\"]\n\n[stages.enrich]\nretry = \"slow\"\ndeadline = \"10m\"" => "[retries.slow]\nbackoff.delays = [\"1h\"]\n\n[stages.enrich]\nretry = \"slow\"\ndeadline = \"3h\"";
    RETRY_BEYOND_DEADLINE: Warning "retry::beyond-deadline", "A retry policy's waits add up to more than the record's deadline",
        "A record is given up at the stage's `deadline`, so the last attempts never come. Computed waits are counted with their jitter at half.",
        "[retries.slow]\nmax_attempts = 6\ndelays = [\"5m\"]\n\n[topics.orders]\n\n[stages.enrich]\nfrom = \"orders\"\nretry = \"slow\"\ndeadline = \"10m\"" => "[retries.slow]\nmax_attempts = 6\ndelays = [\"1m\"]\n\n[topics.orders]\n\n[stages.enrich]\nfrom = \"orders\"\nretry = \"slow\"\ndeadline = \"10m\"";
    RETRY_UNKNOWN_CODE: Warning "retry::unknown-code", "A retry policy names a code that nothing gives",
        "`on` and `not_on` hold classes (`transient`), codes of the engine (`timeout`, `http-503`), codes of `fail` steps, and patterns of them (`http-5xx`, `http-*`). A word that is none of these matches no failure, so nothing is retried for it.",
        "[retries.gentle]\non = [\"transcient\"]" => "[retries.gentle]\non = [\"transient\"]";
    RETRY_POINTLESS: Warning "retry::pointless", "A key of a retry policy has no effect on steps",
        "A step that has used up its own attempts hands the failure to the stage, whose policy decides what becomes of the record; and a step waits in place always. `on_exhausted` and `in_place_up_to` of a policy that only steps name are never looked at.",
        "[retries.quick]\non_exhausted = \"drop\"\n\n[http_clients.crm]\nbase_url = \"http://crm\"\n\n[[stages.a.steps]]\nhttp.client = \"crm\"\nretry = \"quick\"" => "[retries.quick]\nmax_attempts = 2\n\n[http_clients.crm]\nbase_url = \"http://crm\"\n\n[[stages.a.steps]]\nhttp.client = \"crm\"\nretry = \"quick\"";
    RETRY_PARKED: Warning "retry::parked", "A stage keeps waits in place that are longer than `in_place_up_to`",
        "Longer waits go to a parking topic, but not of a stage with `order = \"partition\"`, where all that comes after would have to follow, nor of one with `dedupe`, where equal records wait for each other. There they are kept in the lane, where they hold the records behind them and the stage's window.",
        "[retries.gentle]\nmax_attempts = 6\nbackoff = { initial = \"1s\", max = \"1m\" }\nin_place_up_to = \"5s\"\n\n[topics.orders]\n\n[stages.a]\nfrom = \"orders\"\nretry = \"gentle\"\norder = \"partition\"" => "[retries.gentle]\nmax_attempts = 6\nbackoff = { initial = \"1s\", max = \"1m\" }\nin_place_up_to = \"5s\"\n\n[topics.orders]\n\n[stages.a]\nfrom = \"orders\"\nretry = \"gentle\"";
    STAGE_CYCLE: Error "stage::cycle", "Stages feed each other in a circle",
        "A record could go round for ever: by outputs, or by way of a DLQ whose topic a stage reads to send records back. A loop that is meant needs `max_hops` on a stage that writes one of its topics; dead letters are not counted, so where a loop leaves a stage by its DLQ, the bound stands on another stage.",
        "[stages.a]\nfrom = \"x\"\nto = \"y\"\n\n[stages.b]\nfrom = \"y\"\nto = \"x\"" => "[stages.a]\nfrom = \"x\"\nto = \"y\"\nmax_hops = 3\n\n[stages.b]\nfrom = \"y\"\nto = \"x\"";
    STAGE_INPUT_TWICE: Error "stage::input-twice", "A stage reads one topic twice",
        "Each topic is read once by a stage, whatever the list says.",
        "[stages.a]\nfrom = [\"orders\", \"orders\"]" => "[stages.a]\nfrom = [\"orders\", \"refunds\"]";
    STAGE_UNFED: Warning "stage::unfed", "Nothing feeds a stage",
        "No stage writes the topic, while a topic of nearly the same name is written by a stage and read by none: one of the two names is most likely a slip. A topic that only others fill or read is an entry or an exit of the pipeline and needs no mark; where a slip is suspected wrongly, `external = true` says that another system fills it.",
        "[topics.raw]\n\n[topics.orders]\n\n[topics.order]\n\n[stages.a]\nfrom = \"raw\"\nto = \"orders\"\n\n[stages.b]\nfrom = \"order\"" => "[topics.raw]\n\n[topics.orders]\n\n[stages.a]\nfrom = \"raw\"\nto = \"orders\"\n\n[stages.b]\nfrom = \"orders\"";
    STAGE_LIMITS: Error "stage::limits", "Limits of a stage contradict each other",
        "`window.records` is at least `concurrency`, `span` times the partitions of the inputs allows for both, the largest record of the inputs fits `window.bytes`, and no step or call may take longer than the record's `deadline`; otherwise a limit can never be reached or nothing can move.",
        "[stages.a]\nfrom = \"orders\"\nconcurrency = 64\nwindow.records = 10" => "[stages.a]\nfrom = \"orders\"\nconcurrency = 64\nwindow.records = 10_000";
    STAGE_DECODE: Error "stage::decode", "Steps need JSON, but the stage decodes text or bytes",
        "With `decode = \"text\"` or `\"bytes\"` the value is one string, which has no fields to set; and with `\"bytes\"` an output can write nothing but a string. Every record would fail.",
        "[topics.raw]\n\n[topics.orders]\n\n[stages.import]\nfrom = \"raw\"\nto = \"orders\"\ndecode = \"bytes\"\n\n[[stages.import.steps]]\nmap.body = \"{{ value }}\"" => "[topics.raw]\n\n[topics.orders]\n\n[stages.import]\nfrom = \"raw\"\nto = \"orders\"\ndecode = \"text\"\n\n[[stages.import.steps]]\nmap.body = \"{{ value }}\"";
    STAGE_POINTLESS: Warning "stage::pointless", "A key has no effect here",
        "What the key governs cannot happen with the rest of the table.",
        "[stages.a]\nfrom = \"orders\"\nmatch = \"all\"   # and no outputs\n\n[[stages.a.steps]]\nlog = \"{{ key }}\"" => "[stages.a]\nfrom = \"orders\"\n\n[[stages.a.steps]]\nlog = \"{{ key }}\"";
    RATE_LIMIT_PER_ENGINE: Warning "rate-limit::per-engine", "A limit a key holds for each engine by itself",
        "All records of one key are in one partition, and a partition is read by one engine: a limit over the record's own key holds for the whole group. Records that share anything else are read by several engines, and each of them lets the whole rate through. `scope = \"engine\"` says that this is meant.",
        "[stages.a]\nfrom = \"orders\"\nrate_limit.per_key = { key = \"value.tenant\", rate = \"10/s\" }" => "[stages.a]\nfrom = \"orders\"   # keyed by tenant\nrate_limit.per_key = { key = \"key\", rate = \"10/s\" }";
    DEDUPE_KEY: Error "dedupe::key", "A key of `dedupe` tells no duplicates",
        "Records with the same key are taken for one: the first that is finished counts, the others are dropped. A key that all records of a partition share drops all but one of them; one that reads `offset` is shared by no two.",
        "[topics.orders]\n\n[topics.paid]\n\n[stages.pay]\nfrom = \"orders\"\nto = \"paid\"\ndedupe = { key = \"offset\", window = \"1d\" }" => "[topics.orders]\n\n[topics.paid]\n\n[stages.pay]\nfrom = \"orders\"\nto = \"paid\"\ndedupe = { key = \"value.id\", window = \"1d\" }";
    DELIVERY_UNKEPT: Error "delivery::unkept", "A stage cannot keep its `delivery`",
        "`exactly-once` holds between Kafka topics, or within the database that the stage writes: what is done elsewhere for a transaction that is aborted is done again. An `http` step therefore asks with GET or HEAD, or says with `repeatable = true` that asking twice changes nothing. And a transaction may not stay open for long, so `commit_interval` is at most 10s.",
        "[topics.orders]\n\n[topics.paid]\n\n[stages.pay]\nfrom = \"orders\"\nto = \"paid\"\ndelivery = \"exactly-once\"\ncommit_interval = \"1m\"" => "[topics.orders]\n\n[topics.paid]\n\n[stages.pay]\nfrom = \"orders\"\nto = \"paid\"\ndelivery = \"exactly-once\"\ncommit_interval = \"1s\"";
    DELIVERY_TWO_PLACES: Error "delivery::two-places", "An exactly-once stage writes in two places",
        "A stage is exactly-once where all that it writes, and how far it has read, is one transaction. Kafka's holds topics and a database's holds that database; nothing holds both, or two databases, so that a crash between them would leave one without the other. Marks of `dedupe` lie in Kafka, too. Split the stage: one that writes the database, one that writes the topics.",
        "[topics.orders]\n\n[topics.paid]\n\n[stages.pay]\nfrom = \"orders\"\nto = \"paid\"\ndelivery = \"exactly-once\"\n\n[[stages.pay.steps]]\nsql.text = \"insert into payments (id) values (:id)\"\nsql.bind = { id = \"{{ value.id }}\" }" => "[topics.orders]\n\n[stages.pay]\nfrom = \"orders\"\ndelivery = \"exactly-once\"\n\n[[stages.pay.steps]]\nsql.text = \"insert into payments (id) values (:id)\"\nsql.bind = { id = \"{{ value.id }}\" }";
    DELIVERY_WRITES_LAST: Error "delivery::writes-last", "Something follows what an exactly-once stage writes",
        "A stage that is exactly-once in a database carries out its statements when all steps of its records have ended, in the order of offsets and in the transaction that moves the offset. So nothing can stand behind them but further statements, and no step can look at what they give.",
        "[topics.orders]\n\n[stages.pay]\nfrom = \"orders\"\ndelivery = \"exactly-once\"\n\n[[stages.pay.steps]]\nsql.text = \"insert into payments (id) values (:id)\"\nsql.bind = { id = \"{{ value.id }}\" }\n\n[[stages.pay.steps]]\nfilter = \"value.urgent\"" => "[topics.orders]\n\n[stages.pay]\nfrom = \"orders\"\ndelivery = \"exactly-once\"\n\n[[stages.pay.steps]]\nfilter = \"value.urgent\"\n\n[[stages.pay.steps]]\nsql.text = \"insert into payments (id) values (:id)\"\nsql.bind = { id = \"{{ value.id }}\" }";
    OUTPUT_UNREACHABLE: Warning "output::unreachable", "An output can never take a record",
        "With `match = \"first\"` an output without `when` takes every record that reaches it, so none reaches those below it.",
        "[[stages.a.outputs]]\nto = \"x\"\n\n[[stages.a.outputs]]\nto = \"y\"" => "[[stages.a.outputs]]\nto = \"x\"\nwhen = \"value.urgent\"\n\n[[stages.a.outputs]]\nto = \"y\"";
}
