//! Markdown that keeps foreign text as text.
//!
//! Prompts, generated text, and the names of models, files and devices come from outside. What
//! this module writes shows them as they are and lets none of them become markup.

use std::fmt::Write as _;

/// `text` as inline Markdown that renders as exactly these characters.
///
/// Line breaks and other control characters, and those that reorder text, are shown as escapes.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // A plain backslash escape would still end a table cell in some renderers.
            '|' => escaped.push_str("&#124;"),
            // `:` and `www.` start automatic links, `$` starts mathematics.
            '\\' | '`' | '*' | '_' | '[' | ']' | '!' | '~' | '$' | ':' => {
                escaped.push('\\');
                escaped.push(character);
            }
            '.' if escaped.ends_with("www") => escaped.push_str("\\."),
            hidden if is_hidden(hidden) => {
                escaped.push('\\');
                let _ = write!(escaped, "{}", hidden.escape_default());
            }
            plain => escaped.push(plain),
        }
    }
    escaped
}

/// `text` as a fenced code block, with the fence longer than any run of backticks in it.
///
/// Line feeds are kept; every other control character is shown as an escape.
pub(crate) fn code_block(text: &str) -> String {
    let mut longest = 0;
    let mut run = 0;
    for character in text.chars() {
        run = if character == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(3.max(longest + 1));
    let shown = visible(text, true);
    format!("{fence}text\n{shown}\n{fence}")
}

/// `text` cut to the width of `limit` Latin characters, with an ellipsis where it was cut.
pub(crate) fn shorten(text: &str, limit: usize) -> String {
    // East Asian characters and emoji, most of which are twice as wide, begin here.
    let width = |character: char| if character < '\u{1100}' { 1 } else { 2 };
    if text.chars().map(width).sum::<usize>() <= limit {
        return text.to_owned();
    }
    let mut room = limit.saturating_sub(1);
    let mut short = String::new();
    for character in text.chars() {
        let Some(left) = room.checked_sub(width(character)) else {
            break;
        };
        room = left;
        short.push(character);
    }
    short.push('…');
    short
}

/// `text` with its control and reordering characters written as escapes.
pub(crate) fn visible(text: &str, keep_line_feeds: bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) && !(keep_line_feeds && character == '\n') {
            let _ = write!(shown, "{}", character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether a character changes the layout or is not allowed in XML, rather than being seen.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
                | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
        )
}

/// How a column is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table with a head and one row a line. Cells are Markdown already.
pub(crate) fn table<const N: usize>(head: [(&str, Align); N], rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for (title, _) in head {
        let _ = write!(text, "| {title} ");
    }
    text.push_str("|\n");
    for (_, align) in head {
        text.push_str(match align {
            Align::Left => "| --- ",
            Align::Right => "| ---: ",
        });
    }
    text.push('|');
    for row in rows {
        text.push('\n');
        for cell in row {
            let _ = write!(text, "| {cell} ");
        }
        text.push('|');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_stays_text_inline() {
        let cases = [
            ("plain words, 12.5 %", "plain words, 12.5 %"),
            ("a|b", "a&#124;b"),
            ("<script>&", "&lt;script&gt;&amp;"),
            ("![x](y)", "\\!\\[x\\](y)"),
            ("www.x", "www\\.x"),
            ("`*_~", "\\`\\*\\_\\~"),
            ("a\nb\r\t", "a\\\\nb\\\\r\\\\t"),
            ("https://x", "https\\://x"),
            ("\u{202e}abc", "\\\\u{202e}abc"),
            ("two\\n", "two\\\\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(escape(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_fence_is_longer_than_any_run_of_backticks_inside() {
        let cases = [
            ("a", "```text\na\n```"),
            ("```\n<b>", "````text\n```\n<b>\n````"),
            ("`````", "``````text\n`````\n``````"),
            ("a\u{1b}[31m\r", "```text\na\\u{1b}[31m\\r\n```"),
            ("", "```text\n\n```"),
        ];
        for (text, expected) in cases {
            assert_eq!(code_block(text), expected, "{text:?}");
        }
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äö…");
        assert_eq!(shorten("人工知能", 8), "人工知能");
        assert_eq!(shorten("人工知能", 7), "人工知…");
        assert_eq!(shorten("人工知能", 6), "人工…");
    }

    #[test]
    fn a_table_has_one_row_a_line() {
        let rows = [["a".to_owned(), "1".to_owned()]];
        assert_eq!(
            table([("Name", Align::Left), ("Count", Align::Right)], &rows),
            "| Name | Count |\n| --- | ---: |\n| a | 1 |"
        );
    }
}
