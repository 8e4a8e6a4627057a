//! The house stands as drawn: imports point down only, and what a room must not know it does not name.
//!
//! Reads the source text: every `crate::room` outside comments, in `use` lines and in paths.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::harness::TestResult;

/// The table of src/lib.rs.
const LAYERS: &[(u8, &[&str])] = &[
    (6, &["server", "demo", "maintenance"]),
    (5, &["pg"]),
    (4, &["session"]),
    (3, &["sql", "serve", "runtime"]),
    (2, &["connectors", "formats", "dataflow"]),
    (1, &["catalog", "plan", "state"]),
    (0, &["types", "error", "config", "exit"]),
];

/// Equals that may name each other: the demo starts a server.
const ALLOWED: &[(&str, &str)] = &[("demo", "server")];

/// Within layer 0 everything may name everything: together they are the floor.
const FLOOR: u8 = 0;

/// What only one room may name: the word, and the start of the paths that may.
const ONLY: &[(&str, &str)] = &[
    ("rocksdb", "state/"),
    ("memmap2", "state/"),
    ("pgwire", "pg/"),
    ("rdkafka", "connectors/kafka"),
    ("tokio_rustls", "pg/"),
    ("timely", "runtime/"),
    ("sqlparser", "sql/"),
];

/// No clock, no randomness, no threads of control of their own: what makes a replay possible.
const PURE: &[&str] = &["types/", "plan/", "dataflow/"];
const IMPURE: &[&str] = &[
    "tokio",
    "std::time::Instant",
    "Instant::now",
    "SystemTime",
    "rand::",
    "thread::spawn",
    "std::net",
    "std::fs",
    "Utc::now",
    "Local::now",
];

#[test]
fn imports_point_down() -> TestResult {
    let layer_of: BTreeMap<&str, u8> =
        LAYERS.iter().flat_map(|(layer, rooms)| rooms.iter().map(move |room| (*room, *layer))).collect();
    let mut wrong = vec![];
    for file in files()? {
        // main.rs and lib.rs are the doors; they stand outside the layers.
        let Some(&own) = layer_of.get(file.room.as_str()) else {
            if !matches!(file.room.as_str(), "main" | "lib") {
                wrong.push(format!("{}: room \"{}\" is in no layer", file.path, file.room));
            }
            continue;
        };
        for (line, text) in &file.lines {
            for room in rooms_named(text) {
                let Some(&other) = layer_of.get(room.as_str()) else { continue };
                let is_fine = room == file.room
                    || other < own
                    || (own == FLOOR && other == FLOOR)
                    || ALLOWED.contains(&(file.room.as_str(), room.as_str()));
                if !is_fine {
                    wrong.push(format!(
                        "{}:{line}: {} (layer {own}) names {room} (layer {other})",
                        file.path, file.room
                    ));
                }
            }
        }
    }
    report(wrong)
}

#[test]
fn every_room_of_the_table_is_there() -> TestResult {
    let found: std::collections::BTreeSet<String> = files()?.into_iter().map(|file| file.room).collect();
    let rooms = LAYERS.iter().flat_map(|(_, rooms)| rooms.iter());
    report(rooms.filter(|room| !found.contains(**room)).map(|room| format!("there is no room {room}")).collect())
}

#[test]
fn deliberate_absences() -> TestResult {
    let mut wrong = vec![];
    for file in files()? {
        for (line, text) in &file.lines {
            for (word, home) in ONLY {
                if has_word(text, word) && !file.path.starts_with(home) {
                    wrong.push(format!("{}:{line}: only {home} names {word}", file.path));
                }
            }
            if PURE.iter().any(|room| file.path.starts_with(room)) {
                for word in IMPURE.iter().filter(|word| text.contains(**word)) {
                    wrong.push(format!("{}:{line}: {} must not know {word}", file.path, file.room));
                }
            }
        }
    }
    report(wrong)
}

#[test]
fn files_stay_readable() -> TestResult {
    let mut wrong = vec![];
    for file in files()? {
        if file.line_count >= 1000 {
            wrong.push(format!("{}: {} lines; make it a folder", file.path, file.line_count));
        }
        if !file.opens_with_docs && file.room != "main" {
            wrong.push(format!("{}: does not open with //! saying what it is", file.path));
        }
    }
    report(wrong)
}

struct File {
    /// Below src/.
    path: String,
    room: String,
    /// Code lines by number, without comments, up to the unit tests.
    lines: Vec<(usize, String)>,
    line_count: usize,
    opens_with_docs: bool,
    /// Modules of their own that only tests compile: paths below src/, without `.rs`.
    test_modules: Vec<String>,
}

