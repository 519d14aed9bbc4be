//! Fonts of a report. The binary brings a sans serif with Latin, Greek, Cyrillic, Arabic, Hebrew and symbols, and emoji in one
//! colour. What a report holds beyond that, such as Chinese, is looked for in the fonts of the machine, and only then; characters
//! that no font has are named in the report, since a box tells nobody what is missing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::LazyLock;

use fontdb::{Database, Source};
use typst::foundations::{Bytes, Dict, Value};
use typst::text::{Font, FontBook, FontFlags, FontInfo, FontStyle, is_default_ignorable};
use typst::utils::LazyHash;

use crate::chart::PRINT_FONT;

const EMOJI_FONT: &str = "Noto Emoji";

/// Characters that the warning names; it counts the others.
const NAMED_MAX: usize = 8;

/// The fonts that one report is set in.
pub(super) struct Fonts {
    pub(super) book: LazyHash<FontBook>,
    pub(super) fonts: Vec<Font>,
    /// The families in the order in which they are asked for a character.
    pub(super) families: Vec<String>,
    /// Characters that none of them has.
    missing: BTreeSet<char>,
}

static BUNDLED: LazyLock<Vec<Font>> = LazyLock::new(|| {
    let files =
        [dejavu::sans_condensed::regular(), dejavu::sans_condensed::bold(), epaint_default_fonts::NOTO_EMOJI_REGULAR];
    files.into_iter().flat_map(|file| Font::iter(Bytes::new(file))).collect()
});

/// One face of a file.
pub(super) struct Face {
    path: PathBuf,
    index: u32,
    info: FontInfo,
}

/// The faces of the machine; looked for once, when a report first needs one.
static MACHINE: LazyLock<Vec<Face>> = LazyLock::new(|| {
    let mut known = Database::new();
    known.load_system_fonts();
    faces(&known)
});

fn faces(known: &Database) -> Vec<Face> {
    let face = |face: &fontdb::FaceInfo| {
        let (Source::File(path) | Source::SharedFile(path, _)) = &face.source else { return None };
        let info = known.with_face_data(face.id, FontInfo::new).flatten()?;
        Some(Face { path: path.clone(), index: face.index, info })
    };
    let mut faces: Vec<Face> = known.faces().filter_map(face).collect();
    // The order of a folder is not the same on every machine.
    faces.sort_by(|a, b| (&a.path, a.index).cmp(&(&b.path, b.index)));
    faces
}

impl Fonts {
    /// For all that a report says, from the binary and the machine.
    pub(super) fn of_machine(report: &Dict) -> Self {
        let missing = uncovered(report);
        if missing.is_empty() { Self::with(missing, &[]) } else { Self::with(missing, &MACHINE) }
    }

    /// As few faces as have as much of what is missing as can be had.
    fn with(mut missing: BTreeSet<char>, faces: &[Face]) -> Self {
        let mut fonts = BUNDLED.clone();
        let mut families = vec![PRINT_FONT.to_string(), EMOJI_FONT.to_string()];
        let mut unread = BTreeSet::new();
        loop {
            let usable = faces.iter().enumerate().filter(|(number, _)| !unread.contains(number));
            let best = usable.max_by_key(|(number, face)| (rank(&face.info, &missing), std::cmp::Reverse(*number)));
            let Some((number, face)) = best.filter(|(_, face)| has(&face.info, &missing) > 0) else { break };
            unread.insert(number);
            let font = std::fs::read(&face.path).ok().and_then(|bytes| Font::new(Bytes::new(bytes), face.index));
            // One that vanished meanwhile is none.
            let Some(font) = font else { continue };
            missing.retain(|c| !font.info().coverage.contains(*c as u32));
            if !families.contains(&font.info().family) {
                families.push(font.info().family.clone());
            }
            fonts.push(font);
        }
        Self { book: LazyHash::new(FontBook::from_fonts(&fonts)), fonts, families, missing }
    }

