//! PEM that came through a property, where lines may have become blanks.

/// The same with the lines that it should have. What is no PEM stays as it is, to be refused where it is read.
pub(super) fn in_lines(text: &str) -> String {
    // Of one piece, so that nothing of a key is left where it was moved from.
    let mut lines = String::with_capacity(text.len() + text.len() / LINE + 64);
    let mut rest = text;
    while let Some((label, body, behind)) = section(rest) {
        // Headers, which need their lines: an encrypted key of old.
        if body.contains(':') {
            return text.to_owned();
        }
        lines.push_str("-----BEGIN ");
        lines.push_str(label);
        lines.push_str("-----");
        let characters = body.chars().filter(|c| !c.is_whitespace());
        for (at, c) in characters.enumerate() {
            if at % LINE == 0 {
                lines.push('\n');
            }
            lines.push(c);
        }
        lines.push_str("\n-----END ");
        lines.push_str(label);
        lines.push_str("-----\n");
        rest = behind;
    }
    match lines.is_empty() {
        true => text.to_owned(),
        false => lines,
    }
}

const LINE: usize = 64;

/// The first section's label and what is in it, and what follows.
fn section(text: &str) -> Option<(&str, &str, &str)> {
    let (_, begun) = text.split_once("-----BEGIN ")?;
    let (label, begun) = begun.split_once("-----")?;
    let (body, behind) = begun.split_once("-----END ")?;
    let (_, behind) = behind.split_once("-----")?;
    Some((label, body, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_one_line_has_lines_again() {
        let body = "A".repeat(70);
        let lines = format!("-----BEGIN X-----\n{}\n{}\n-----END X-----\n", &body[..64], &body[64..]);
        let one = lines.replace('\n', " ");
        assert_eq!(in_lines(&one), lines);
        assert_eq!(in_lines(&lines), lines);
        assert_eq!(in_lines(&format!("words\n{one}words {one}words")), lines.repeat(2));
        assert_eq!(in_lines("no PEM"), "no PEM");
        let encrypted = "-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END X-----";
        assert_eq!(in_lines(encrypted), encrypted);
        assert_eq!(in_lines("-----BEGIN X-----AAAA"), "-----BEGIN X-----AAAA");
    }
}