fn files() -> TestResult<Vec<File>> {
    let src = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![src.clone()], vec![]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                files.push(read(&src, &path)?);
            }
        }
    }
    // What `#[cfg(test)] mod name;` declares is compiled for tests alone, with all that is below it.
    let only_tests: Vec<String> = files.iter().flat_map(|file| file.test_modules.iter().cloned()).collect();
    for file in &mut files {
        let module = file.path.trim_end_matches(".rs");
        if only_tests.iter().any(|test| module == test || module.starts_with(&format!("{test}/"))) {
            file.lines.clear();
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn read(src: &Path, path: &Path) -> TestResult<File> {
    let text = std::fs::read_to_string(path)?;
    let path = path.strip_prefix(src)?.display().to_string();
    let room = path.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_string();
    let mut lines = vec![];
    for (number, line) in text.lines().enumerate() {
        // Unit tests may set up what their room must not name when it runs.
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        let code = without_strings_and_comments(line);
        if !code.trim().is_empty() {
            lines.push((number + 1, code));
        }
    }
    let opens_with_docs = text.starts_with("//!");
    let test_modules = test_modules(&path, &text);
    Ok(File { path, room, lines, line_count: text.lines().count(), opens_with_docs, test_modules })
}

/// What `#[cfg(test)] mod name;` stands for in the file at `path`.
fn test_modules(path: &str, text: &str) -> Vec<String> {
    let own = path.trim_end_matches(".rs");
    // `a/mod.rs` keeps its modules beside it, `a.rs` in the folder `a`; those of lib.rs and main.rs are at the top.
    let folder = match own.rsplit_once('/') {
        Some((folder, "mod")) => format!("{folder}/"),
        None if matches!(own, "lib" | "main") => String::new(),
        _ => format!("{own}/"),
    };
    let after = text.split("#[cfg(test)]\n").skip(1);
    let name = |rest: &str| {
        let line = rest.lines().next()?;
        let name = line.trim_start().trim_start_matches("pub(crate) ").strip_prefix("mod ")?.strip_suffix(';')?;
        Some(format!("{folder}{name}"))
    };
    after.filter_map(name).collect()
}

/// The line as code: what stands in a string or behind `//` names nothing.
fn without_strings_and_comments(line: &str) -> String {
    let (mut code, mut in_string, mut previous) = (String::new(), false, ' ');
    for c in line.chars() {
        match c {
            '"' if previous != '\\' && previous != '\'' => in_string = !in_string,
            '/' if !in_string && previous == '/' => {
                code.pop();
                return code;
            }
            _ if !in_string => code.push(c),
            _ => {}
        }
        previous = if c == '\\' && previous == '\\' { ' ' } else { c };
    }
    code
}

/// Rooms after each `crate::`, also those in braces right behind it.
fn rooms_named(code: &str) -> Vec<String> {
    let mut rooms = vec![];
    for (at, _) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let names: Vec<&str> = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap_or(list).split(',').collect(),
            None => vec![rest],
        };
        rooms.extend(names.iter().map(|name| identifier(name.trim())));
    }
    rooms
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn has_word(code: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        // A crate is named as a path's start: `word::…`, `use word;`.
        !before.is_some_and(|c| is_part(c) || c == '.' || c == '"')
            && after.is_some_and(|c| c == ':' || c == ';')
            && (code[at..].starts_with(&format!("{word}::")) || code.trim_start().starts_with("use "))
    })
}

fn report(wrong: Vec<String>) -> TestResult {
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

#[test]
fn the_reader_of_imports_sees_what_it_must() {
    assert_eq!(rooms_named("use crate::sql::parse;"), ["sql"]);
    assert_eq!(rooms_named("use crate::{error::Result, pg};"), ["error", "pg"]);
    assert_eq!(rooms_named("let x: crate::plan::Window = my_crate::plan();"), ["plan"]);
    assert!(rooms_named(&without_strings_and_comments("// crate::pg, \"crate::sql\"")).is_empty());
    assert!(rooms_named(&without_strings_and_comments("let s = \"crate::sql\";")).is_empty());
    assert_eq!(test_modules("a/mod.rs", "#[cfg(test)]\nmod tests;\n"), ["a/tests"]);
    assert_eq!(test_modules("a/b.rs", "mod c;\n\n#[cfg(test)]\nmod tests;\n"), ["a/b/tests"]);
    assert!(test_modules("a/b.rs", "mod tests;\n#[cfg(test)]\nmod tests {\n").is_empty());
    assert!(has_word("use rocksdb::DB;", "rocksdb"));
    assert!(!has_word("let rocksdb_path = 1;", "rocksdb"));
}
