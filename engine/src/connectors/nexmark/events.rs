//! Events by their number: which kind, which ids, and every column as an array.
//!
//! The parameters are those of Beam's and Flink's generators, which differ from the paper's in their hot keys.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampNanosecondArray};

use super::Kind;
use super::text::{self, Channels};

const EPOCH: u64 = 50;
const AUCTIONS_PER_EPOCH: u64 = 3;
const FIRST_PERSON_ID: i64 = 1000;
const FIRST_AUCTION_ID: i64 = 1000;
const FIRST_CATEGORY_ID: i64 = 10;
const CATEGORIES: u64 = 5;

/// Ids that do not exist yet may be named: a reference can arrive before what it refers to.
const ID_LEAD: u64 = 10;
const ACTIVE_PEOPLE: u64 = 1000;
const AUCTIONS_IN_FLIGHT: u64 = 100;

/// Every hundredth auction, seller and bidder is a hot one.
const HOT_EVERY: u64 = 100;

/// One in so many is not hot.
const COLD_AUCTIONS: u64 = 2;
const COLD_SELLERS: u64 = 4;
const COLD_BIDDERS: u64 = 4;

const PERSON_BYTES: u64 = 200;
const AUCTION_BYTES: u64 = 500;
const BID_BYTES: u64 = 100;
const ITEM_NAME_MAX: u64 = 20;
const DESCRIPTION_MAX: u64 = 100;

/// What a draw is for. Each purpose has draws of its own, so that no column depends on which others are generated.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub enum Purpose {
    Auction = 1,
    Bidder,
    Price,
    Reserve,
    Channel,
    Seller,
    Category,
    Expires,
    Name,
    Description,
    Email,
    CreditCard,
    City,
    State,
    ExtraLength,
    Extra,
}

/// The kind of an event.
pub fn kind(number: u64) -> Kind {
    match number % EPOCH {
        0 => Kind::Person,
        1..=3 => Kind::Auction,
        _ => Kind::Bid,
    }
}

/// The numbers of the events of a kind, in order.
pub fn numbers(wanted: Kind, range: Range<u64>) -> Vec<u64> {
    let places = match wanted {
        Kind::Person => 0..1,
        Kind::Auction => 1..1 + AUCTIONS_PER_EPOCH,
        Kind::Bid => 1 + AUCTIONS_PER_EPOCH..EPOCH,
    };
    let mut all = Vec::with_capacity((range.end - range.start) as usize);
    let mut epoch = range.start - range.start % EPOCH;
    while epoch < range.end {
        all.extend((epoch + places.start).max(range.start)..(epoch + places.end).min(range.end));
        epoch += EPOCH;
    }
    all
}

/// SplitMix64's output function: every bit of the result depends on every bit of `z`.
#[inline]
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// SplitMix64's increment: the golden ratio.
pub const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A number below `n` from the upper half of a draw.
#[inline]
pub fn upper_below(draw: u64, n: u64) -> u64 {
    ((draw >> 32) * n) >> 32
}

/// A number below `n` from the lower half of a draw.
#[inline]
pub fn lower_below(draw: u64, n: u64) -> u64 {
    ((draw & 0xffff_ffff) * n) >> 32
}

/// The newest person at an event, from 0.
#[inline]
fn newest_person(number: u64) -> u64 {
    number / EPOCH
}

/// The newest auction at an event, from 0; at the very first event, which is a person, it is 0 too.
#[inline]
fn newest_auction(number: u64) -> u64 {
    let (epoch, place) = (number / EPOCH, number % EPOCH);
    (epoch * AUCTIONS_PER_EPOCH + place.min(AUCTIONS_PER_EPOCH)).saturating_sub(1)
}

#[inline]
fn active_person(number: u64, draw: u64) -> u64 {
    let people = newest_person(number) + 1;
    let active = people.min(ACTIVE_PEOPLE);
    people - active + lower_below(draw, active + ID_LEAD)
}

/// All events of a seed.
pub struct Events {
    seed: u64,
    first_event_time: i64,
    /// Microseconds from one event to the next.
    period_us: f64,
    channels: Channels,
}

