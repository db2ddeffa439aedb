//! Blanks the comments and literals of Rust source, so that a rule about code sees code only.
//!
//! Every byte that is not code becomes a space and newlines stay: line and column numbers of the
//! masked text are those of the source.

/// The source with comments, strings and character literals replaced by spaces.
pub(crate) fn mask(source: &str) -> String {
    let mut masker = Masker { bytes: source.as_bytes(), at: 0, out: Vec::new() };
    while masker.at < masker.bytes.len() {
        masker.step();
    }
    assert_eq!(masker.out.len(), source.len(), "masking keeps every position");
    // Only whole literals and comments were blanked, so what is left is still UTF-8.
    String::from_utf8_lossy(&masker.out).into_owned()
}

struct Masker<'a> {
    bytes: &'a [u8],
    at: usize,
    out: Vec<u8>,
}

impl Masker<'_> {
    fn step(&mut self) {
        let rest = &self.bytes[self.at..];
        if rest.starts_with(b"//") {
            let len = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
            self.blank(len);
        } else if rest.starts_with(b"/*") {
            self.blank(block_comment_len(rest));
        } else if let Some(len) = raw_string_len(rest).filter(|_| !self.inside_word()) {
            self.blank(len);
        } else if rest[0] == b'"' {
            self.blank(quoted_len(rest, b'"'));
        } else if let Some(len) = char_len(rest) {
            self.blank(len);
        } else {
            self.out.push(rest[0]);
            self.at += 1;
        }
    }

    fn blank(&mut self, len: usize) {
        for &byte in &self.bytes[self.at..self.at + len] {
            self.out.push(if byte == b'\n' { b'\n' } else { b' ' });
        }
        self.at += len;
    }

    /// An `r` at the end of a word does not open a raw string.
    fn inside_word(&self) -> bool {
        self.at > 0 && is_word(self.bytes[self.at - 1])
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

fn block_comment_len(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of `r"..."`, `r#"..."#`, and the same after `b` or `c`.
fn raw_string_len(rest: &[u8]) -> Option<usize> {
    let prefix = usize::from(matches!(rest.first(), Some(b'b' | b'c')));
    let after = rest.get(prefix..)?.strip_prefix(b"r")?;
    let hashes = after.iter().take_while(|&&byte| byte == b'#').count();
    let body = after.get(hashes..)?.strip_prefix(b"\"")?;
    let close = [&b"\""[..], &b"#".repeat(hashes)].concat();
    let end = body.windows(close.len()).position(|window| window == close);
    Some(end.map_or(rest.len(), |end| prefix + 1 + hashes + 1 + end + close.len()))
}

fn quoted_len(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a character literal; None for a lifetime or anything else.
fn char_len(rest: &[u8]) -> Option<usize> {
    if rest[0] != b'\'' {
        return None;
    }
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted_len(rest, b'\''));
    }
    // One character, then the closing quote: a lifetime has no quote there.
    let wide = 1 + rest.get(2..)?.iter().take_while(|&&byte| byte & 0xc0 == 0x80).count();
    (rest.get(1 + wide) == Some(&b'\'')).then_some(wide + 2)
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn comments_and_literals_are_blanked_in_place() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c\n */ d */ e", "a          \n         e"),
            ("x(\"un\\\"safe\") y", "x(          ) y"),
            ("r\"a\\\" b", "      b"),
            ("br#\"a\"b\"# c", "          c"),
            ("for r in \"x\"", "for r in    "),
            (
                "fn f<'a>(c: &'a u8) { '\\'' ; 'x'; '\"' }",
                "fn f<'a>(c: &'a u8) {      ;    ;     }",
            ),
            ("'\u{e9}' 'a'", "        "),
        ] {
            assert_eq!(mask(source), code, "of {source}");
        }
    }

    #[test]
    fn an_unfinished_literal_does_not_panic() {
        for source in ["\"a", "\"a\\", "'\\", "'", "/* a", "r#\"a", "b", "'\u{e9}"] {
            assert_eq!(mask(source).len(), source.len());
        }
    }
}
