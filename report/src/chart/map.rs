//! The world with one tile per country, so that Singapore is as easy to see and to tap as Canada.
//!
//! The places are ours: each country's middle, drawn apart where the world is crowded and moved to the next free tile. They
//! tell where a country is among its neighbours, not how large it is or where its borders run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::bar::group;
use super::data::Data;
use super::scale::full;
use super::svg::{Canvas, Escaped, Px};
use super::{ChartSpec, Theme};
use crate::Result;

const COLUMNS: f64 = 38.0;
const ROWS: f64 = 23.0;
/// The faintest and the strongest colour of a country that has a value.
const OPACITY: (f64, f64) = (0.16, 0.95);
/// From here on, text on the tile has the colour of the ground.
const DARK_TILE: f64 = 0.55;

/// The English name of a country by its ISO 3166 alpha-2 code.
pub fn country_name(code: &str) -> Option<&'static str> {
    TILES.iter().find(|(c, ..)| *c == code).map(|(_, name, ..)| *name)
}

pub(super) fn draw(spec: &ChartSpec, data: &Data, theme: Theme) -> Result<String> {
    let groups = group(spec, data, usize::MAX)?;
    let values: BTreeMap<&str, f64> = groups
        .names
        .iter()
        .zip(&groups.values)
        .filter_map(|(code, v)| Some((code.as_str(), v.first().copied().flatten()?)))
        .collect();
    let unplaced: f64 = values.iter().filter(|(code, _)| country_name(code).is_none()).map(|(_, v)| *v).sum();
    let width = f64::from(spec.width_px);
    let tile = width / COLUMNS;
    let foot = if unplaced > 0.0 { 18.0 } else { 2.0 };
    let height = (tile * ROWS + foot).ceil();
    let spec = ChartSpec { height_px: height as u32, data: Vec::new(), ..spec.clone() };
    let mut canvas = Canvas::open(theme, width, height, &spec.title, &spec.description);
    let greatest = values.values().copied().fold(0.0, f64::max);
    if greatest <= 0.0 {
        return Ok(super::empty(&spec, canvas));
    }
    for (code, name, column, row) in TILES {
        let place = (f64::from(*column) * tile, f64::from(*row) * tile, tile);
        draw_tile(&mut canvas, place, code, name, values.get(code).map(|v| (*v, v / greatest)), &spec.unit);
    }
    let note = (unplaced > 0.0).then(|| format!("{} without a known country", full(unplaced)));
    super::draw_note(&mut canvas, &spec, note.as_deref());
    Ok(canvas.close())
}

/// The strength grows with the root of the share: a few great countries must not hide the many small ones.
fn draw_tile(
    canvas: &mut Canvas,
    (x, y, tile): (f64, f64, f64),
    code: &str,
    name: &str,
    value: Option<(f64, f64)>,
    unit: &str,
) {
    let (rect_x, rect_y, size, radius) = (Px(x + 0.75), Px(y + 0.75), Px(tile - 1.5), Px(tile * 0.18));
    let (fill, opacity, ink) = match value {
        Some((_, share)) => {
            let opacity = OPACITY.0 + share.max(0.0).sqrt() * (OPACITY.1 - OPACITY.0);
            (canvas.theme.series_colour(0), opacity, if opacity > DARK_TILE { "ground" } else { "ink" })
        }
        None => (canvas.theme.colour("grid"), 0.7, "muted"),
    };
    let _ = write!(
        canvas.out,
        r#"<rect x="{rect_x}" y="{rect_y}" width="{size}" height="{size}" rx="{radius}" fill="{fill}" fill-opacity="{opacity:.2}""#
    );
    match value {
        Some((value, _)) if canvas.theme == Theme::Page => {
            let tip = format!("{name}: {} {unit}", full(value));
            let _ = write!(canvas.out, "><title>{}</title></rect>", Escaped(tip.trim_end()));
        }
        _ => canvas.out.push_str("/>"),
    }
    let colour = canvas.theme.colour(ink);
    let (text_x, text_y, font) = (Px(x + tile / 2.0), Px(y + tile * 0.66), Px(tile * 0.46));
    let _ = write!(
        canvas.out,
        r#"<text x="{text_x}" y="{text_y}" text-anchor="middle" font-size="{font}" fill="{colour}">{code}</text>"#
    );
}

