//! The README's commands are commands that exist.

use std::path::Path;
use std::process::Command;

/// The lines of all blocks fenced as ```sh in `text`, without comments and blank lines.
fn shell_lines(text: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("```") {
            inside = !inside && line == "```sh";
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            lines.push(line.strip_prefix("$ ").unwrap_or(line));
        }
    }
    lines
}

/// The words given to `nudge` by a command line, whether it is installed or run by cargo; `None` for other programs.
fn nudge_words(line: &str) -> Option<Vec<&str>> {
    let line = line.split(" #").next().unwrap_or(line);
    let mut words = line.split_whitespace().skip_while(|word| word.contains('='));
    match words.next()? {
        "cargo" if words.next() == Some("run") => {
            Some(words.skip_while(|word| *word != "--").skip(1).collect())
        }
        program if program.rsplit('/').next() == Some("nudge") => Some(words.collect()),
        _ => None,
    }
}

/// Whether `nudge VERB.. --help` succeeds, and what it says.
fn help(verbs: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_nudge")).args(verbs).arg("--help").output();
    let output = output.expect("the program was built for this test");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What is wrong with a command line of the README, if anything.
fn problem(line: &str) -> Option<String> {
    let words = nudge_words(line)?;
    let verb = words.first().filter(|word| !word.starts_with('-'))?;
    let (known, mut text) = help(&[verb]);
    if !known {
        return Some(format!("`{line}`: nudge has no verb `{verb}`"));
    }
    // A verb with verbs of its own, such as `dataset info`.
    if text.contains("<COMMAND>")
        && let Some(second) = words.get(1)
    {
        let (known, of_both) = help(&[verb, second]);
        if !known {
            return Some(format!("`{line}`: `nudge {verb}` has no verb `{second}`"));
        }
        text = of_both;
    }
    let options = words.iter().filter(|word| word.starts_with("--") && word.len() > 2);
    let mut names = options.map(|option| option.split('=').next().unwrap_or(option));
    let known = |name: &str| text.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == name);
    names.find(|name| !known(name)).map(|name| format!("`{line}`: `nudge {verb}` has no option `{name}`"))
}

#[test]
fn every_verb_and_option_in_the_readme_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = std::fs::read_to_string(&path).expect("README.md lies at the top of the repository");
    let lines = shell_lines(&text);
    assert!(lines.iter().any(|line| nudge_words(line).is_some()), "README.md runs nudge in no ```sh block");
    let problems: Vec<String> = lines.into_iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn commands_that_do_not_exist_are_found() {
    let text =
        "```sh\n# first\n$ cargo run --release -- eval x --episodes 3\n\nls\n```\n```\nnudge no\n```\n";
    assert_eq!(shell_lines(text), ["cargo run --release -- eval x --episodes 3", "ls"]);
    assert_eq!(problem("cargo run --release -- eval x --episodes 3"), None);
    assert_eq!(problem("cargo test --release"), None);
    assert_eq!(problem("nudge --help"), None);
    assert!(problem("cargo run --release -- conquer x").is_some());
    assert!(problem("RUST_LOG=info ./target/release/nudge conquer").is_some());
    assert!(problem("nudge eval x --no-such-option").is_some());
}
