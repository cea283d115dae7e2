//! Codes about values, the environment and secrets.

codes! {
    VALUE_TYPE: Error "value::type", "A value has the wrong type",
        "Each key takes one type. Numbers and booleans are written without quotes.",
        "[topics.orders]\npartitions = \"six\"" => "[topics.orders]\npartitions = 6";
    VALUE_UNIT: Error "value::unit", "A duration, size or rate has no unit or a wrong one",
        "Units are always written, so that nobody has to guess seconds or milliseconds.",
        "[http_clients.crm]\nbase_url = \"http://crm\"\ntimeout = \"5 parsecs\"" => "[http_clients.crm]\nbase_url = \"http://crm\"\ntimeout = \"5s\"";
    VALUE_RANGE: Error "value::range", "A number is out of range",
        "The value is outside the bounds within which the setting works.",
        "[topics.orders]\npartitions = 0" => "[topics.orders]\npartitions = 6";
    VALUE_WORD: Error "value::word", "A value is none of the words that the key takes",
        "The key takes one of a few words; the finding lists them.",
        "[stages.enrich]\nfrom = \"orders\"\norder = \"keys\"" => "[stages.enrich]\nfrom = \"orders\"\norder = \"key\"";
    VALUE_EMPTY: Error "value::empty", "A value is empty where it must not be",
        "An empty string or list here would mean nothing.",
        "[stages.enrich]\nfrom = []" => "[stages.enrich]\nfrom = [\"orders\"]";
    ENV_UNDEFINED: Error "env::undefined", "A template names an env value that is not defined",
        "`[env]` is the only door to the outside. A name has to be declared there before a template may use it.",
        "[http_clients.crm]\nbase_url = \"{{ env.crm_uri }}\"" => "[env]\ncrm_url = { var = \"CRM_URL\" }\n\n[http_clients.crm]\nbase_url = \"{{ env.crm_url }}\"";
    ENV_TYPE: Error "env::type", "An env value is not of its declared type",
        "The variable, the environment file or the default holds text that cannot be read as the declared type.",
        "[env]\nslots = { var = \"SLOTS\", type = \"integer\", default = \"many\" }" => "[env]\nslots = { var = \"SLOTS\", type = \"integer\", default = 16 }";
    ENV_MISSING: Error "env::missing", "An env value has neither a variable nor a default",
        "The engine needs every value before it starts. An offline check lets it pass unless it is run with `--require-env`.",
        "[env]\ncrm_token = { var = \"CRM_TOKEN\", secret = true }   # and CRM_TOKEN is not set" => "[env]\ncrm_token = { var = \"CRM_TOKEN\", secret = true }   # export CRM_TOKEN=…";
    ENV_TEMPLATE: Error "env::template", "A setting's template cannot be evaluated",
        "A setting may be a template over `env` alone; it is rendered when the config is loaded, when there is no record yet.",
        "[http_clients.crm]\nbase_url = \"http://{{ value.host }}\"" => "[http_clients.crm]\nbase_url = \"http://{{ env.crm_host }}\"";
    ENV_REFERENCE: Error "env::reference", "A reference or a name is written as a template",
        "References stay plain names, so that every edge of a pipeline is known without running it.",
        "[stages.enrich]\nfrom = \"{{ env.input }}\"" => "[stages.enrich]\nfrom = \"orders\"";
    ENVIRONMENT_UNDEFINED: Error "environment::undefined", "The chosen environment has no file",
        "`--environment NAME` reads environments/NAME.toml.",
        "biplane check --environment prod   # there is only environments/production.toml" => "biplane check --environment production";
    SECRET_LITERAL: Error "secret::literal", "A secret is written into a file",
        "Files are committed and shown. Secrets come from variables or mounted files, by way of `[env]` with `secret = true`. Found are credentials of clients, headers and query parameters whose names say so (`authorization`, `private-token`, `api_key`), and passwords in URLs.",
        "[http_clients.crm]\nbase_url = \"https://crm\"\nbearer = \"s3cr3t\"" => "[env]\ncrm_token = { var = \"CRM_TOKEN\", secret = true }\n\n[http_clients.crm]\nbase_url = \"https://crm\"\nbearer = \"{{ env.crm_token }}\"";
    SECRET_NOT_MARKED: Warning "secret::not-marked", "A credential comes from an env value that is not marked as secret",
        "Only values marked `secret = true` are kept out of listings, errors and logs.",
        "[env]\ncrm_token = { var = \"CRM_TOKEN\" }\n\n[http_clients.crm]\nbase_url = \"https://crm\"\nbearer = \"{{ env.crm_token }}\"" => "[env]\ncrm_token = { var = \"CRM_TOKEN\", secret = true }\n\n[http_clients.crm]\nbase_url = \"https://crm\"\nbearer = \"{{ env.crm_token }}\"";
    HTTP_HEADER: Error "http::header", "A header's name or value cannot be sent",
        "A name is letters, digits and hyphens; a value is one line of text. The value itself is not shown, as it may be secret.",
        "[http_clients.crm]\nbase_url = \"http://crm\"\nheaders = { \"x tenant\" = \"a\" }" => "[http_clients.crm]\nbase_url = \"http://crm\"\nheaders = { x-tenant = \"a\" }";
    HTTP_URL: Error "http::url", "A step's URL cannot be called",
        "A whole URL begins with http:// or https:// and has a host. Every record would fail with the code `url`.",
        "[[stages.a.steps]]\nhttp.url = \"crm/tenants\"" => "[[stages.a.steps]]\nhttp.url = \"http://crm/tenants\"";
    HTTP_CLIENT_UNDEFINED: Error "http-client::undefined", "A step names an HTTP client that is not defined",
        "The name after `http.client` refers to `[http_clients.NAME]`.",
        "[[stages.enrich.steps]]\nhttp.client = \"crn\"" => "[http_clients.crm]\nbase_url = \"http://crm\"\n\n[[stages.enrich.steps]]\nhttp.client = \"crm\"";
    HTTP_CLIENT_URL: Error "http-client::url", "An HTTP client's base URL cannot be used",
        "A base URL has the scheme http or https, a host, and no user, query or fragment.",
        "[http_clients.crm]\nbase_url = \"crm:9000\"" => "[http_clients.crm]\nbase_url = \"http://crm:9000\"";
    HTTP_CLIENT_TIMEOUT: Error "http-client::timeout", "An HTTP client's connect timeout is longer than its whole timeout",
        "`timeout` covers the whole call, connecting included; a longer `connect_timeout` can never be reached.",
        "[http_clients.crm]\nbase_url = \"http://crm\"\ntimeout = \"2s\"\nconnect_timeout = \"5s\"" => "[http_clients.crm]\nbase_url = \"http://crm\"\ntimeout = \"5s\"\nconnect_timeout = \"2s\"";
}
