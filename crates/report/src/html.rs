//! A report as one HTML page that needs nothing else.
//!
//! The page is the Markdown report with its charts inside. It asks for no network and runs
//! nothing: markup in the Markdown is shown as text, links lead only within the page, an image is
//! a chart of the report or its description, and a content security policy forbids the rest.

use std::collections::HashMap;
use std::iter::Peekable;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use crate::{REPORT, Rendered};

/// Name of the file.
pub const HTML: &str = "report.html";

/// Nothing is loaded and nothing runs; styles stand in the page and in its charts.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Colours are those of the charts. Wide tables scroll in their own box, so that the page never
/// does.
const STYLE: &str = include_str!("../templates/page.css");

/// The page of a report.
pub fn render_html(rendered: &Rendered) -> String {
    let markdown = rendered.get(REPORT).unwrap_or_default();
    let events: Vec<Event<'_>> = Parser::new_ext(markdown, Options::ENABLE_TABLES).collect();
    let headings = headings(&events);
    let title = headings.first().map_or("Report", |it| it.text.as_str());
    let mut body = String::new();
    html::push_html(&mut body, page(events, &headings, rendered).into_iter());
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
         </body>\n</html>\n",
        escape(title)
    )
}

/// A heading of the report, in their order.
struct Heading {
    text: String,
    /// What a link within the page calls it, by GitHub's rule.
    anchor: String,
}

fn headings(events: &[Event<'_>]) -> Vec<Heading> {
    let mut headings: Vec<Heading> = Vec::new();
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut open = None;
    for event in events {
        match event {
            Event::Start(Tag::Heading { .. }) => open = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                let text = open.take().unwrap_or_default();
                let anchor = anchor(&text);
                let earlier = seen.entry(anchor.clone()).or_default();
                let anchor = match *earlier {
                    0 => anchor,
                    count => format!("{anchor}-{count}"),
                };
                *earlier += 1;
                headings.push(Heading { text, anchor });
            }
            event => {
                if let Some(text) = &mut open {
                    text.push_str(words(event));
                }
            }
        }
    }
    headings
}

/// Lower-case words joined by hyphens, without punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase)
        .map(|it| if it == ' ' { '-' } else { it })
        .collect()
}

/// The report's events as the page shows them.
fn page<'a>(
    events: Vec<Event<'a>>,
    headings: &'a [Heading],
    rendered: &Rendered,
) -> Vec<Event<'a>> {
    let mut page = Vec::with_capacity(events.len());
    let mut events = events.into_iter().peekable();
    let mut headings = headings.iter();
    let mut section = "";
    // Whether each open link leads within the page.
    let mut links = Vec::new();
    while let Some(event) = events.next() {
        let shown = match event {
            Event::Start(Tag::Heading { level, .. }) => {
                let heading = headings.next();
                section = heading.map_or("", |it| &it.text);
                Event::Start(Tag::Heading {
                    level,
                    id: heading.map(|it| it.anchor.as_str().into()),
                    classes: Vec::new(),
                    attrs: Vec::new(),
                })
            }
            Event::Start(Tag::Image { dest_url, .. }) => {
                let description = description(&mut events);
                match rendered.get(&dest_url) {
                    Some(svg) if dest_url.ends_with(".svg") => {
                        Event::InlineHtml(chart(svg, &description).into())
                    }
                    _ => Event::Text(description.into()),
                }
            }
            Event::Start(Tag::Link { dest_url, .. }) if !dest_url.starts_with('#') => {
                links.push(false);
                continue;
            }
            event @ Event::Start(Tag::Link { .. }) => {
                links.push(true);
                event
            }
            Event::End(TagEnd::Link) if links.pop() == Some(false) => continue,
            event @ Event::Start(Tag::Table(_)) => {
                // A box that scrolls has to be reached by the keyboard, and so has a name.
                page.push(Event::Html(
                    format!(
                        "<div class=\"table\" role=\"group\" tabindex=\"0\" \
                         aria-label=\"Table: {}\">",
                        escape(section)
                    )
                    .into(),
                ));
                event
            }
            event @ Event::End(TagEnd::Table) => {
                page.push(event);
                Event::Html("</div>\n".into())
            }
            Event::Start(Tag::HtmlBlock) => Event::Start(Tag::Paragraph),
            Event::End(TagEnd::HtmlBlock) => Event::End(TagEnd::Paragraph),
            Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
            event => event,
        };
        page.push(shown);
    }
    page
}

