//! The documents that say what came out: between two marks of theirs, which stay.

use std::{fs, path::Path};

use crate::{results::Results, rows::Row, tables};

const BEGIN: &str = "<!-- by `compare --write`: begin -->";
const END: &str = "<!-- by `compare --write`: end -->";

/// Everything into this folder's, and a line for each row into klamm's own.
pub(crate) fn write(results: &Results) -> Result<(), String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    insert(&here.join("RESULTS.md"), &everything(results))?;
    insert(&here.join("../../README.md"), &in_short(results))
}

/// Rows that are measured by default, and are not there.
pub(crate) fn absent(results: &Results) -> Vec<&'static str> {
    let is_there = |name: &str| results.rows.iter().any(|(trial, _)| trial.name == name);
    Row::all().map(Row::name).filter(|name| !is_there(name)).collect()
}

fn everything(results: &Results) -> String {
    let rows = results.rows.iter();
    let rows = rows.map(|(trial, races)| format!("\n## {}\n\n{}", trial.name, tables::of_trial(trial, races)));
    let circumstances = capitalized(&results.circumstances(|_| true));
    let all = tables::of_all(&results.rows);
    format!("{circumstances}\n\n## In short\n\n{all}{}", rows.collect::<String>())
}

fn in_short(results: &Results) -> String {
    let circumstances = capitalized(&results.circumstances(tables::is_shown));
    format!("{circumstances}\n\n{}", tables::of_most(&results.rows))
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(letters).collect()
}

fn insert(document: &Path, text: &str) -> Result<(), String> {
    let complain = |error: String| format!("{}: {error}", document.display());
    let before = fs::read_to_string(document).map_err(|error| complain(error.to_string()))?;
    let after = between_marks(&before, text).ok_or_else(|| complain(format!("there is no {BEGIN} with its end")))?;
    fs::write(document, after).map_err(|error| complain(error.to_string()))
}

fn between_marks(document: &str, text: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_marks_stays() {
        let document = format!("# Title\n\n{BEGIN}\n\nold\n\n{END}\n\nMore.\n");
        let once = between_marks(&document, "new\n").expect("both marks");
        assert_eq!(once, format!("# Title\n\n{BEGIN}\n\nnew\n\n{END}\n\nMore.\n"));
        assert_eq!(between_marks(&once, "new\n"), Some(once));
        assert_eq!(between_marks("no marks", "new"), None);
    }

    #[test]
    fn the_documents_have_their_marks() {
        for document in [
            include_str!("../../../RESULTS.md"),
            include_str!("../../../../../README.md"),
        ] {
            assert!(between_marks(document, "").is_some());
        }
    }
}