/// Code, name, column and row from the upper left corner.
const TILES: &[(&str, &str, u8, u8)] = &[
    ("AE", "United Arab Emirates", 24, 11),
    ("AF", "Afghanistan", 25, 8),
    ("AL", "Albania", 17, 8),
    ("AM", "Armenia", 23, 8),
    ("AO", "Angola", 16, 18),
    ("AR", "Argentina", 5, 21),
    ("AT", "Austria", 15, 5),
    ("AU", "Australia", 33, 20),
    ("AZ", "Azerbaijan", 23, 7),
    ("BA", "Bosnia and Herzegovina", 16, 7),
    ("BB", "Barbados", 6, 12),
    ("BD", "Bangladesh", 28, 11),
    ("BE", "Belgium", 13, 4),
    ("BF", "Burkina Faso", 11, 13),
    ("BG", "Bulgaria", 19, 6),
    ("BH", "Bahrain", 23, 10),
    ("BI", "Burundi", 20, 16),
    ("BJ", "Benin", 13, 13),
    ("BN", "Brunei", 31, 14),
    ("BO", "Bolivia", 5, 18),
    ("BR", "Brazil", 6, 17),
    ("BS", "Bahamas", 3, 10),
    ("BT", "Bhutan", 28, 10),
    ("BW", "Botswana", 18, 19),
    ("BY", "Belarus", 19, 4),
    ("BZ", "Belize", 2, 11),
    ("CA", "Canada", 0, 2),
    ("CD", "DR Congo", 18, 16),
    ("CF", "Central African Republic", 17, 14),
    ("CG", "Congo", 16, 16),
    ("CH", "Switzerland", 14, 5),
    ("CI", "Côte d’Ivoire", 11, 14),
    ("CL", "Chile", 4, 21),
    ("CM", "Cameroon", 15, 14),
    ("CN", "China", 29, 8),
    ("CO", "Colombia", 4, 15),
    ("CR", "Costa Rica", 2, 14),
    ("CU", "Cuba", 3, 11),
    ("CV", "Cabo Verde", 8, 12),
    ("CY", "Cyprus", 20, 8),
    ("CZ", "Czechia", 16, 4),
    ("DE", "Germany", 14, 4),
    ("DJ", "Djibouti", 22, 13),
    ("DK", "Denmark", 14, 3),
    ("DO", "Dominican Republic", 4, 12),
    ("DZ", "Algeria", 12, 10),
    ("EC", "Ecuador", 3, 16),
    ("EE", "Estonia", 18, 2),
    ("EG", "Egypt", 19, 10),
    ("EH", "Western Sahara", 9, 10),
    ("ER", "Eritrea", 21, 12),
    ("ES", "Spain", 11, 7),
    ("ET", "Ethiopia", 21, 13),
    ("FI", "Finland", 18, 1),
    ("FJ", "Fiji", 36, 18),
    ("FR", "France", 12, 5),
    ("GA", "Gabon", 15, 16),
    ("GB", "United Kingdom", 11, 3),
    ("GE", "Georgia", 22, 7),
    ("GH", "Ghana", 12, 14),
    ("GL", "Greenland", 7, 0),
    ("GM", "Gambia", 8, 13),
    ("GN", "Guinea", 10, 13),
    ("GQ", "Equatorial Guinea", 14, 15),
    ("GR", "Greece", 18, 8),
    ("GT", "Guatemala", 1, 12),
    ("GW", "Guinea-Bissau", 9, 13),
    ("GY", "Guyana", 6, 14),
    ("HK", "Hong Kong", 31, 11),
    ("HN", "Honduras", 2, 12),
    ("HR", "Croatia", 16, 6),
    ("HT", "Haiti", 4, 11),
    ("HU", "Hungary", 17, 6),
    ("ID", "Indonesia", 31, 16),
    ("IE", "Ireland", 10, 4),
    ("IL", "Israel", 20, 10),
    ("IN", "India", 27, 11),
    ("IQ", "Iraq", 22, 9),
    ("IR", "Iran", 24, 9),
    ("IS", "Iceland", 9, 1),
    ("IT", "Italy", 15, 6),
    ("JM", "Jamaica", 3, 12),
    ("JO", "Jordan", 21, 10),
    ("JP", "Japan", 33, 8),
    ("KE", "Kenya", 21, 15),
    ("KG", "Kyrgyzstan", 26, 7),
    ("KH", "Cambodia", 29, 13),
    ("KM", "Comoros", 22, 17),
    ("KP", "North Korea", 32, 7),
    ("KR", "South Korea", 32, 8),
    ("KW", "Kuwait", 23, 9),
    ("KZ", "Kazakhstan", 26, 5),
    ("LA", "Laos", 30, 12),
    ("LB", "Lebanon", 21, 9),
    ("LK", "Sri Lanka", 27, 14),
    ("LR", "Liberia", 10, 14),
    ("LS", "Lesotho", 19, 20),
    ("LT", "Lithuania", 17, 3),
    ("LU", "Luxembourg", 13, 5),
    ("LV", "Latvia", 18, 3),
    ("LY", "Libya", 16, 10),
    ("MA", "Morocco", 10, 9),
    ("MD", "Moldova", 19, 5),
    ("ME", "Montenegro", 17, 7),
    ("MG", "Madagascar", 23, 19),
    ("MK", "North Macedonia", 19, 7),
    ("ML", "Mali", 11, 12),
    ("MM", "Myanmar", 29, 11),
    ("MN", "Mongolia", 29, 5),
    ("MO", "Macao", 30, 11),
    ("MR", "Mauritania", 9, 11),
    ("MT", "Malta", 15, 8),
    ("MU", "Mauritius", 24, 19),
    ("MV", "Maldives", 26, 15),
    ("MW", "Malawi", 20, 18),
    ("MX", "Mexico", 0, 10),
    ("MY", "Malaysia", 29, 15),
    ("MZ", "Mozambique", 21, 18),
    ("NA", "Namibia", 16, 19),
    ("NE", "Niger", 14, 12),
    ("NG", "Nigeria", 14, 13),
    ("NI", "Nicaragua", 3, 13),
    ("NL", "Netherlands", 13, 3),
    ("NO", "Norway", 14, 2),
    ("NP", "Nepal", 27, 10),
    ("NZ", "New Zealand", 36, 22),
    ("OM", "Oman", 25, 11),
    ("PA", "Panama", 3, 14),
    ("PE", "Peru", 3, 17),
    ("PG", "Papua New Guinea", 34, 17),
    ("PH", "Philippines", 32, 13),
    ("PK", "Pakistan", 26, 9),
    ("PL", "Poland", 17, 4),
    ("PR", "Puerto Rico", 5, 11),
    ("PS", "Palestine", 20, 9),
    ("PT", "Portugal", 10, 7),
    ("PY", "Paraguay", 6, 19),
    ("QA", "Qatar", 24, 10),
    ("RO", "Romania", 18, 5),
    ("RS", "Serbia", 18, 6),
    ("RU", "Russia", 28, 2),
    ("RW", "Rwanda", 19, 16),
    ("SA", "Saudi Arabia", 22, 10),
    ("SB", "Solomon Islands", 35, 17),
    ("SC", "Seychelles", 24, 16),
    ("SD", "Sudan", 19, 12),
    ("SE", "Sweden", 16, 2),
    ("SG", "Singapore", 30, 15),
    ("SI", "Slovenia", 16, 5),
    ("SK", "Slovakia", 17, 5),
    ("SL", "Sierra Leone", 9, 14),
    ("SN", "Senegal", 9, 12),
    ("SO", "Somalia", 23, 14),
    ("SR", "Suriname", 6, 15),
    ("SS", "South Sudan", 20, 14),
    ("SV", "El Salvador", 2, 13),
    ("SY", "Syria", 21, 8),
    ("SZ", "Eswatini", 20, 20),
    ("TD", "Chad", 16, 12),
    ("TG", "Togo", 12, 13),
    ("TH", "Thailand", 29, 12),
    ("TJ", "Tajikistan", 26, 8),
    ("TL", "Timor-Leste", 32, 17),
    ("TM", "Turkmenistan", 24, 7),
    ("TN", "Tunisia", 14, 8),
    ("TO", "Tonga", 37, 19),
    ("TR", "Türkiye", 20, 7),
    ("TT", "Trinidad and Tobago", 5, 13),
    ("TW", "Taiwan", 31, 10),
    ("TZ", "Tanzania", 20, 17),
    ("UA", "Ukraine", 20, 5),
    ("UG", "Uganda", 20, 15),
    ("US", "United States", 0, 7),
    ("UY", "Uruguay", 6, 21),
    ("UZ", "Uzbekistan", 25, 7),
    ("VE", "Venezuela", 5, 14),
    ("VN", "Vietnam", 30, 13),
    ("VU", "Vanuatu", 35, 18),
    ("WS", "Samoa", 37, 18),
    ("XK", "Kosovo", 18, 7),
    ("YE", "Yemen", 23, 12),
    ("ZA", "South Africa", 18, 20),
    ("ZM", "Zambia", 19, 18),
    ("ZW", "Zimbabwe", 19, 19),
];