/// The text up to the end of an image.
fn description<'a>(events: &mut Peekable<impl Iterator<Item = Event<'a>>>) -> String {
    let mut text = String::new();
    let mut depth = 1;
    for event in events {
        match &event {
            Event::Start(Tag::Image { .. }) => depth += 1,
            Event::End(TagEnd::Image) => depth -= 1,
            event => text.push_str(words(event)),
        }
        if depth == 0 {
            break;
        }
    }
    text
}

fn words<'e>(event: &'e Event<'_>) -> &'e str {
    match event {
        Event::Text(text) | Event::Code(text) | Event::Html(text) | Event::InlineHtml(text) => text,
        Event::SoftBreak | Event::HardBreak => " ",
        _ => "",
    }
}

/// A chart as part of the page, named by what the report says of it.
fn chart(svg: &str, description: &str) -> String {
    let named = format!("<svg aria-label=\"{}\" ", escape(description));
    svg.trim_end().replacen("<svg ", &named, 1)
}

fn escape(text: &str) -> CowStr<'_> {
    if !text.contains(['&', '<', '>', '"']) {
        return text.into();
    }
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    escaped.replace('"', "&quot;").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::File;

    /// The contents of the page of this Markdown, which has a chart `a.svg`.
    fn check(markdown: &str, expected: &str) {
        let svg = "<svg width=\"1\">\n<title>A</title>\n</svg>\n";
        let files = [(REPORT, markdown), ("a.svg", svg)];
        let files = files.map(|(name, text)| File {
            name,
            text: text.to_owned(),
        });
        let page = render_html(&Rendered {
            files: files.to_vec(),
        });
        let (_, body) = page.split_once("<main>\n").unwrap();
        let (body, _) = body.split_once("</main>").unwrap();
        assert_eq!(body, expected, "{markdown}");
    }

    #[test]
    fn markup_of_markdown_is_text() {
        check(
            "a <b>bold</b> <script>alert(1)</script>",
            "<p>a &lt;b&gt;bold&lt;/b&gt; &lt;script&gt;alert(1)&lt;/script&gt;</p>\n",
        );
        check(
            "<script>\nalert(1)\n</script>",
            "<p>&lt;script&gt;\nalert(1)\n&lt;/script&gt;</p>\n",
        );
        check(
            "```html\n<script>\n```",
            "<pre><code class=\"language-html\">&lt;script&gt;\n</code></pre>\n",
        );
        check("&lt;i&gt; \\<i>", "<p>&lt;i&gt; &lt;i&gt;</p>\n");
    }

    #[test]
    fn links_lead_within_the_page() {
        check("[a](#b)", "<p><a href=\"#b\">a</a></p>\n");
        for elsewhere in [
            "[a](https://b)",
            "[a](javascript:alert(1))",
            "[a](b.html)",
            "[a][b]\n\n[b]: https://b",
        ] {
            check(elsewhere, "<p>a</p>\n");
        }
        check("<https://a>", "<p>https://a</p>\n");
    }

    #[test]
    fn an_image_is_a_chart_or_its_description() {
        check(
            "![\"see\" <this>](a.svg)",
            "<p><svg aria-label=\"&quot;see&quot; &lt;this&gt;\" width=\"1\">\n<title>A</title>\n\
             </svg></p>\n",
        );
        for elsewhere in [
            "![see](https://b/a.svg)",
            "![see](b.svg)",
            "![see](report.md)",
        ] {
            check(elsewhere, "<p>see</p>\n");
        }
        check("[![see](b.svg)](https://b)", "<p>see</p>\n");
    }

    #[test]
    fn headings_have_the_anchors_that_github_gives_them() {
        check(
            "# A *b*: `c_d`\n\n## E\n\n## E",
            "<h1 id=\"a-b-c_d\">A <em>b</em>: <code>c_d</code></h1>\n<h2 id=\"e\">E</h2>\n\
             <h2 id=\"e-1\">E</h2>\n",
        );
    }

    #[test]
    fn a_table_scrolls_in_its_own_box() {
        check(
            "## \"T\"\n\n| a |\n| --- |\n| b |\n",
            "<h2 id=\"t\">\"T\"</h2>\n<div class=\"table\" role=\"group\" tabindex=\"0\" \
             aria-label=\"Table: &quot;T&quot;\"><table><thead><tr><th>a</th></tr></thead><tbody>\n\
             <tr><td>b</td></tr>\n</tbody></table>\n</div>\n",
        );
    }

    #[test]
    fn the_first_heading_is_the_title() {
        let files = vec![File {
            name: REPORT,
            text: "# a &lt;/title&gt;\n".to_owned(),
        }];
        let page = render_html(&Rendered { files });
        assert!(page.contains("<title>a &lt;/title&gt;</title>"), "{page}");
    }
}
