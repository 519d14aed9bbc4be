//! Mergeable sets of texts: how many different ones there are, exactly, over any days and in any order.
//!
//! `text_set(text)` makes one of a group's texts, `text_set_merge(set)` one of many, `text_set_count(set)` tells how many texts are
//! in one and `text_set_common(a, b)` makes one of those that are in both. A count of distinct people over a quarter is not the sum of
//! its days' counts: with a set for each day it is what the merged sets hold, and the events need not be gone through again.
//!
//! The bytes: the number of texts, then each text in the order of its bytes as the length of what it shares with the one before it,
//! the length of the rest, and the rest. Numbers are LEB128. Equal sets have equal bytes.
//! Source of the form: front coding, as in Witten, Moffat, Bell: Managing Gigabytes.

use std::hash::BuildHasher;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder, Int64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::hash_utils::RandomState;
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};

use super::sketch::is_binary;

/// `text_set` and `text_set_merge`.
pub fn text_set_aggregates() -> [Arc<AggregateUDF>; 2] {
    [false, true].map(|merges| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::from(TextSet { merges, signature }))
    })
}

/// `text_set_count` and `text_set_common`.
pub fn text_set_scalars() -> [Arc<ScalarUDF>; 2] {
    [false, true].map(|common| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::from(Reading { common, signature }))
    })
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
}

fn put(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The number at the front, and what is behind it.
fn take(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0_usize;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at + 1..)?));
        }
    }
    None
}

/// The texts as bytes, in order.
fn encode<'a>(texts: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + texts.len() * 6);
    put(&mut bytes, texts.len());
    let mut before: &[u8] = &[];
    for text in texts {
        let shared = before.iter().zip(text).take_while(|(a, b)| a == b).count();
        let rest = text.get(shared..).unwrap_or_default();
        put(&mut bytes, shared);
        put(&mut bytes, rest.len());
        bytes.extend_from_slice(rest);
        before = text;
    }
    bytes
}

/// Hands each text to `found`, in order.
fn each(bytes: &[u8], mut found: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut text: Vec<u8> = Vec::new();
    let mut read = || -> Option<Result<()>> {
        let (count, mut left) = take(bytes)?;
        for _ in 0..count {
            let (shared, after) = take(left)?;
            let (length, after) = take(after)?;
            if shared > text.len() || length > after.len() {
                return None;
            }
            let (rest, after) = after.split_at(length);
            text.truncate(shared);
            text.extend_from_slice(rest);
            left = after;
            if let Err(error) = found(&text) {
                return Some(Err(error));
            }
        }
        left.is_empty().then_some(Ok(()))
    };
    match read() {
        Some(done) => done,
        None => exec_err!("these bytes are no set of texts; give the result of text_set() or text_set_merge()"),
    }
}

/// The half of a slot that tells most texts apart without a look at them.
const TAG: u64 = !(u32::MAX as u64);

/// Texts, each once, close together: a quarter's people of a feature are merged from hundreds of sets, so that one of a few bytes
/// should cost no allocation, and the table should stay in the processor's cache.
#[derive(Debug, Default)]
struct Different {
    bytes: Vec<u8>,
    /// Where each text ends.
    ends: Vec<usize>,
    /// By hash, with linear probing: the upper half of the hash and the number of the text, from 1; 0 is free. At most half are taken.
    slots: Vec<u64>,
    hasher: RandomState,
}

impl Different {
    fn text(&self, number: usize) -> &[u8] {
        let end = |number: usize| self.ends.get(number).copied().unwrap_or_default();
        self.bytes.get(number.checked_sub(1).map_or(0, end)..end(number)).unwrap_or_default()
    }

