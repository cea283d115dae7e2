//! `[env]`: the only door to the outside, typed.

use super::{About, Entry, Node, ReadContext, Spanned, Table, TableReader, ValueKind};
use crate::diag::{Diagnostic, Span, codes};

/// One value of `[env]`, as declared.
#[derive(Debug, Clone)]
pub struct EnvSpec {
    /// Its name.
    pub name: Spanned<String>,
    /// The place of the declaration.
    pub span: Span,
    /// What people read.
    pub about: About,
    /// The variable of the process that sets it.
    pub variable: Option<String>,
    /// A mounted file that holds it.
    pub file: Option<Spanned<String>>,
    /// Its type.
    pub kind: ValueKind,
    /// What it is where nothing else says.
    pub default: Option<Node>,
    /// Whether it must never be shown.
    pub secret: bool,
}

impl EnvSpec {
    /// Reads `name = { var = "…", … }`.
    pub fn read(entry: &Entry, context: ReadContext<'_>) -> Option<Self> {
        let what = format!("env value `{}`", entry.key);
        let wrapper = Table { span: entry.key_span, entries: vec![entry.clone()] };
        let table = entry.node.as_table();
        let Some(table) = table else {
            let reader = TableReader::new(&wrapper, "`env`", context);
            reader.wrong_type(&entry.key, &entry.node, "a table such as { var = \"CRM_URL\" }");
            return None;
        };
        let name = Spanned::new(entry.key.clone(), entry.key_span);
        let spec =
            Self { name, span: entry.node.span, ..Self::read_fields(TableReader::new(table, what, context)) };
        spec.no_literal_secret(context);
        if let Some(default) = &spec.default {
            spec.check_type(default, context);
        }
        Some(spec)
    }

    /// Reads the declaration itself; its name and place are its reader's to know.
    pub fn read_fields(mut reader: TableReader<'_>) -> Self {
        let span = reader.span();
        let variable = reader.text("var").map(|text| text.value);
        let file = reader.text("file");
        let kinds = [
            ("string", ValueKind::String),
            ("integer", ValueKind::Integer),
            ("float", ValueKind::Float),
            ("boolean", ValueKind::Boolean),
        ];
        let kind = reader.word("type", &kinds).map_or(ValueKind::String, |kind| kind.value);
        let secret = reader.boolean("secret").is_some_and(|secret| secret.value);
        let default = reader.node("default").cloned();
        let about = About::read(&mut reader);
        reader.finish();
        Self { name: Spanned::new(String::new(), span), span, about, variable, file, kind, default, secret }
    }

    /// Reports a value of the files that is not of the declared type, whatever the variables say.
    pub fn check_type(&self, node: &Node, context: ReadContext<'_>) {
        if !self.kind.fits(&node.value) {
            let message = format!("`env.{}` is {}", self.name.value, node.value.kind());
            context.diagnostics.push(
                Diagnostic::new(&codes::ENV_TYPE, message)
                    .at(node.span, format!("expected {}", self.kind.described()))
                    .help(format!("write it {}, or declare another `type`", self.kind.example())),
            );
        }
    }

    fn no_literal_secret(&self, context: ReadContext<'_>) {
        if let Some(default) = self.default.as_ref().filter(|_| self.secret) {
            let message = format!("secret env value `{}` has a default in the file", self.name.value);
            context.diagnostics.push(
                Diagnostic::new(&codes::SECRET_LITERAL, message)
                    .at(default.span, "readable by all who read the file")
                    .help("remove the default and set the variable, or name a mounted file: `file = \"/run/secrets/…\"`"),
            );
        }
    }
}
