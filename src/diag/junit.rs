//! Findings as a JUnit report: a suite a file, a case a finding. Only what fails the check is a failure.

use std::collections::BTreeMap;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};

use super::{Diagnostic, Severity, SourceMap, Style, concise, render};

/// The report as XML; `deny_warnings` says whether a warning is a failure. Without findings it holds one
/// case that passed, since readers take an empty report for a broken one.
///
/// # Errors
/// Where the XML cannot be written.
pub fn to_junit(
    findings: &[Diagnostic],
    sources: &SourceMap,
    deny_warnings: bool,
) -> Result<String, SerializeError> {
    let mut suites: BTreeMap<&str, TestSuite> = BTreeMap::new();
    for finding in findings {
        let file = finding.primary.as_ref().map_or("config root", |label| sources.path(label.span.file));
        let suite = suites.entry(file).or_insert_with(|| TestSuite::new(file));
        suite.add_test_case(case(finding, file, sources, deny_warnings));
    }
    if suites.is_empty() {
        let mut suite = TestSuite::new("config root");
        suite.add_test_case(TestCase::new("check", TestCaseStatus::success()));
        suites.insert("", suite);
    }
    let mut report = Report::new("biplane check");
    report.add_test_suites(suites.into_values());
    report.to_string()
}

fn case(finding: &Diagnostic, file: &str, sources: &SourceMap, deny_warnings: bool) -> TestCase {
    let text = render(finding, sources, Style::Plain);
    let failed = deny_warnings || finding.severity() == Severity::Error;
    let status = if failed {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status
            .set_type(finding.code.name)
            .set_message(finding.message.as_str())
            .set_description(text.as_str());
        status
    } else {
        TestCaseStatus::success()
    };
    let mut case = TestCase::new(concise(finding, sources), status);
    case.set_classname(file);
    if !failed {
        case.set_system_out(text);
    }
    case
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Span, codes};

    #[test]
    fn errors_fail_and_warnings_only_where_they_are_denied() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.toml", "x = \"<&\u{1b}\"\n");
        let findings = [
            Diagnostic::new(&codes::VALUE_TYPE, "`<&\"\u{1b}` is no number")
                .at(Span::new(file, 4..9), "here"),
            Diagnostic::new(&codes::NAME_UNUSED, "unused"),
        ];
        let failures = |deny| {
            let xml = to_junit(&findings, &sources, deny).unwrap();
            assert!(!xml.contains('\u{1b}'), "{xml}");
            let report = Report::deserialize_from_str(&xml).unwrap();
            (report.tests, report.failures)
        };
        assert_eq!((failures(false), failures(true)), ((2, 1), (2, 2)));
        let empty = Report::deserialize_from_str(&to_junit(&[], &sources, false).unwrap()).unwrap();
        assert_eq!((empty.tests, empty.failures), (1, 0));
    }
}
