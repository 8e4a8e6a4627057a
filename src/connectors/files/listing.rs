//! Which files a path means: itself, all below a directory, or all that match a pattern; in the order of their names.
//! Names that begin with a dot or an underscore are left out, as are files that are no UTF-8 (a partition is a text).

use std::path::{Path, PathBuf};

use super::file::failure;
use crate::error::Result;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    pub partition: String,
    pub path: PathBuf,
}

/// Empty if nothing is there. 58030 if a directory cannot be read.
pub fn list(path: &str) -> Result<Vec<Listed>> {
    let root = Path::new(path);
    if root.is_file() {
        let name = root.file_name().map_or_else(|| path.into(), |name| name.to_string_lossy().into_owned());
        return Ok(vec![Listed { partition: name, path: root.to_path_buf() }]);
    }
    let (base, pattern) = if root.is_dir() { (root.to_path_buf(), "**") } else { split_pattern(path) };
    let pattern: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
    let mut found = vec![];
    if !pattern.is_empty() && base.is_dir() {
        walk(&base, &mut vec![], &pattern, &mut found)?;
    }
    found.sort();
    Ok(found)
}

/// The directory in front of the first part with a wildcard, and the rest. Without a wildcard the rest is empty.
fn split_pattern(path: &str) -> (PathBuf, &str) {
    let Some(wildcard) = path.find(['*', '?']) else { return (PathBuf::from(path), "") };
    match path[..wildcard].rfind('/') {
        None => (PathBuf::from("."), path),
        Some(0) => (PathBuf::from("/"), &path[1..]),
        Some(slash) => (PathBuf::from(&path[..slash]), &path[slash + 1..]),
    }
}

const DEPTH_MAX: usize = 32;

fn walk(directory: &Path, parts: &mut Vec<String>, pattern: &[&str], found: &mut Vec<Listed>) -> Result<()> {
    if parts.len() >= DEPTH_MAX {
        return Ok(());
    }
    for entry in std::fs::read_dir(directory).map_err(|e| failure("read directory", directory, e))? {
        let entry = entry.map_err(|e| failure("read directory", directory, e))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with(['.', '_']) {
            continue;
        }
        let path = entry.path();
        // Follows links; what has vanished in between is neither file nor directory.
        let (is_dir, is_file) = std::fs::metadata(&path).map_or((false, false), |m| (m.is_dir(), m.is_file()));
        parts.push(name);
        if is_dir && (pattern.contains(&"**") || parts.len() < pattern.len()) {
            walk(&path, parts, pattern, found)?;
        } else if is_file && matches_parts(&parts.iter().map(String::as_str).collect::<Vec<_>>(), pattern) {
            found.push(Listed { partition: parts.join("/"), path });
        }
        parts.pop();
    }
    Ok(())
}

fn matches_parts(parts: &[&str], pattern: &[&str]) -> bool {
    match (pattern, parts) {
        (["**"], _) => !parts.is_empty(),
        (["**", rest @ ..], _) => (0..=parts.len()).any(|skipped| matches_parts(&parts[skipped..], rest)),
        ([first, rest @ ..], [part, more @ ..]) => matches_part(part, first) && matches_parts(more, rest),
        ([], []) => true,
        _ => false,
    }
}

/// `*`: any characters, `?`: any one. Goes back only to the last `*`, so the time is bounded by the product of lengths.
fn matches_part(text: &str, pattern: &str) -> bool {
    let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
    let (mut t, mut p, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == '?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                None => return false,
                Some((star_p, star_t)) => {
                    star = Some((star_p, star_t + 1));
                    p = star_p + 1;
                    t = star_t + 1;
                }
            },
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let matches = |path: &str, pattern: &str| {
            matches_parts(&path.split('/').collect::<Vec<_>>(), &pattern.split('/').collect::<Vec<_>>())
        };
        assert!(matches("a.csv", "*.csv"));
        assert!(matches("a/b/c.csv", "**/*.csv"));
        assert!(matches("c.csv", "**/*.csv"));
        assert!(matches("2024/01/x", "2024/??/*"));
        assert!(!matches("2024/1/x", "2024/??/*"));
        assert!(!matches("a.csv.gz", "*.csv"));
        assert!(matches("aXbXc", "a*b*c"));
        assert!(!matches("a/b", "*"));
    }

    #[test]
    fn directories_are_listed_by_name() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().to_str().ok_or("a UTF-8 path")?;
        std::fs::create_dir_all(dir.path().join("d/e"))?;
        for name in ["b.csv", "a.csv", ".hidden", "_temporary", "d/c.csv", "d/e/x.json"] {
            std::fs::write(dir.path().join(name), "")?;
        }
        let names =
            |path: String| -> Result<Vec<String>> { Ok(list(&path)?.into_iter().map(|f| f.partition).collect()) };
        assert_eq!(names(root.to_string())?, ["a.csv", "b.csv", "d/c.csv", "d/e/x.json"]);
        assert_eq!(names(format!("{root}/*.csv"))?, ["a.csv", "b.csv"]);
        assert_eq!(names(format!("{root}/**/*.json"))?, ["d/e/x.json"]);
        assert_eq!(names(format!("{root}/b.csv"))?, ["b.csv"]);
        assert_eq!(names(format!("{root}/none.csv"))?, Vec::<String>::new());
        Ok(())
    }
}
