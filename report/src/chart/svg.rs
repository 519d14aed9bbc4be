//! SVG text: escaping, short numbers, colours. Elements are written with presentation attributes only, so that a page
//! with a strict content security policy shows them as they are.

use std::fmt::{self, Write as _};

/// Where a chart is shown, which decides its colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// In a web page: colours are CSS variables (`--millstream-ink` and so on) that [`page_css`] sets for light and dark,
    /// with the light ones as fallback. Marks carry their value as a tooltip.
    Page,
    /// On paper and in PDF: plain light colours.
    Print,
}

/// Light and dark values of each colour, by the name of its CSS variable.
///
/// The series colours are after Okabe and Ito (2008), told apart with all common colour deficiencies, darkened
/// or lightened until each has a contrast of at least 3:1 with the ground; the yellow, which cannot, is left out.
const COLOURS: &[(&str, &str, &str)] = &[
    ("ink", "#1f2933", "#e4e7eb"),
    ("muted", "#5f6b7a", "#9aa5b1"),
    ("grid", "#e6e9ee", "#323f4b"),
    ("axis", "#b8c1cc", "#616e7c"),
    ("ground", "#ffffff", "#12181f"),
    ("0", "#0072b2", "#4ba3dc"),
    ("1", "#d55e00", "#f2884b"),
    ("2", "#008a66", "#2cb892"),
    ("3", "#b5578f", "#dd94bd"),
    ("4", "#a87500", "#e6b13d"),
    ("5", "#3a8fc4", "#8ac8f0"),
    ("6", "#5b5ea6", "#a3a6e3"),
    ("7", "#5f6b7a", "#9aa5b1"),
];

/// How many series have a colour of their own.
pub(super) const SERIES_MAX: usize = 8;

/// The font stack of a page; the PDF has its own fonts.
const PAGE_FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
/// The family that the PDF embeds, in its condensed width.
pub(crate) const PRINT_FONT: &str = "DejaVu Sans";

impl Theme {
    pub(super) fn colour(self, name: &str) -> String {
        let light = COLOURS.iter().find(|(n, ..)| *n == name).map_or("#1f2933", |(_, light, _)| light);
        match self {
            Self::Page => format!("var(--millstream-{name}, {light})"),
            Self::Print => light.to_owned(),
        }
    }

    pub(super) fn series_colour(self, index: usize) -> String {
        self.colour(&(index % SERIES_MAX).to_string())
    }

    pub(super) fn font(self) -> &'static str {
        match self {
            Self::Page => PAGE_FONT,
            Self::Print => PRINT_FONT,
        }
    }
}

/// The style sheet with the colours of charts in light and dark. The reader's preference decides, unless the page's root
/// says `data-theme="light"` or `"dark"`.
pub fn page_css() -> String {
    let mut light = String::new();
    let mut dark = String::new();
    for (name, light_value, dark_value) in COLOURS {
        let _ = write!(light, "--millstream-{name}:{light_value};");
        let _ = write!(dark, "--millstream-{name}:{dark_value};");
    }
    format!(
        ":root{{{light}}}\n@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n\
         :root[data-theme=dark]{{{dark}}}\n"
    )
}

/// Text with the five characters that mean something in XML replaced; control characters, which XML cannot carry,
/// become spaces.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// A length in pixels to a tenth: `12`, `12.5`.
#[derive(Clone, Copy)]
pub(super) struct Px(pub(super) f64);

impl fmt::Display for Px {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        write!(f, "{}", if rounded == 0.0 { 0.0 } else { rounded })
    }
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A chart being written.
pub(super) struct Canvas {
    pub(super) out: String,
    pub(super) theme: Theme,
}

/// The size of axis and legend text.
pub(super) const FONT_PX: f64 = 11.0;

impl Canvas {
    /// Opens the `<svg>` with its title and description for screen readers.
    pub(super) fn open(theme: Theme, width: f64, height: f64, title: &str, description: &str) -> Self {
        let mut out = String::with_capacity(8 * 1024);
        let _ = write!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {} {}" width="{}" height="{}" role="img" class="millstream-chart" font-family="{}"{} font-size="{FONT_PX}">"#,
            Px(width),
            Px(height),
            Px(width),
            Px(height),
            Escaped(theme.font()),
            if theme == Theme::Print { r#" font-stretch="condensed""# } else { "" },
        );
        let _ = write!(out, "<title>{}</title>", Escaped(title));
        if !description.is_empty() {
            let _ = write!(out, "<desc>{}</desc>", Escaped(description));
        }
        Self { out, theme }
    }

    pub(super) fn close(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }

    pub(super) fn line(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), colour: &str) {
        let colour = self.theme.colour(colour);
        let (x1, y1, x2, y2) = (Px(x1), Px(y1), Px(x2), Px(y2));
        let _ = write!(self.out, r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}"/>"#);
    }

    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, colour: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let colour = self.theme.colour(colour);
        let (x, y, text) = (Px(x), Px(y), Escaped(text));
        let _ = write!(self.out, r#"<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{colour}">{text}</text>"#);
    }

    /// A text that ends at the point and rises to it from the lower left.
    pub(super) fn slanted_text(&mut self, (x, y): (f64, f64), colour: &str, text: &str) {
        let colour = self.theme.colour(colour);
        let (x, y, text) = (Px(x), Px(y), Escaped(text));
        let _ = write!(
            self.out,
            r#"<text x="{x}" y="{y}" text-anchor="end" transform="rotate(-35 {x} {y})" fill="{colour}">{text}</text>"#
        );
    }
}

/// The width of a text at `FONT_PX`, estimated: fonts of readers differ, and layout needs only a close upper figure.
pub(super) fn text_width(text: &str) -> f64 {
    text.chars()
        .map(|c| match c {
            'i' | 'l' | 'I' | 'j' | '.' | ',' | ':' | ';' | '|' | '\'' | ' ' | 't' | 'f' => 0.36,
            'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.9,
            c if c.is_ascii_uppercase() => 0.68,
            c if (c as u32) >= 0x1100 => 1.05,
            _ => 0.58,
        })
        .sum::<f64>()
        * FONT_PX
}

/// The text cut to a width, with an ellipsis where something was cut.
pub(super) fn fit(text: &str, width: f64) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let mut cut = String::new();
    let mut used = text_width("…");
    for c in text.chars() {
        used += text_width(c.encode_utf8(&mut [0; 4]));
        if used > width {
            break;
        }
        cut.push(c);
    }
    format!("{}…", cut.trim_end())
}