impl Events {
    /// Event 0 happens at `first_event_time`, in nanoseconds since the epoch; `event_rate` events a second.
    pub fn new(seed: u64, first_event_time: i64, event_rate: f64) -> Self {
        let seed = mix(seed.wrapping_add(GOLDEN));
        Self { seed, first_event_time, period_us: 1e6 / event_rate, channels: Channels::new(seed) }
    }

    /// A column of the events of a kind; `None` if the kind has none of that name.
    pub fn column(&self, kind: Kind, name: &str, numbers: &[u64]) -> Option<ArrayRef> {
        if name == super::EVENT_TIME {
            return Some(self.times(numbers));
        }
        Some(match kind {
            Kind::Person => self.person(name, numbers)?,
            Kind::Auction => self.auction(name, numbers)?,
            Kind::Bid => self.bid(name, numbers)?,
        })
    }

    /// The event times: whole microseconds, as tables hold them.
    pub fn times(&self, numbers: &[u64]) -> ArrayRef {
        Arc::new(TimestampNanosecondArray::from_iter_values(numbers.iter().map(|n| self.time(*n))))
    }

    #[inline]
    fn time(&self, number: u64) -> i64 {
        self.first_event_time + (number as f64 * self.period_us) as i64 * 1_000
    }

    #[inline]
    fn draw(&self, number: u64, purpose: Purpose) -> u64 {
        let key = self.seed ^ (purpose as u64).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mix(key.wrapping_add(number.wrapping_mul(GOLDEN)))
    }

    fn integers(&self, numbers: &[u64], purpose: Purpose, value: impl Fn(u64, u64) -> i64) -> ArrayRef {
        let values = numbers.iter().map(|n| value(*n, self.draw(*n, purpose)));
        Arc::new(Int64Array::from(values.collect::<Vec<_>>()))
    }

    fn draws(&self, numbers: &[u64], purpose: Purpose) -> Vec<u64> {
        numbers.iter().map(|n| self.draw(*n, purpose)).collect()
    }

    /// Filler that brings an event to `bytes` on average, of which event n has `have(n)` already: up to a fifth more or less.
    fn extra(&self, numbers: &[u64], bytes: u64, have: impl Fn(u64) -> u64) -> Option<ArrayRef> {
        let length = |number: &u64| {
            let wanted = bytes.saturating_sub(have(*number));
            let spread = (wanted + 2) / 5;
            (wanted - spread + lower_below(self.draw(*number, Purpose::ExtraLength), (2 * spread).max(1))) as usize
        };
        let lengths: Vec<usize> = numbers.iter().map(length).collect();
        text::letters(&self.draws(numbers, Purpose::Extra), &lengths)
    }

    fn bid(&self, name: &str, numbers: &[u64]) -> Option<ArrayRef> {
        Some(match name {
            "auction" => self.integers(numbers, Purpose::Auction, |number, draw| {
                let newest = newest_auction(number);
                let oldest = newest.saturating_sub(AUCTIONS_IN_FLIGHT);
                let any = oldest + lower_below(draw, newest - oldest + 1 + ID_LEAD);
                let hot = upper_below(draw, COLD_AUCTIONS) > 0;
                FIRST_AUCTION_ID + if hot { newest - newest % HOT_EVERY } else { any } as i64
            }),
            "bidder" => self.integers(numbers, Purpose::Bidder, |number, draw| {
                let newest = newest_person(number);
                let hot = upper_below(draw, COLD_BIDDERS) > 0;
                let bidder = if hot { newest - newest % HOT_EVERY + 1 } else { active_person(number, draw) };
                FIRST_PERSON_ID + bidder as i64
            }),
            "price" => self.integers(numbers, Purpose::Price, |_, draw| price(draw)),
            "channel" => self.channels.names(&self.draws(numbers, Purpose::Channel))?,
            "url" => self.channels.urls(&self.draws(numbers, Purpose::Channel))?,
            "extra" => self.extra(numbers, BID_BYTES, |_| 32)?,
            _ => return None,
        })
    }

