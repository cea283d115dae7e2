//! Codes about `was` and `removed`.

codes! {
    WAS_DEFINED: Error "was::defined", "`was` names something that is still defined",
        "`was` says under which name a table stood before. A name that is still in use was not given up, and its state belongs to whoever has it.",
        "[retries.gentle]\nwas = \"slow\"\n\n[retries.slow]\nmax_attempts = 5" => "[retries.gentle]\nwas = \"slow\"";
    WAS_DUPLICATE: Error "was::duplicate", "Two tables had one name before",
        "What stood under the old name can go on under one new name only.",
        "[retries.gentle]\nwas = \"slow\"\n\n[retries.patient]\nwas = \"slow\"" => "[retries.gentle]\nwas = \"slow\"\n\n[retries.patient]\nmax_attempts = 9";
    WAS_TOPIC: Warning "was::topic", "A renamed topic becomes another topic on the broker",
        "A topic is named on the broker as it is in the files, unless `topic` says otherwise. Under the new name an empty topic is created; the records of the old one stay where they are and are not read. `topic` keeps the name on the broker.",
        "[topics.orders]\nwas = \"ordres\"" => "[topics.orders]\nwas = \"ordres\"\ntopic = \"ordres\"";
    REMOVED_DEFINED: Error "removed::defined", "`removed` names something that is still there",
        "`removed` says that something was given up on purpose. It names nothing that is defined, nor what goes on under another name.",
        "[removed]\nretries = [\"gentle\"]\n\n[retries.gentle]\nmax_attempts = 5" => "[removed]\nretries = [\"gentle\"]";
}
