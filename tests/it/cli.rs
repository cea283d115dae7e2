//! What scripts rely on: help, exit codes, a closed pipe, `NO_COLOR`, completions and man pages.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::{ConfigRoot, Engine, wait_until};

fn biplane(arguments: &[&str]) -> Output {
    with(arguments, &[])
}

fn with(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    Engine::command(folder.path(), arguments, variables)
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("an exit code")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn the_help_names_every_command_and_variable() {
    let help = biplane(&["--help"]);
    assert_eq!(code(&help), 0);
    insta::assert_snapshot!("help", text(&help.stdout));
}

#[test]
fn a_wrong_command_line_is_a_usage_error_that_says_so_on_standard_error() {
    for arguments in
        [&["no-such-command"][..], &[], &["man", "--no-such-flag"], &["--namespace", "A B", "man"]]
    {
        let output = biplane(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn completions_come_for_every_shell_and_know_the_commands() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = biplane(&["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        let script = text(&output.stdout);
        for word in ["completions", "namespace"] {
            assert!(script.contains(word), "{shell} knows {word}");
        }
    }
}

#[test]
fn the_manual_is_one_page_or_a_page_a_command() {
    let page = biplane(&["man"]);
    assert_eq!(code(&page), 0);
    assert!(text(&page.stdout).contains(".SH SYNOPSIS"));
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("man");
    let written = biplane(&["man", "--directory", target.to_str().expect("a path")]);
    assert_eq!(code(&written), 0, "{}", text(&written.stderr));
    assert!(target.join("biplane.1").is_file());
    assert!(target.join("biplane-completions.1").is_file());
}

#[test]
fn a_reader_that_goes_away_ends_the_output_quietly() {
    let output = unread(&["completions", "bash"]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn errors_are_findings_though_nobody_reads_them() {
    let root = ConfigRoot::new(&[("pipelines/a.toml", "[stages.s]\nfrom = \"nowhere\"\n")]);
    let root = root.path().to_str().expect("a path in UTF-8");
    for command in [&["check"][..], &["topics", "plan", "--brokers", "127.0.0.1:1"]] {
        let output = unread(&[command, &["--config", root]].concat());
        assert_eq!(code(&output), 1, "{command:?}: {}", text(&output.stderr));
        assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    }
}

/// Runs the binary with nobody at the other end of its standard output.
fn unread(arguments: &[&str]) -> Output {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    Command::new(env!("CARGO_BIN_EXE_biplane"))
        .args(arguments)
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .and_then(|child| child.wait_with_output())
        .expect("the binary runs")
}

#[test]
fn an_error_is_plain_where_no_color_is_wanted() {
    let forced = [("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")];
    let target = Path::new("/proc/no/such/folder").to_str().expect("a path");
    let colored = with(&["man", "--directory", target], &forced);
    assert_eq!(code(&colored), 3, "could not complete");
    assert!(text(&colored.stderr).contains("\u{1b}["));
    let plain = biplane(&["man", "--directory", target]);
    assert!(text(&plain.stderr).starts_with("error: cannot write man pages"));
}

#[test]
fn a_config_that_does_not_check_is_told_in_the_format_that_was_asked_for() {
    let root = ConfigRoot::new(&[("pipelines/a.toml", "[stages.s]\nfrom = \"nowhere\"\n")]);
    let brokers = [("BIPLANE_KAFKA_BROKERS", "127.0.0.1:1"), ("BIPLANE_LISTEN", "127.0.0.1:1")];
    for command in [
        &["topics", "plan"][..],
        &["topics", "apply"],
        &["stages", "list"],
        &["stages", "show", "s"],
        &["dlqs", "list"],
        &["dlqs", "show", "d"],
    ] {
        let arguments = [command, &["--format", "json"]].concat();
        let output = Engine::command(root.path(), &arguments, &brokers);
        assert_eq!(code(&output), 1, "{command:?}");
        let told: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{command:?}: {error}: {}", text(&output.stdout)));
        assert!(told["errors"].as_u64() > Some(0), "{command:?}: {told}");
        let findings = told["findings"].as_array().expect("a list");
        let undefined = findings.iter().any(|finding| finding["code"] == "topic::undefined");
        assert!(undefined, "{command:?}: {told}");
    }
}

#[test]
fn an_engine_starts_no_program_that_its_deployment_does_not_allow() {
    let pipeline = "[topics.orders]\n\n[dlqs.lost]\n\n[stages.s]\nfrom = \"orders\"\ndlq = \"lost\"\n\n\
        [[stages.s.steps]]\nexec.argv = [\"sh\", \"-c\", \"echo 1\"]\n";
    let root = ConfigRoot::new(&[("pipelines/a.toml", pipeline)]);
    let brokers = "127.0.0.1:1";
    let run = ["run", "--listen", "127.0.0.1:0", "--brokers", brokers];
    let refused = Engine::command(root.path(), &run, &[]);
    let told = text(&refused.stderr);
    assert_eq!(code(&refused), 3, "{told}");
    assert!(told.contains("stage `s` does not start") && told.contains("--allow-exec"), "{told}");
    let check = Engine::command(root.path(), &["check"], &[]);
    assert!(text(&check.stdout).contains("exec::not-allowed"), "{check:?}");
    let allowed = Engine::launch(&root, brokers, &[("BIPLANE_ALLOW_EXEC", "true")]);
    wait_until("it starts", Duration::from_secs(60), || allowed.log().contains("the stages start"));
}
