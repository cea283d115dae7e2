//! The one register of codes. Each has a page: why it is a finding, an example of the mistake and of
//! the cure. A test fails where a code has no page or no case.

use super::Severity;

/// A kind of finding; its name never changes its meaning.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `topic::undefined` and its like.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// One line for lists.
    pub title: &'static str,
    /// Why it is a finding.
    pub why: &'static str,
    /// An example of the mistake.
    pub mistake: &'static str,
    /// The same, cured.
    pub cure: &'static str,
}

macro_rules! codes {
    ($($ident:ident: $severity:ident $name:literal, $title:literal, $why:literal, $mistake:literal => $cure:literal;)*) => {
        $(
            #[doc = $title]
            pub static $ident: crate::diag::Code = crate::diag::Code {
                name: $name,
                severity: crate::diag::Severity::$severity,
                title: $title,
                why: $why,
                mistake: $mistake,
                cure: $cure,
            };
        )*
        pub(super) static ALL: &[&crate::diag::Code] = &[$(&$ident),*];
    };
}

mod broker;
mod files;
mod flow;
mod jobs;
mod renames;
mod settings;
mod steps;

pub use broker::*;
pub use files::*;
pub use flow::*;
pub use jobs::*;
pub use renames::*;
pub use settings::*;
pub use steps::*;

/// Every code, in the order of the reference.
pub fn all() -> impl Iterator<Item = &'static Code> {
    let all = [files::ALL, settings::ALL, flow::ALL, jobs::ALL, renames::ALL, steps::ALL, broker::ALL];
    all.into_iter().flatten().copied()
}

/// The code of that name.
pub fn find(name: &str) -> Option<&'static Code> {
    all().find(|code| code.name == name)
}

impl Code {
    /// What `explain` prints: title, reason, mistake and cure.
    pub fn page(&self) -> String {
        let indent = |text: &str| {
            text.lines()
                .map(|line| if line.is_empty() { String::new() } else { format!("    {line}") })
                .collect::<Vec<_>>()
                .join("\n")
        };
        format!(
            "{} ({})\n{}\n\n{}\n\nWrong:\n\n{}\n\nRight:\n\n{}\n",
            self.name,
            self.severity.as_str(),
            self.title,
            self.why,
            indent(self.mistake),
            indent(self.cure)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_name_and_a_whole_page() {
        let mut names: Vec<_> = all().map(|code| code.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for code in all() {
            assert!(code.name.split("::").count() == 2, "{}", code.name);
            for part in [code.title, code.why, code.mistake, code.cure] {
                assert!(part.len() > 3, "{} has an empty part", code.name);
            }
            assert_ne!(code.mistake, code.cure, "{}", code.name);
        }
    }
}