    fn auction(&self, name: &str, numbers: &[u64]) -> Option<ArrayRef> {
        Some(match name {
            "id" => self.integers(numbers, Purpose::Auction, |n, _| FIRST_AUCTION_ID + newest_auction(n) as i64),
            "itemname" => text::words(&self.draws(numbers, Purpose::Name), ITEM_NAME_MAX),
            "description" => text::words(&self.draws(numbers, Purpose::Description), DESCRIPTION_MAX),
            "initialbid" => self.integers(numbers, Purpose::Price, |_, draw| price(draw)),
            "reserve" => self.integers(numbers, Purpose::Price, |number, draw| {
                price(draw) + price(self.draw(number, Purpose::Reserve))
            }),
            "expires" => Arc::new(TimestampNanosecondArray::from_iter_values(numbers.iter().map(|n| self.expires(*n)))),
            "seller" => self.integers(numbers, Purpose::Seller, |number, draw| {
                let newest = newest_person(number);
                let hot = upper_below(draw, COLD_SELLERS) > 0;
                FIRST_PERSON_ID + if hot { newest - newest % HOT_EVERY } else { active_person(number, draw) } as i64
            }),
            "category" => self.integers(numbers, Purpose::Category, |_, draw| {
                FIRST_CATEGORY_ID + lower_below(draw, CATEGORIES) as i64
            }),
            "extra" => {
                let name = |n| text::words_length(self.draw(n, Purpose::Name), ITEM_NAME_MAX);
                let description = |n| text::words_length(self.draw(n, Purpose::Description), DESCRIPTION_MAX);
                self.extra(numbers, AUCTION_BYTES, |n| 48 + name(n) + description(n))?
            }
            _ => return None,
        })
    }

    /// On average as long after the start as it takes until [`AUCTIONS_IN_FLIGHT`] more have begun.
    fn expires(&self, number: u64) -> i64 {
        let horizon_us = (AUCTIONS_IN_FLIGHT * EPOCH / AUCTIONS_PER_EPOCH) as f64 * self.period_us;
        let fraction = (self.draw(number, Purpose::Expires) >> 11) as f64 / (1_u64 << 53) as f64;
        self.time(number) + (1 + (fraction * 2.0 * horizon_us) as i64) * 1_000
    }

    fn person(&self, name: &str, numbers: &[u64]) -> Option<ArrayRef> {
        let string = |name: &str, number: u64| {
            let (text, purpose): (fn(u64) -> String, _) = match name {
                "name" => (text::person_name, Purpose::Name),
                "emailaddress" => (text::email, Purpose::Email),
                "creditcard" => (text::credit_card, Purpose::CreditCard),
                "city" => (text::city, Purpose::City),
                _ => (text::state, Purpose::State),
            };
            text(self.draw(number, purpose))
        };
        Some(match name {
            "id" => self.integers(numbers, Purpose::Name, |n, _| FIRST_PERSON_ID + newest_person(n) as i64),
            "extra" => {
                let texts = ["name", "emailaddress", "creditcard", "city", "state"];
                let bytes = |n| texts.iter().map(|t| string(t, n).len() as u64).sum::<u64>();
                self.extra(numbers, PERSON_BYTES, |n| 8 + bytes(n))?
            }
            _ => Arc::new(numbers.iter().map(|n| Some(string(name, *n))).collect::<StringArray>()),
        })
    }
}

/// 100 x 10^(6u) for u in [0, 1), rounded. By additions and multiplications alone, so that it is the same on every
/// machine, which a library's power function is not.
#[inline]
fn price(draw: u64) -> i64 {
    /// 6 log2(10).
    const BITS: f64 = 19.931_568_569_324_174;
    let exponent = (draw >> 11) as f64 / (1_u64 << 53) as f64 * BITS;
    let whole = exponent as u64;
    // 2^f for f in [0, 1): the power series of e^x at x = f ln 2, to 10^-8.
    let x = (exponent - whole as f64) * std::f64::consts::LN_2;
    let mut series = 1.0;
    for n in [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0] {
        series = 1.0 + series * x * (1.0 / n);
    }
    (100.0 * series * (1_u64 << whole) as f64 + 0.5) as i64
}
