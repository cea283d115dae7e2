//! What a parsed expression or template names: roots and the paths below them, filters, tests and
//! functions. Unknown names are found here, since the interpreter finds them only when it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use minijinja::machinery::Span;
use minijinja::machinery::ast::{BinOpKind, Call, CallArg, CallType, Expr, Filter, Stmt};

use super::arguments::judge;
use super::functions::{FILTERS, FUNCTIONS, TESTS};
use super::names::range_of;
use super::{CompileError, Mistake, Named, Root, RootSet};

/// What an expression or template looks at.
#[derive(Debug, Default)]
pub(super) struct Analysis {
    pub(super) reads: RootSet,
    pub(super) needs: BTreeMap<&'static str, Need>,
    /// The names that are looked at right below `env`, `steps`, `error`, `job` and `window`.
    pub(super) names: Vec<Named>,
}

impl Analysis {
    /// The roots that are looked at as a whole.
    pub(super) fn whole(&self) -> RootSet {
        let all = self.reads.iter().filter(|root| self.needs.get(root.as_str()) == Some(&Need::All));
        all.fold(RootSet::EMPTY, RootSet::with)
    }

    fn name(&mut self, root: Root, name: &str, range: Range<usize>) {
        if !self.names.iter().any(|known| known.root == root && known.name == name) {
            self.names.push(Named { root, name: name.to_owned(), range });
        }
    }
}

/// How much below a name is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Need {
    /// All of it.
    All,
    /// Only these fields.
    Fields(BTreeMap<String, Need>),
}

impl Need {
    fn add(&mut self, path: &[&str]) {
        match (self, path) {
            (Self::All, _) => {}
            (slot, []) => *slot = Self::All,
            (Self::Fields(fields), [first, rest @ ..]) => {
                fields.entry((*first).to_owned()).or_insert_with(|| Self::Fields(BTreeMap::new())).add(rest);
            }
        }
    }
}

pub(super) fn expression(tree: &Expr<'_>, source: &str, allowed: RootSet) -> Result<Analysis, CompileError> {
    let mut walker = Walker::new(source, allowed);
    walker.expression(tree);
    walker.finish()
}

pub(super) fn template(tree: &Stmt<'_>, source: &str, allowed: RootSet) -> Result<Analysis, CompileError> {
    let mut walker = Walker::new(source, allowed);
    walker.locals.insert("loop".to_owned());
    collect_locals(tree, &mut walker.locals);
    walker.statement(tree);
    walker.finish()
}

struct Walker<'s> {
    source: &'s str,
    allowed: RootSet,
    locals: BTreeSet<String>,
    found: Analysis,
    errors: Vec<CompileError>,
    /// Where variables stand that were reported as parts of a name.
    excused: Vec<usize>,
}

impl<'s> Walker<'s> {
    fn new(source: &'s str, allowed: RootSet) -> Self {
        let (locals, found) = (BTreeSet::new(), Analysis::default());
        Self { source, allowed, locals, found, errors: Vec::new(), excused: Vec::new() }
    }

    fn finish(self) -> Result<Analysis, CompileError> {
        CompileError::joined(self.errors).map_or(Ok(self.found), Err)
    }

    fn fail(&mut self, error: CompileError) {
        self.errors.push(error.of(Mistake::Unknown));
    }

    /// The bytes of `name` within `span`, as near as they can be told.
    fn range(&self, span: Span, name: &str) -> Range<usize> {
        let whole = span.start_offset as usize..(span.end_offset as usize).min(self.source.len());
        let found = self.source.get(whole.clone()).and_then(|text| text.rfind(name));
        found.map_or(whole.clone(), |at| whole.start + at..whole.start + at + name.len())
    }

