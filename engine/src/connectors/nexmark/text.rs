//! The texts of events: filler, names, channels with their URLs.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer};

use super::events::{GOLDEN, lower_below, mix, upper_below};

const FIRST_NAMES: [&str; 11] =
    ["peter", "paul", "luke", "john", "saul", "vicky", "kate", "julie", "sarah", "deiter", "walter"];
const LAST_NAMES: [&str; 9] = ["shultz", "abrams", "spencer", "white", "bartels", "walton", "smith", "jones", "noris"];
const CITIES: [&str; 10] =
    ["phoenix", "los angeles", "san francisco", "boise", "portland", "bend", "redmond", "seattle", "kent", "cheyenne"];
const STATES: [&str; 6] = ["az", "ca", "id", "or", "wa", "wy"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const CHANNELS: u64 = 10_000;

/// Each byte of a random word as a letter from a to z.
#[inline]
fn as_letters(word: u64) -> u64 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    // A byte times 26 fits its lane of 16 bits; the lane's upper byte is the letter's number.
    let even = (((word & EVEN) * 26) >> 8) & EVEN;
    let odd = (((word >> 8) & EVEN) * 26) & !EVEN;
    (even | odd) + 0x6161_6161_6161_6161
}

/// Texts of letters: one for each draw, with the given lengths.
pub fn letters(draws: &[u64], lengths: &[usize]) -> Option<ArrayRef> {
    let offsets = OffsetBuffer::<i32>::from_lengths(lengths.iter().copied());
    let bytes: usize = lengths.iter().sum();
    // Written eight bytes at a time: each text may run into the place of the next, which is written after it.
    let mut all = vec![0_u8; bytes + 8];
    let mut at = 0;
    for (draw, length) in draws.iter().zip(lengths) {
        let mut state = *draw;
        for chunk in all.get_mut(at..at + length.next_multiple_of(8)).unwrap_or_default().chunks_exact_mut(8) {
            state = state.wrapping_add(GOLDEN);
            chunk.copy_from_slice(&as_letters(mix(state)).to_le_bytes());
        }
        at += length;
    }
    all.truncate(bytes);
    string_array(offsets, all)
}

fn string_array(offsets: OffsetBuffer<i32>, bytes: Vec<u8>) -> Option<ArrayRef> {
    StringArray::try_new(offsets, Buffer::from_vec(bytes), None).ok().map(|a| Arc::new(a) as ArrayRef)
}

/// How long the text of [`words`] is for a draw.
pub fn words_length(draw: u64, length_max: u64) -> u64 {
    3 + lower_below(draw, length_max - 3)
}

/// Texts of 3 to `length_max` - 1 letters, with a blank now and then.
pub fn words(draws: &[u64], length_max: u64) -> ArrayRef {
    let text = |draw: &u64| {
        let length = words_length(*draw, length_max);
        let mut state = *draw;
        let mut byte = |at: u64| {
            state = state.wrapping_add(GOLDEN);
            let draw = mix(state);
            let inside = at > 0 && at + 1 < length;
            if inside && upper_below(draw, 13) == 0 { ' ' } else { letter(draw) }
        };
        Some((0..length).map(&mut byte).collect::<String>())
    };
    Arc::new(draws.iter().map(text).collect::<StringArray>())
}

fn letter(draw: u64) -> char {
    char::from(b'a' + lower_below(draw, 26) as u8)
}

fn one_of<'a>(all: &[&'a str], number: u64) -> &'a str {
    all.get(number as usize % all.len()).copied().unwrap_or_default()
}

/// A first and a last name.
pub fn person_name(draw: u64) -> String {
    format!("{} {}", one_of(&FIRST_NAMES, upper_below(draw, 11)), one_of(&LAST_NAMES, lower_below(draw, 9)))
}

/// An address at a domain of five letters.
pub fn email(draw: u64) -> String {
    let letters = |salt: u64| as_letters(mix(draw ^ salt)).to_le_bytes().map(char::from);
    let user: String = letters(1).into_iter().take(3 + upper_below(draw, 5) as usize).collect();
    let domain: String = letters(2).into_iter().take(5).collect();
    format!("{user}@{domain}.com")
}

/// Four groups of four digits.
pub fn credit_card(draw: u64) -> String {
    let group = |at: u32| (draw >> (16 * at)) % 10_000;
    format!("{:04} {:04} {:04} {:04}", group(0), group(1), group(2), group(3))
}

/// A city.
pub fn city(draw: u64) -> String {
    one_of(&CITIES, lower_below(draw, CITIES.len() as u64)).to_string()
}

/// A state of the United States, in two letters.
pub fn state(draw: u64) -> String {
    one_of(&STATES, lower_below(draw, STATES.len() as u64)).to_string()
}

/// Texts in one buffer.
#[derive(Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(self.bytes.len());
    }

    #[inline]
    fn get(&self, at: usize) -> &[u8] {
        let start = at.checked_sub(1).and_then(|i| self.ends.get(i)).copied().unwrap_or(0);
        self.ends.get(at).and_then(|end| self.bytes.get(start..*end)).unwrap_or_default()
    }

    fn take(&self, places: impl ExactSizeIterator<Item = usize>) -> Option<ArrayRef> {
        let mut offsets = Vec::with_capacity(places.len() + 1);
        let mut bytes = Vec::with_capacity(places.len() * 64);
        offsets.push(0_i32);
        for place in places {
            bytes.extend_from_slice(self.get(place));
            offsets.push(bytes.len() as i32);
        }
        string_array(OffsetBuffer::new(offsets.into()), bytes)
    }
}

/// Where bids come from: four hot channels, each with one URL, and 10,000 others.
pub struct Channels {
    names: Texts,
    urls: Texts,
}

impl Channels {
    /// The channels of a seed.
    pub fn new(seed: u64) -> Self {
        let (mut names, mut urls) = (Texts::default(), Texts::default());
        for number in 0..HOT_CHANNELS.len() as u64 + CHANNELS {
            let draw = mix(seed.wrapping_add(number.wrapping_mul(GOLDEN)));
            let folder = |salt: u64| as_letters(mix(draw ^ salt)).to_le_bytes().map(char::from);
            let path: Vec<String> = (1..=3).map(|s| folder(s).into_iter().take(5).collect()).collect();
            let mut url = format!("https://www.nexmark.com/{}/item.htm?query=1", path.join("/"));
            match HOT_CHANNELS.get(number as usize) {
                Some(name) => names.push(name),
                None => {
                    let own = number - HOT_CHANNELS.len() as u64;
                    names.push(&format!("channel-{own}"));
                    if upper_below(draw, 10) > 0 {
                        // A number that does not order as the channels do.
                        let id = (own as u32).reverse_bits() >> 1;
                        url.push_str(&format!("&channel_id={id}"));
                    }
                }
            }
            urls.push(&url);
        }
        Self { names, urls }
    }

    /// Half of the bids come over the hot channels.
    #[inline]
    fn place(draw: u64) -> usize {
        let hot = HOT_CHANNELS.len() as u64;
        let place = if upper_below(draw, 2) > 0 { lower_below(draw, hot) } else { hot + lower_below(draw, CHANNELS) };
        place as usize
    }

    /// The names for some draws.
    pub fn names(&self, draws: &[u64]) -> Option<ArrayRef> {
        self.names.take(draws.iter().map(|d| Self::place(*d)))
    }

    /// The URLs for the same draws.
    pub fn urls(&self, draws: &[u64]) -> Option<ArrayRef> {
        self.urls.take(draws.iter().map(|d| Self::place(*d)))
    }
}
