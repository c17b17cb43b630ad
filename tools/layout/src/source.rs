//! Finds the definitions: in the jar, or in a folder made of it.

use crate::Result;
use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// The definition of each API's answer, without the comments.
pub fn read<'a>(place: &Path, apis: &[&'a str]) -> Result<Vec<(&'a str, String)>> {
    let mut place = if place.is_dir() {
        Place::Folder(place.join("common/message"))
    } else {
        let file = fs::File::open(place).map_err(|why| format!("cannot open {}: {why}", place.display()))?;
        let jar = zip::ZipArchive::new(file).map_err(|why| format!("{} is no jar: {why}", place.display()))?;
        Place::Jar(Box::new(jar))
    };
    apis.iter()
        .map(|&api| {
            let name = format!("{api}Response.json");
            let text = place.text(&name).map_err(|why| format!("cannot read {name}: {why}"))?;
            Ok((api, without_comments(&text)))
        })
        .collect()
}

enum Place {
    Folder(PathBuf),
    Jar(Box<zip::ZipArchive<fs::File>>),
}

impl Place {
    fn text(&mut self, name: &str) -> Result<String> {
        match self {
            Self::Folder(folder) => fs::read_to_string(folder.join(name)).map_err(|why| why.to_string()),
            Self::Jar(jar) => {
                let mut entry = jar
                    .by_name(&format!("common/message/{name}"))
                    .map_err(|why| why.to_string())?;
                let mut text = String::new();
                entry.read_to_string(&mut text).map_err(|why| why.to_string())?;
                Ok(text)
            }
        }
    }
}

/// Kafka's JSON has comments from `//` to the end of the line; inside a string `//` is text.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' if in_string => {
                kept.push(char);
                kept.extend(chars.next());
                continue;
            }
            '"' => in_string = !in_string,
            '/' if !in_string && chars.peek() == Some(&'/') => {
                while chars.next_if(|&char| char != '\n').is_some() {}
                continue;
            }
            _ => {}
        }
        kept.push(char);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::without_comments;

    #[test]
    fn comments_end_with_their_line_and_are_text_inside_strings() {
        assert_eq!(without_comments("{ // a \"b\n1 }//c"), "{ \n1 }");
        assert_eq!(without_comments(r#""http://x" // y"#), r#""http://x" "#);
        assert_eq!(without_comments(r#""a\"// b" // c"#), r#""a\"// b" "#);
    }
}
