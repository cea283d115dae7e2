//! Codes about files and TOML itself.

codes! {
    TOML_SYNTAX: Error "toml::syntax", "A file is not valid TOML",
        "The file cannot be read as TOML at this place. The parser goes on behind it, so that one run shows several such places; what refers to this file is not judged until it can be read.",
        "[topics.orders\npartitions = 6" => "[topics.orders]\npartitions = 6";
    TOML_DUPLICATE_KEY: Error "toml::duplicate-key", "A key or table is written twice in one file",
        "TOML allows each key and each table header once. Two tables of one name would hide each other.",
        "[topics.orders]\npartitions = 6\npartitions = 12" => "[topics.orders]\npartitions = 12";
    TOML_REDEFINED: Error "toml::redefined", "A value is extended behind its closing brace",
        "An inline table `{ … }` is complete where it closes; dotted keys cannot add to it later, and neither to a value that is no table.",
        "[[stages.enrich.steps]]\nhttp = { client = \"crm\" }\nhttp.path = \"/tenants\"" => "[[stages.enrich.steps]]\nhttp.client = \"crm\"\nhttp.path   = \"/tenants\"";
    TOML_BAD_ESCAPE: Error "toml::bad-escape", "A backslash in a double-quoted string is not an escape",
        "In \"…\" a backslash starts an escape such as \\n or \\\". Regular expressions and paths belong in single quotes, where a backslash is itself.",
        "filter = \"value.id | regex_match('\\d+')\"" => "filter = 'value.id | regex_match(\"\\d+\")'";
    TOML_KEY_AFTER_STEPS: Error "toml::key-after-steps", "A stage's key is written after its first [[…steps]] or [[…outputs]]",
        "In TOML a key belongs to the nearest header above it. Below [[stages.x.steps]], [[stages.x.outputs]] or [stages.x.steps.http] it belongs to that step or output, not to the stage.",
        "[stages.enrich]\nfrom = \"orders\"\n\n[[stages.enrich.steps]]\nfilter = \"value.ok\"\nto = \"shipped\"" => "[stages.enrich]\nfrom = \"orders\"\nto   = \"shipped\"\n\n[[stages.enrich.steps]]\nfilter = \"value.ok\"";
    TOML_KEY_IN_MAP: Warning "toml::key-in-map", "What looks like a stage's key is a field of a `map` or `set`",
        "Below [stages.x.steps.map] every key is a field of the new value. One that is a key of stages, with a value that the stage would take, most likely belongs to the stage.",
        "[topics.orders]\n\n[stages.enrich]\nfrom = \"orders\"\n\n[[stages.enrich.steps]]\n[stages.enrich.steps.map]\nid = \"{{ value.id }}\"\nconcurrency = 8" => "[topics.orders]\n\n[stages.enrich]\nfrom = \"orders\"\nconcurrency = 8\n\n[[stages.enrich.steps]]\n[stages.enrich.steps.map]\nid = \"{{ value.id }}\"";
    TOML_UNQUOTED_DOTS: Error "toml::unquoted-dots", "A name with dots is written without quotes",
        "TOML reads every dot in a header as a table within a table, so an unquoted name with dots is several names.",
        "[topics.raw.connector.events]\npartitions = 6" => "[topics.\"raw.connector.events\"]\npartitions = 6";
    TOML_MULTI_LINE_INLINE_TABLE: Warning "toml::multi-line-inline-table", "An inline table spans several lines",
        "TOML 1.1 allows it, but most editors, formatters and other readers know TOML 1.0 and refuse the file.",
        "[retries.gentle]\nbackoff = {\n  initial = \"1s\",\n  max = \"1m\",\n}" => "[retries.gentle]\nbackoff.initial = \"1s\"\nbackoff.max     = \"1m\"";
    TOML_NEWER_SYNTAX: Warning "toml::newer-syntax", "Syntax of TOML 1.1 that other readers refuse",
        "TOML 1.1 allows a comma behind the last entry of an inline table, the escapes \\e and \\xHH and times without seconds. Most editors, formatters and other readers know TOML 1.0 and refuse the file.",
        "[topics.orders]\nlabels = { tier = \"gold\", }" => "[topics.orders]\nlabels = { tier = \"gold\" }";
    FILE_NOT_UTF8: Error "file::not-utf8", "A file is not UTF-8",
        "Config files are UTF-8 text. The finding names the first byte that is not.",
        "description = \"M\\xFCnchen\"  # saved as Latin-1" => "description = \"München\"  # saved as UTF-8";
    ROOT_NO_PIPELINES: Error "root::no-pipelines", "The config root has no pipelines folder",
        "A config root is a folder with pipelines/**/*.toml. A wrong folder must not look like an empty config.",
        "biplane check --config pipelines" => "biplane check --config .";
    SECTION_UNKNOWN: Error "section::unknown", "A top-level table is no section",
        "Only the sections of the reference may stand at the top of a file.",
        "[topic.orders]\npartitions = 6" => "[topics.orders]\npartitions = 6";
    KEY_UNKNOWN: Error "key::unknown", "A key is not known here",
        "An unknown key would be ignored in silence; a typing error must not change what runs.",
        "[topics.orders]\npartition = 6" => "[topics.orders]\npartitions = 6";
    KEY_MISSING: Error "key::missing", "A required key is missing",
        "The table makes no sense without it.",
        "[stages.enrich]\nto = \"orders\"" => "[stages.enrich]\nfrom = \"raw.orders\"\nto   = \"orders\"";
    KEY_CONFLICT: Error "key::conflict", "Two keys exclude each other",
        "Both say the same thing in different ways; which one counts would be a guess.",
        "[stages.enrich]\nfrom = \"raw\"\nto = \"orders\"\n\n[[stages.enrich.outputs]]\nto = \"orders\"" => "[stages.enrich]\nfrom = \"raw\"\nto   = \"orders\"";
    NAME_INVALID: Error "name::invalid", "A name has characters that names cannot have",
        "Names become parts of topics, groups, metrics and URLs, so they are lower-case letters, digits, dots, underscores and hyphens and begin with a letter.",
        "[stages.\"My Stage\"]\nfrom = \"orders\"" => "[stages.my-stage]\nfrom = \"orders\"";
    NAME_DUPLICATE: Error "name::duplicate", "A name is defined twice",
        "Names are identities across all files of a config root. Both places are shown; rename or remove one.",
        "# pipelines/a.toml\n[topics.orders]\n\n# pipelines/b.toml\n[topics.orders]" => "# pipelines/a.toml\n[topics.orders]\n\n# pipelines/b.toml\n[topics.shipments]";
    NAME_UNUSED: Warning "name::unused", "A definition is used by nothing",
        "Nothing names it, so it changes nothing; perhaps the name is misspelt where it is meant.",
        "[retries.gentle]\nmax_attempts = 5\n\n[stages.enrich]\nfrom = \"orders\"" => "[retries.gentle]\nmax_attempts = 5\n\n[stages.enrich]\nfrom = \"orders\"\nretry = \"gentle\"";
}
