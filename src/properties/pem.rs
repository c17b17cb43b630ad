//! PEM that came through a property, where lines may have become blanks.

/// The same with the lines that it should have. What is no PEM stays as it is, to be refused where it is read.
pub(super) fn in_lines(text: &str) -> String {
    // Of one piece, so that nothing of a key is left where it was moved from.
    let mut lines = String::with_capacity(text.len() + text.len() / LINE + 64);
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        // Cut off, or another one's end: whoever reads it is to say so.
        let Some((label, body, behind)) = section(begun) else {
            return text.to_owned();
        };
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

/// The label of a section that has begun and what is in it, and what follows; None if it does not end.
fn section(begun: &str) -> Option<(&str, &str, &str)> {
    let (label, begun) = begun.split_once("-----")?;
    let (body, behind) = begun.split_once("-----END ")?;
    let (end, behind) = behind.split_once("-----")?;
    (end == label && !body.contains("-----")).then_some((label, body, behind))
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
        for damaged in [
            "-----BEGIN X-----AAAA",
            "-----BEGIN X-----AAAA-----END X----------BEGIN X-----AAAA",
            "-----BEGIN X-----AAAA-----END Y-----",
            "-----BEGIN X-----AAAA-----BEGIN X-----BBBB-----END X-----",
            "-----BEGIN X-----AAAA-----END X-----\n-----BEGIN X",
        ] {
            assert_eq!(in_lines(damaged), damaged);
        }
    }
}
