//! Readmes: Markdown to HTML that can do no harm on our page.

use std::collections::HashSet;
use std::sync::LazyLock;

use ammonia::Builder;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

/// What is longer is cut before it is read.
const BYTES_MAX: usize = 256 << 10;

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut cleaner = Builder::default();
    // Pictures from elsewhere would tell their server who reads what; ours come from https alone.
    cleaner
        .url_schemes(HashSet::from(["https", "http", "mailto"]))
        .link_rel(Some("nofollow noopener noreferrer ugc"))
        .id_prefix(Some("readme-"))
        .add_tag_attributes("code", ["class"])
        .rm_tags(["map", "area"]);
    cleaner
});

/// Safe HTML of a readme. Its headings begin below the page's own.
pub fn readme_html(markdown: &str) -> String {
    let mut end = markdown.len().min(BYTES_MAX);
    while !markdown.is_char_boundary(end) {
        end -= 1;
    }
    let text = markdown.get(..end).unwrap_or_default();
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let lower = |level| {
        use pulldown_cmark::HeadingLevel::{H1, H2, H3, H4, H5, H6};
        match level {
            H1 => H3,
            H2 => H4,
            H3 => H5,
            H4 | H5 | H6 => H6,
        }
    };
    let events = Parser::new_ext(text, options).map(|event| match event {
        Event::Start(Tag::Heading { level, id, classes, attrs }) => {
            Event::Start(Tag::Heading { level: lower(level), id, classes, attrs })
        }
        Event::End(TagEnd::Heading(level)) => Event::End(TagEnd::Heading(lower(level))),
        other => other,
    });
    let mut raw = String::with_capacity(text.len() * 3 / 2);
    html::push_html(&mut raw, events);
    CLEANER.clean(&raw).to_string()
}

/// The words of a readme for the search index.
pub fn summary_of(markdown: &str, chars_max: usize) -> String {
    let mut words = String::new();
    for event in Parser::new(markdown.get(..markdown.len().min(BYTES_MAX)).unwrap_or_default()) {
        if let Event::Text(text) | Event::Code(text) = event {
            words.push_str(&text);
            words.push(' ');
        }
        if words.len() > chars_max * 4 {
            break;
        }
    }
    words.chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::readme_html;

    #[test]
    fn harm_is_taken_out_and_text_stays() {
        let html = readme_html(
            "# Title\n\n<script>alert(1)</script>\n\n[x](javascript:alert(1)) ![p](data:text/html,1)\n\n\
             <img src=x onerror=alert(1)> <a href='https://a.example'>ok</a>\n\n| a |\n|---|\n| b |\n",
        );
        for bad in ["<script", "javascript:", "onerror", "data:text", "<h1"] {
            assert!(!html.contains(bad), "{bad} in {html}");
        }
        for good in ["<h3>Title</h3>", "https://a.example", "nofollow", "<table>"] {
            assert!(html.contains(good), "{good} missing in {html}");
        }
    }
}