    fn expression(&mut self, expr: &Expr<'_>) {
        if let Some((name, span, path)) = path_of(expr) {
            return self.variable(name, span, &path);
        }
        match expr {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.expression(part);
                }
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(binary) => {
                self.hyphens(expr);
                self.expression(&binary.left);
                self.expression(&binary.right);
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                compare.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr);
                self.expression(&choice.true_expr);
                choice.false_expr.iter().for_each(|other| self.expression(other));
            }
            Expr::Filter(filter) => {
                self.known("filter", filter.name, FILTERS, expr.span());
                self.judge(filter);
                filter.expr.iter().for_each(|inner| self.expression(inner));
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.known("test", test.name, TESTS, expr.span());
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => {
                self.expression(&item.expr);
                self.expression(&item.subscript_expr);
            }
            Expr::Call(call) => self.call(call, expr.span()),
            Expr::List(list) => list.items.iter().for_each(|item| self.expression(item)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.expression(item)),
            Expr::Map(map) => map.keys.iter().chain(&map.values).for_each(|part| self.expression(part)),
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            match argument {
                CallArg::Pos(expr)
                | CallArg::Kwarg(_, expr)
                | CallArg::PosSplat(expr)
                | CallArg::KwargSplat(expr) => self.expression(expr),
            }
        }
    }

    fn judge(&mut self, filter: &Filter<'_>) {
        for wrong in judge(filter.name, &filter.args) {
            let range = wrong.span.start_offset as usize..wrong.span.end_offset as usize;
            let mut error = CompileError::new(wrong.why, range).of(Mistake::Argument);
            error.suggestion = wrong.near.map(str::to_owned);
            self.errors.push(error);
        }
    }

    /// Reports `env.crm-url`, which is read as a subtraction of a variable that does not exist.
    fn hyphens(&mut self, expr: &Expr<'_>) {
        if let Some(found) = self.hyphened(expr).filter(|found| !self.excused.contains(&found.last)) {
            self.excused.extend(&found.variables);
            self.fail(found.error(self.source));
        }
    }

    /// The name with hyphens at the end of an expression.
    fn hyphened(&self, expr: &Expr<'_>) -> Option<Hyphened> {
        let Expr::BinOp(binary) = expr else { return None };
        let Expr::Var(right) = &binary.right else { return None };
        let known = self.locals.contains(right.id)
            || FUNCTIONS.contains(&right.id)
            || self.allowed.iter().any(|root| root.as_str() == right.id);
        if known || !matches!(binary.op, BinOpKind::Sub) {
            return None;
        }
        let mut left = self.hyphened(&binary.left).or_else(|| self.dotted(&binary.left))?;
        let start = right.span().start_offset as usize;
        (self.source.get(left.range.end..start) == Some("-")).then(|| {
            left.range.end = start + right.id.len();
            left.name = format!("{}-{}", left.name, right.id);
            left.variables.push(start);
            left.last = start;
            left
        })
    }

    /// Where an expression ends that begins at `start`.
    fn end_of(&self, expr: &Expr<'_>, start: usize) -> usize {
        let end = expr.span().end_offset as usize;
        let text = self.source.get(start..end).unwrap_or_default();
        start + text.trim_end().len()
    }

    /// The path at the end of an expression: `env.crm` of `1 + env.crm`.
    fn dotted(&self, expr: &Expr<'_>) -> Option<Hyphened> {
        if let Expr::BinOp(binary) = expr {
            return self.dotted(&binary.right);
        }
        let (root, span, path) = path_of(expr)?;
        let (last, before) = path.split_last()?;
        let root = Root::ALL.into_iter().find(|known| known.as_str() == root)?;
        let start = span.start_offset as usize;
        let base = std::iter::once(root.as_str()).chain(before.iter().copied());
        let base = base.collect::<Vec<_>>().join(".");
        // The last name stands at the end of the path, wherever it came before.
        let range = start..self.end_of(expr, start);
        Some(Hyphened { range, base, name: (*last).to_owned(), variables: Vec::new(), last: start })
    }

    fn call(&mut self, call: &Call<'_>, span: Span) {
        self.arguments(&call.args);
        match call.identify_call() {
            CallType::Function(name) => self.known("function", name, FUNCTIONS, span),
            CallType::Method(Expr::Var(base), _) if base.id == "loop" => {}
            CallType::Method(base, name) => {
                let message = format!("values have no methods: `{name}` cannot be called");
                self.fail(
                    CompileError::new(message, self.range(span, name)).near(name, FILTERS.iter().copied()),
                );
                self.expression(base);
            }
            CallType::Object(object) => {
                self.fail(CompileError::new("only functions can be called", self.range(span, "(")));
                self.expression(object);
            }
        }
    }

    fn known(&mut self, what: &str, name: &str, known: &[&'static str], span: Span) {
        if !known.contains(&name) {
            let error = CompileError::new(format!("there is no {what} `{name}`"), self.range(span, name));
            self.fail(error.near(name, known.iter().copied()));
        }
    }

    fn variable(&mut self, name: &str, span: Span, path: &[&str]) {
        let root = Root::ALL.into_iter().find(|root| root.as_str() == name);
        // A local may bear the name of a root that this place does not offer.
        let offered = |root: &Root| self.allowed.contains(*root) || !self.locals.contains(name);
        match root.filter(offered) {
            Some(root) if self.allowed.contains(root) => {
                self.found.reads = self.found.reads.with(root);
                let fields = || Need::Fields(BTreeMap::new());
                self.found.needs.entry(root.as_str()).or_insert_with(fields).add(path);
                let named = (root, path.first());
                if let (Root::Env | Root::Steps | Root::Error | Root::Job | Root::Window, Some(name)) = named
                {
                    let range = range_of(self.source, span.start_offset as usize, root, name);
                    self.found.name(root, name, range);
                }
            }
            Some(_) => {
                let message = format!("`{name}` is not in scope here");
                self.fail(CompileError::new(message, self.first(span, name)));
            }
            None if self.locals.contains(name) => {}
            None if self.excused.contains(&(span.start_offset as usize)) => {}
            None if FUNCTIONS.contains(&name) => {
                let message = format!("`{name}` is a function: write `{name}()`");
                self.fail(CompileError::new(message, self.first(span, name)));
            }
            None => {
                let known: Vec<_> = self.allowed.iter().map(Root::as_str).collect();
                let error =
                    CompileError::new(format!("there is no variable `{name}`"), self.first(span, name));
                self.fail(error.near(name, known));
            }
        }
    }

    fn first(&self, span: Span, name: &str) -> Range<usize> {
        let start = span.start_offset as usize;
        start..(start + name.len()).min(self.source.len())
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.block(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) => {}
            Stmt::ForLoop(each) => {
                self.expression(&each.iter);
                each.filter_expr.iter().for_each(|filter| self.expression(filter));
                self.block(&each.body);
                self.block(&each.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.block(&choice.true_body);
                self.block(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                with.assignments.iter().for_each(|(_, value)| self.expression(value));
                self.block(&with.body);
            }
            Stmt::Set(set) => self.expression(&set.expr),
            Stmt::SetBlock(set) => {
                set.filter.iter().for_each(|filter| self.expression(filter));
                self.block(&set.body);
            }
            Stmt::AutoEscape(escape) => {
                self.expression(&escape.enabled);
                self.block(&escape.body);
            }
            Stmt::FilterBlock(filter) => {
                self.expression(&filter.filter);
                self.block(&filter.body);
            }
            Stmt::Do(call) => self.call(&call.call, call.span()),
            #[allow(unreachable_patterns, reason = "another crate may switch further statements on")]
            _ => self.fail(CompileError::new("this statement is not available", 0..self.source.len())),
        }
    }

    fn block(&mut self, body: &[Stmt<'_>]) {
        body.iter().for_each(|statement| self.statement(statement));
    }
}

/// A name with hyphens that was written behind a dot.
struct Hyphened {
    range: Range<usize>,
    base: String,
    name: String,
    /// Where the variables stand that do not exist.
    variables: Vec<usize>,
    last: usize,
}

impl Hyphened {
    fn error(self, source: &str) -> CompileError {
        let written = source.get(self.range.clone()).unwrap_or_default();
        let message = format!("`{written}` is a subtraction: `-` cannot stand in a name behind a dot");
        let mut error = CompileError::new(message, self.range);
        error.suggestion = Some(format!("{}['{}']", self.base, self.name));
        error
    }
}

/// The names that a template gives values itself.
fn collect_locals(statement: &Stmt<'_>, locals: &mut BTreeSet<String>) {
    let bodies: Vec<&[Stmt<'_>]> = match statement {
        Stmt::Template(template) => vec![&template.children],
        Stmt::ForLoop(each) => {
            targets(&each.target, locals);
            vec![&each.body, &each.else_body]
        }
        Stmt::IfCond(choice) => vec![&choice.true_body, &choice.false_body],
        Stmt::WithBlock(with) => {
            with.assignments.iter().for_each(|(target, _)| targets(target, locals));
            vec![&with.body]
        }
        Stmt::Set(set) => {
            targets(&set.target, locals);
            vec![]
        }
        Stmt::SetBlock(set) => {
            targets(&set.target, locals);
            vec![&set.body]
        }
        Stmt::AutoEscape(escape) => vec![&escape.body],
        Stmt::FilterBlock(filter) => vec![&filter.body],
        _ => vec![],
    };
    bodies.into_iter().flatten().for_each(|inner| collect_locals(inner, locals));
}

fn targets(target: &Expr<'_>, locals: &mut BTreeSet<String>) {
    match target {
        Expr::Var(variable) => {
            locals.insert(variable.id.to_owned());
        }
        Expr::List(list) => list.items.iter().for_each(|item| targets(item, locals)),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| targets(item, locals)),
        _ => {}
    }
}

/// A chain of names: its first name and the fields below it.
fn path_of<'t>(expr: &'t Expr<'_>) -> Option<(&'t str, Span, Vec<&'t str>)> {
    match expr {
        Expr::Var(variable) => Some((variable.id, variable.span(), Vec::new())),
        Expr::GetAttr(attribute) => {
            let (name, span, mut path) = path_of(&attribute.expr)?;
            path.push(attribute.name);
            Some((name, span, path))
        }
        Expr::GetItem(item) => match &item.subscript_expr {
            Expr::Const(constant) if constant.value.as_str().is_some() => {
                let (name, span, mut path) = path_of(&item.expr)?;
                path.push(constant.value.as_str()?);
                Some((name, span, path))
            }
            _ => None,
        },
        _ => None,
    }
}
