//! The house rules as tests: each failure names the place and what to write instead.
//!
//! Owns no behaviour of the product. Everything here reads the work tree as text and is fast; what
//! needs types is left to clippy (`clippy.toml` closes the doors of clock, disk, threads, chance).

use std::fmt::Write as _;
use std::fs;

#[path = "tidy/functions.rs"]
mod functions;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/source.rs"]
mod source;

use source::{SourceFile, files, root, test_files};

const LONG_FUNCTIONS: &str = "broker/tests/tidy/long_functions.txt";

/// Fails with all `findings`, one a line, and what is wanted instead.
fn expect_none(findings: &[String], wanted: &str) {
    let mut report = String::new();
    for finding in findings {
        let _ = writeln!(report, "  {finding}");
    }
    assert!(
        findings.is_empty(),
        "{} finding(s). {wanted}\n{report}",
        findings.len()
    );
}

/// `path:line` for every line of `text` that `is_bad`.
fn lines_where(path: &str, text: &str, is_bad: impl Fn(&str) -> bool) -> Vec<String> {
    let numbered = text.lines().enumerate().filter(|(_, line)| is_bad(line));
    numbered
        .map(|(index, line)| format!("{path}:{}: {}", index + 1, line.trim()))
        .collect()
}

#[test]
fn every_source_file_starts_by_saying_what_it_is() {
    let silent = files(&[".rs"])
        .into_iter()
        .filter(|file| !file.text.starts_with("//! ") || file.text.starts_with("//! Skeleton"))
        .map(|file| file.path)
        .collect::<Vec<_>>();
    expect_none(
        &silent,
        "Start each with //!: what it is, what it owns, what is absent",
    );
}

#[test]
fn source_lines_fit_in_100_columns() {
    let mut long = Vec::new();
    for file in files(&[".rs", ".sh", ".py", ".mjs", ".cjs", "Justfile"]) {
        // TOML is left out (its inline tables cannot be wrapped); so is a single long word, and a
        // long text in quotes, which rustfmt does not break either.
        let quoted = |line: &str| {
            line.split('"')
                .skip(1)
                .step_by(2)
                .any(|text| text.len() > 50)
        };
        let too_long =
            |line: &str| line.chars().count() > 100 && line.trim().contains(' ') && !quoted(line);
        long.extend(lines_where(&file.path, &file.text, too_long));
    }
    expect_none(&long, "Wrap at 100 columns");
}

#[test]
fn a_markdown_page_has_exactly_one_title() {
    let mut wrong = Vec::new();
    for file in files(&[".md"]) {
        let mut in_code = false;
        let mut titles = 0;
        for line in file.text.lines() {
            in_code ^= line.trim_start().starts_with("```");
            titles += usize::from(!in_code && line.starts_with("# "));
        }
        if titles != 1 {
            wrong.push(format!("{}: {titles} titles", file.path));
        }
    }
    expect_none(&wrong, "One line with '# ' per page, the first");
}

/// Two decisions written at the same time easily take the same number.
#[test]
fn decisions_are_numbered_without_repetition() {
    let mut seen = Vec::new();
    let mut wrong = Vec::new();
    for file in files(&[".md"]) {
        let Some(name) = file.path.strip_prefix("docs/adr/") else {
            continue;
        };
        let number = name.split('-').next().unwrap_or_default().to_owned();
        let title = format!("# {}.", number.trim_start_matches('0'));
        if seen.contains(&number) || !file.text.starts_with(&title) {
            wrong.push(file.path.clone());
        }
        seen.push(number);
    }
    assert!(!seen.is_empty(), "the decisions are in docs/adr");
    expect_none(
        &wrong,
        "A decision has a number of its own, also in its title",
    );
}

#[test]
fn no_leftovers_are_committed() {
    // Put together here, so that this file does not find itself.
    let words = [
        ["to", "do!("].concat(),
        ["db", "g!("].concat(),
        ["unimple", "mented!("].concat(),
    ];
    let marks = [
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["TO", "DO"].concat(),
    ];
    let mut found = Vec::new();
    for file in files(&[".rs"]) {
        let code = file.code();
        let has_word = |line: &str| words.iter().any(|word| line.contains(word.as_str()));
        found.extend(lines_where(&file.path, &code, has_word));
        let has_mark = |line: &str| {
            let mut tokens = line.split(|c: char| !c.is_ascii_alphanumeric());
            tokens.any(|token| marks.iter().any(|mark| mark == token))
        };
        found.extend(lines_where(&file.path, &file.comments(), has_mark));
    }
    expect_none(
        &found,
        "Finish it, or say in the documentation what is missing",
    );
}

#[test]
fn no_file_is_named_for_nothing() {
    let empty = [
        "utils", "util", "common", "misc", "impls", "helper", "helpers", "help",
    ];
    let nameless = files(&[".rs", ".py", ".sh"])
        .into_iter()
        .filter(|file| {
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let stem = name.split('.').next().unwrap_or_default();
            empty.contains(&stem) || file.path.split('/').any(|part| empty.contains(&part))
        })
        .map(|file| file.path)
        .collect::<Vec<_>>();
    expect_none(&nameless, "Name a file for what is in it");
}

