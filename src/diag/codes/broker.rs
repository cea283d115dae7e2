//! Codes about the broker and the databases, which only `check --online` asks.

codes! {
    BROKER_TOPIC_MISSING: Error "broker::topic-missing", "A topic does not exist on the broker",
        "A stage that reads or writes it would wait for it. `biplane topics apply` creates the topics of the files; a topic with `external = true` is made by whoever owns it.",
        "biplane check --online   # and nobody has created `orders`" => "biplane topics apply\nbiplane check --online";
    BROKER_TOPIC_DIFFERS: Error "broker::topic-differs", "A topic on the broker differs from its definition, and can be changed",
        "Partitions or settings are not what the files say. `biplane topics plan` shows all differences, `biplane topics apply` makes the changes.",
        "[topics.orders]\npartitions = 12   # and the broker has 6" => "biplane topics apply   # or, in the file, partitions = 6";
    BROKER_TOPIC_CONFLICT: Error "broker::topic-conflict", "A topic on the broker differs from its definition, and cannot be changed",
        "Partitions never shrink, replicas are moved with the broker's own tools, and another system's topic is never changed. The finding says what stands in the way.",
        "[topics.orders]\npartitions = 3   # and the broker has 6" => "[topics.orders]\npartitions = 6";
    SQL_REFUSED: Error "sql::refused", "The server does not take a statement",
        "Each statement of an `sql` step is prepared on its database, under the role that would carry it out; nothing is. The finding shows what the server says: a table or a column that is not there, a right that the role lacks, a type that does not fit.",
        "sql.text = \"select nam from people\"   # and the column is `name`" => "sql.text = \"select name from people\"";
    DATABASE_MIGRATIONS: Error "database::migrations", "The engine's tables are not those that this version needs",
        "Jobs lie in tables that migrations make. An engine does not start on tables that are behind, or that a newer program has shrunk.",
        "biplane check --online   # and nobody has migrated" => "biplane migrate\nbiplane check --online";
    DATABASE_STAGE_OFFSET: Error "database::stage-offset", "A database cannot say where a stage stands",
        "A stage that is exactly-once in a database keeps there how far it is, in the table `stage_offset` of the engine's schema (`biplane` unless it is set otherwise), and moves that in the transactions of what it writes. In the engine's own database a migration makes it; in a named one `biplane migrate --database NAME` does, under that database's role, or its owner does with the statement in docs/database.md. The role that the stage writes under needs to read it and to insert and update rows.",
        "biplane check --online   # and the table is missing in `app`" => "biplane migrate --database app\nbiplane check --online";
}