    fn texts(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.ends.len()).map(|number| self.text(number))
    }

    /// The slot that has the text, or the free one where it would be.
    fn find(&self, text: &[u8]) -> (usize, u64, bool) {
        let hash = self.hasher.hash_one(text);
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            match self.slots.get(at) {
                None | Some(0) => return (at, hash & TAG, false),
                Some(slot) if slot & TAG == hash & TAG && self.text((slot & !TAG) as usize - 1) == text => {
                    return (at, hash & TAG, true);
                }
                Some(_) => at = (at + 1) & mask,
            }
        }
    }

    fn contains(&self, text: &[u8]) -> bool {
        self.find(text).2
    }

    fn add(&mut self, text: &[u8]) -> Result<()> {
        if self.ends.len() * 2 >= self.slots.len() {
            self.grow()?;
        }
        let (at, tag, known) = self.find(text);
        if !known {
            self.bytes.extend_from_slice(text);
            self.ends.push(self.bytes.len());
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = tag | self.ends.len() as u64;
            }
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<()> {
        if self.ends.len() as u64 >= u64::from(u32::MAX) / 2 {
            return exec_err!("a set of texts has more than two thousand million; count fewer days at once");
        }
        let places = (self.slots.len() * 2).max(16);
        self.slots.clear();
        self.slots.resize(places, 0);
        for number in 0..self.ends.len() {
            let (at, tag, _) = self.find(self.text(number));
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = tag | (number as u64 + 1);
            }
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.bytes.capacity() + (self.ends.capacity() + self.slots.capacity()) * 8
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextSet {
    merges: bool,
    signature: Signature,
}

impl AggregateUDFImpl for TextSet {
    fn name(&self) -> &str {
        if self.merges { "text_set_merge" } else { "text_set" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [text] if !self.merges && is_text(text) => Ok(vec![DataType::Utf8]),
            [set] if self.merges && is_binary(set) => Ok(vec![DataType::Binary]),
            _ if self.merges => plan_err!("text_set_merge takes one column of sets; write text_set_merge(users)"),
            _ => plan_err!("text_set takes one column of texts; write text_set(user_id)"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "set"), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{} knows no DISTINCT; leave it out", self.name());
        }
        Ok(Box::new(Texts { merges: self.merges, ..Texts::default() }))
    }
}

#[derive(Debug, Default)]
struct Texts {
    merges: bool,
    texts: Different,
}

impl Texts {
    fn merge(&mut self, sets: &ArrayRef) -> Result<()> {
        sets.as_binary::<i32>().iter().flatten().try_for_each(|set| each(set, |text| self.texts.add(text)))
    }

    fn set(&self) -> ScalarValue {
        let mut texts: Vec<&[u8]> = self.texts.texts().collect();
        texts.sort_unstable();
        ScalarValue::Binary((!texts.is_empty()).then(|| encode(texts.into_iter())))
    }
}

impl Accumulator for Texts {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        if self.merges {
            return self.merge(values);
        }
        values.as_string::<i32>().iter().flatten().try_for_each(|text| self.texts.add(text.as_bytes()))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.set())
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.texts.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.set()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states.first().map_or(Ok(()), |sets| self.merge(sets))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Reading {
    common: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Reading {
    fn name(&self) -> &str {
        if self.common { "text_set_common" } else { "text_set_count" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let wanted = if self.common { 2 } else { 1 };
        if given.len() == wanted && given.iter().all(is_binary) {
            return Ok(vec![DataType::Binary; wanted]);
        }
        match self.common {
            true => plan_err!("text_set_common takes two sets; write text_set_common(users, buyers)"),
            false => plan_err!("text_set_count takes a set; write text_set_count(text_set_merge(users))"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(if self.common { DataType::Binary } else { DataType::Int64 })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let sets = |place: usize| match args.args.get(place) {
            Some(sets) => Ok(cast(&sets.to_array(args.number_rows)?, &DataType::Binary)?),
            None => exec_err!("{} lacks a set", self.name()),
        };
        let first = sets(0)?;
        if !self.common {
            let mut counts = Int64Builder::with_capacity(first.len());
            for set in first.as_binary::<i32>() {
                counts.append_option(set.map(count).transpose()?);
            }
            return Ok(ColumnarValue::Array(Arc::new(counts.finish())));
        }
        let second = sets(1)?;
        let mut common = BinaryBuilder::new();
        for pair in first.as_binary::<i32>().iter().zip(second.as_binary::<i32>()) {
            common.append_option(match pair {
                (Some(a), Some(b)) => Some(both(a, b)?),
                _ => None,
            });
        }
        Ok(ColumnarValue::Array(Arc::new(common.finish())))
    }
}

fn count(set: &[u8]) -> Result<i64> {
    let mut texts = 0;
    each(set, |_| {
        texts += 1;
        Ok(())
    })?;
    Ok(texts)
}

fn both(a: &[u8], b: &[u8]) -> Result<Vec<u8>> {
    let (mut known, mut common) = (Different::default(), Different::default());
    each(a, |text| known.add(text))?;
    each(b, |text| if known.contains(text) { common.add(text) } else { Ok(()) })?;
    // Those of `b` were in order, and so are these.
    Ok(encode(common.texts()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{BinaryArray, StringArray};

    fn of(texts: &[&str]) -> Vec<u8> {
        let mut set = Texts::default();
        set.update_batch(&[Arc::new(StringArray::from(texts.to_vec()))]).unwrap();
        let ScalarValue::Binary(Some(bytes)) = set.evaluate().unwrap() else { panic!("no set") };
        bytes
    }

    fn texts(set: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        let mut keep = |text: &[u8]| {
            found.push(String::from_utf8(text.to_vec()).unwrap());
            Ok(())
        };
        each(set, &mut keep).unwrap();
        found
    }

    #[test]
    fn a_set_has_each_text_once_whatever_the_order() {
        let set = of(&["user-2", "user-10", "user-2", "", "zoë", "user-1"]);
        assert_eq!(texts(&set), ["", "user-1", "user-10", "user-2", "zoë"]);
        assert_eq!(set, of(&["zoë", "user-1", "user-2", "user-10", ""]), "equal sets have equal bytes");
        assert_eq!(count(&set).unwrap(), 5);
    }

    #[test]
    fn merging_is_the_union_and_common_the_intersection() {
        let (a, b) = (of(&["a", "ab", "b"]), of(&["ab", "abc", "b"]));
        let mut merged = Texts { merges: true, ..Texts::default() };
        let sets = BinaryArray::from_opt_vec(vec![Some(&a), None, Some(&b), Some(&a)]);
        merged.update_batch(&[Arc::new(sets)]).unwrap();
        let ScalarValue::Binary(Some(union)) = merged.evaluate().unwrap() else { panic!("no set") };
        assert_eq!(texts(&union), ["a", "ab", "abc", "b"]);
        assert_eq!(texts(&both(&a, &b).unwrap()), ["ab", "b"]);
        assert_eq!(count(&both(&a, &of(&["x"])).unwrap()).unwrap(), 0);
    }

    #[test]
    fn long_texts_and_many() {
        let long = "x".repeat(300);
        let many: Vec<String> = (0..1_000).map(|n| format!("{long}{n:04}")).collect();
        let set = of(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(texts(&set), many);
        assert!(set.len() < 8_000, "what neighbours share is kept once: {} bytes", set.len());
    }

    #[test]
    fn other_bytes_are_no_set() {
        for bytes in [&b""[..], b"\x02\x00\x01a", b"\x01\x05\x01a", b"\x01\x00\x09a", b"\x00rest", &[0xff; 12]] {
            let error = count(bytes).unwrap_err().to_string();
            assert!(error.contains("no set of texts; give the result of text_set()"), "{bytes:?}: {error}");
        }
    }
}