#[test]
fn every_module_file_is_declared_by_its_parent() {
    let sources = files(&[".rs"]);
    let mut dead = Vec::new();
    for file in sources.iter().filter(|file| file.path.contains("/src/")) {
        let (folder, name) = file.path.rsplit_once('/').expect("it has a folder");
        let stem = name.trim_end_matches(".rs");
        if ["lib", "main", "build"].contains(&stem) || folder.ends_with("/bin") {
            continue;
        }
        let parents = [
            format!("{folder}.rs"),
            format!("{folder}/mod.rs"),
            format!("{folder}/lib.rs"),
            format!("{folder}/main.rs"),
        ];
        let declares = |parent: &SourceFile| {
            let declaration = format!("mod {stem};");
            parents.contains(&parent.path) && parent.code().contains(&declaration)
        };
        if !sources.iter().any(declares) {
            dead.push(file.path.clone());
        }
    }
    expect_none(
        &dead,
        "No module declares these files: declare or delete them",
    );
}

#[test]
fn paths_named_in_comments_and_pages_exist() {
    let mut missing = Vec::new();
    for file in files(&[".rs", ".md", "Justfile"]) {
        let text = if file.path.ends_with(".rs") {
            file.comments()
        } else {
            file.text.clone()
        };
        for (index, line) in text.lines().enumerate() {
            for path in layers::named_paths(line) {
                if !layers::path_exists(&root(), &file.path, path) {
                    missing.push(format!("{}:{}: {path}", file.path, index + 1));
                }
            }
        }
    }
    expect_none(&missing, "Name the file where it is now");
}

#[test]
fn no_page_or_comment_names_a_place_of_one_machine() {
    let places = [
        ["/ro", "ot/"].concat(),
        ["/wo", "rk/"].concat(),
        ["/ho", "me/"].concat(),
    ];
    let mut found = Vec::new();
    let endings = [
        ".rs", ".md", ".sh", ".toml", ".py", ".mjs", "Justfile", "run", "test", "setup",
    ];
    for file in files(&endings) {
        let names_place = |line: &str| places.iter().any(|place| line.contains(place.as_str()));
        found.extend(lines_where(&file.path, &file.text, names_place));
    }
    expect_none(
        &found,
        "Use $HOME, a temporary folder, or a path from the root of the clone",
    );
}

#[test]
fn crates_depend_only_downwards() {
    expect_none(
        &layers::wrong_dependencies(&root()),
        "See docs/architecture.md for the arrows",
    );
}

#[test]
fn each_thing_is_named_only_where_it_lives() {
    let mut found = Vec::new();
    let sources = files(&[".rs"]);
    let tests = test_files(&sources);
    for file in sources.iter().filter(|file| !tests.contains(&file.path)) {
        let code = file.code_outside_tests();
        for rule in layers::NAMES {
            if rule.applies_to(&file.path) {
                let names_it = |line: &str| layers::names(line, rule.word);
                let places = lines_where(&file.path, &code, names_it);
                let explain = |place: String| format!("{place}   [{}: {}]", rule.word, rule.reason);
                found.extend(places.into_iter().map(explain));
            }
        }
    }
    expect_none(&found, "Move it to where it lives, or go through the seam");
}

#[test]
fn long_functions_are_few_and_written_down() {
    let sources = files(&[".rs"]);
    let tests = test_files(&sources);
    let counted = |file: &SourceFile| !tests.contains(&file.path);
    let sources = sources.into_iter().filter(counted).collect::<Vec<_>>();
    let long = functions::long_functions(&sources);
    let list = root().join(LONG_FUNCTIONS);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&list, functions::format_list(&long)).expect("the list is writable");
        return;
    }
    let accepted = functions::parse_list(&fs::read_to_string(&list).unwrap_or_default());
    let mut findings = Vec::new();
    for (name, lines) in &long {
        match accepted.get(name) {
            None => findings.push(format!("{name}: {lines} lines, split it")),
            Some(limit) if limit < lines => {
                findings.push(format!("{name}: grew from {limit} to {lines} lines"));
            }
            Some(_) => {}
        }
    }
    for name in accepted.keys().filter(|name| !long.contains_key(*name)) {
        findings.push(format!("{name}: not long any more, take it off the list"));
    }
    let limit = functions::LONG_LINES;
    expect_none(
        &findings,
        &format!("A function fits on one screen ({limit} lines); see the list"),
    );
}

/// The rules would be worthless if the reading of the text were wrong: pin it.
#[test]
fn strings_and_comments_are_told_apart_from_code() {
    let file = SourceFile {
        path: "example.rs".into(),
        text: "let a = \"x // y\"; // why \"so\"\n\
               let b = r#\"unsafe\"#; /* c /* d */ */ let c = '\"';\n\
               #[cfg(test)]\nmod tests {\n    use std::fs;\n}\nfn last<'a>() {}\n"
            .into(),
    };
    let code = file.code();
    assert!(
        !code.contains("why") && !code.contains('y') && !code.contains("unsafe"),
        "{code}"
    );
    assert!(code.contains("let c = '\"';"), "{code}");
    assert!(file.comments().contains("why \"so\"") && file.comments().contains("c /* d"));
    let outside = file.code_outside_tests();
    assert!(
        !outside.contains("std::fs") && outside.contains("fn last<'a>"),
        "{outside}"
    );
}