    /// What a reader must know of characters that are shown as boxes; empty if there are none.
    pub(super) fn warning(&self) -> String {
        if self.missing.is_empty() {
            return String::new();
        }
        let named: Vec<String> = self.missing.iter().take(NAMED_MAX).map(|c| format!("U+{:04X}", *c as u32)).collect();
        let more = self.missing.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let script = self.missing.iter().find_map(|c| script(*c)).map_or(String::new(), |s| format!(", {s}"));
        format!(
            "Shown as boxes: {}{more}{script}. No font on the machine that made this report has them; install one that does, such \
             as the package fonts-noto-cjk or fonts-noto-core.",
            named.join(", ")
        )
    }
}

/// What a face is good for: first how much of the missing it has, then whether it looks like the others.
fn rank(info: &FontInfo, missing: &BTreeSet<char>) -> (usize, bool, bool, bool, bool, i32) {
    let variant = info.variant;
    (
        has(info, missing),
        !info.flags.contains(FontFlags::SERIF) && !info.family.contains("Serif"),
        !info.flags.contains(FontFlags::MONOSPACE),
        variant.style == FontStyle::Normal,
        info.family.starts_with("Noto Sans"),
        -(i32::from(variant.weight.to_number()) - 400).abs(),
    )
}

fn has(info: &FontInfo, missing: &BTreeSet<char>) -> usize {
    missing.iter().filter(|c| info.coverage.contains(**c as u32)).count()
}

/// The characters of a report that the binary's fonts lack.
fn uncovered(report: &Dict) -> BTreeSet<char> {
    let mut characters = BTreeSet::new();
    report.iter().for_each(|(_, value)| collect(value, &mut characters));
    let bundled = |c: char| BUNDLED.iter().any(|font| font.info().coverage.contains(c as u32));
    characters
        .retain(|c| !(c.is_ascii() || c.is_whitespace() || c.is_control() || is_default_ignorable(*c) || bundled(*c)));
    characters
}

fn collect(value: &Value, characters: &mut BTreeSet<char>) {
    match value {
        Value::Str(text) => characters.extend(text.chars()),
        // A chart; its marks are ASCII.
        Value::Bytes(svg) => characters.extend(svg.as_str().unwrap_or_default().chars()),
        Value::Array(values) => values.iter().for_each(|value| collect(value, characters)),
        Value::Dict(values) => values.iter().for_each(|(_, value)| collect(value, characters)),
        _ => {}
    }
}

/// A word for what a character is, of those that are most missed.
fn script(c: char) -> Option<&'static str> {
    Some(match c as u32 {
        0x0900..=0x0d7f => "of an Indian script",
        0x0e00..=0x0eff => "Thai or Lao",
        0x1100..=0x11ff | 0xac00..=0xd7a3 => "Korean",
        0x3040..=0x30ff => "Japanese",
        0x2e80..=0x303f | 0x3400..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x3ffff => "Chinese or Japanese",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> BTreeSet<char> {
        let report: Dict = [("title".into(), Value::Str(text.into()))].into_iter().collect();
        uncovered(&report)
    }

    #[test]
    fn the_binary_has_what_most_of_the_world_writes() {
        let text = "Zoë naïve Ωμέγα Привет שלום مرحبا 🚀 ✓ → € \u{200b} ▲";
        assert_eq!(missing(text), BTreeSet::new());
        assert_eq!(missing("漢字 한국어 ไทย").len(), 8, "3 of them Thai; the spaces are not missed");
    }

    #[test]
    fn characters_that_no_font_has_are_named() {
        let fonts = Fonts::with(missing("漢字"), &[]);
        assert_eq!(
            fonts.warning(),
            "Shown as boxes: U+5B57, U+6F22, Chinese or Japanese. No font on the machine that made this report has them; install one \
             that does, such as the package fonts-noto-cjk or fonts-noto-core."
        );
        let many = Fonts::with(missing("一二三四五六七八九十"), &[]);
        assert!(many.warning().contains("U+516D and 2 more, Chinese"), "{}", many.warning());
        assert_eq!(Fonts::with(BTreeSet::new(), &[]).warning(), "");
    }

    #[test]
    fn a_font_of_the_machine_is_taken_for_what_is_missing_and_no_more() {
        let fonts = Fonts::with(missing("漢字かな"), &MACHINE);
        assert_eq!(fonts.warning(), "", "`make test` installs fonts-droid-fallback");
        assert_eq!(fonts.fonts.len(), BUNDLED.len() + 1, "{:?}", fonts.families);
    }
}
