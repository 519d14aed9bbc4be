//! The text index: words of name, title, tags, summary and readme, found also when they are misspelt or not yet finished.

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::query::{BooleanQuery, BoostQuery, FuzzyTermQuery, Occur, Query, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TEXT};
use tantivy::{
    DocId, Index, IndexReader, IndexWriter, ReloadPolicy, Score, Searcher, SegmentOrdinal, SegmentReader,
    TantivyDocument, Term,
};

use super::Card;
use crate::problem::{Problem, Result};

/// Of the writer; the index itself is about as large as its texts.
const WRITER_BYTES: usize = 20 << 20;
/// Words of a search; the rest is ignored.
const WORDS_MAX: usize = 12;

/// Words of the index and what a word in each field is worth.
#[derive(Debug, Clone, Copy)]
struct Fields {
    slot: Field,
    name: Field,
    title: Field,
    tags: Field,
    summary: Field,
    readme: Field,
}

/// Texts of all listed agents.
pub(super) struct TextIndex {
    fields: Fields,
    writer: IndexWriter,
    reader: IndexReader,
}

impl std::fmt::Debug for TextIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TextIndex")
    }
}

fn broken(error: tantivy::TantivyError) -> Problem {
    Problem::internal(format!("the text index said: {error}"))
}

/// A reader of the texts, for many searches at once.
#[derive(Clone)]
pub(super) struct TextReader {
    fields: Fields,
    reader: IndexReader,
}

impl TextIndex {
    /// Nothing in it, in memory.
    pub fn new() -> Result<Self> {
        let mut schema = Schema::builder();
        let fields = Fields {
            slot: schema.add_u64_field("slot", INDEXED | FAST),
            name: schema.add_text_field("name", TEXT),
            title: schema.add_text_field("title", TEXT),
            tags: schema.add_text_field("tags", TEXT),
            summary: schema.add_text_field("summary", TEXT),
            readme: schema.add_text_field("readme", TEXT),
        };
        let index = Index::create_in_ram(schema.build());
        let writer = index.writer_with_num_threads(1, WRITER_BYTES).map_err(broken)?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into().map_err(broken)?;
        Ok(Self { fields, writer, reader })
    }

    /// For searching.
    pub fn reader(&self) -> TextReader {
        TextReader { fields: self.fields, reader: self.reader.clone() }
    }

    /// Takes out `gone`, puts in `cards` in place of what was there of them.
    pub fn replace<'a>(&mut self, gone: &[u64], cards: impl Iterator<Item = &'a Card>) -> Result<()> {
        let f = self.fields;
        for slot in gone {
            self.writer.delete_term(Term::from_field_u64(f.slot, *slot));
        }
        for card in cards {
            self.writer.delete_term(Term::from_field_u64(f.slot, card.slot));
            let mut document = TantivyDocument::default();
            document.add_u64(f.slot, card.slot);
            document.add_text(f.name, format!("{} {}", card.namespace, card.name));
            document.add_text(f.title, &card.title);
            document.add_text(f.tags, card.tags.join(" "));
            document.add_text(f.summary, &card.summary);
            document.add_text(f.readme, &card.readme);
            self.writer.add_document(document).map_err(broken)?;
        }
        self.writer.commit().map_err(broken)?;
        self.reader.reload().map_err(broken)
    }
}

/// The words of a search, as the index has them.
pub(super) fn words(text: &str) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty() && w.len() <= 40);
    words.map(str::to_string).take(WORDS_MAX).collect()
}

/// Letters that may be wrong in a word of so many.
fn typos(word: &str) -> u8 {
    match word.chars().count() {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    }
}

/// Agents that have a word as it is written from which on it is taken to be written right.
const RIGHT_DOCUMENTS: u64 = 10;

impl TextReader {
    /// The score of each agent that has all `words`, by slot, 0 where it has not; the best has 1. If none has all, those that
    /// have some.
    pub fn scores(&self, words: &[String]) -> Result<Vec<f32>> {
        let all = self.run(words, Occur::Must)?;
        if !all.is_empty() || words.len() < 2 {
            return Ok(all);
        }
        self.run(words, Occur::Should)
    }

    fn run(&self, words: &[String], occur: Occur) -> Result<Vec<f32>> {
        let searcher = self.reader.searcher();
        let parts = words.iter().map(|word| Ok((occur, self.one_word(&searcher, word)?)));
        let parts = parts.collect::<tantivy::Result<Vec<_>>>().map_err(broken)?;
        let mut scores = searcher.search(&BooleanQuery::new(parts), &BySlot).map_err(broken)?;
        let best = scores.iter().copied().fold(f32::MIN_POSITIVE, f32::max);
        scores.iter_mut().for_each(|score| *score /= best);
        Ok(scores)
    }

    /// A word as it stands counts by how rare it is; begun or misspelt, a fixed little. Words that many agents have are not
    /// misspelt: looking for others near them would cost the most where it is needed the least.
    fn one_word(&self, searcher: &Searcher, word: &str) -> tantivy::Result<Box<dyn Query>> {
        let f = self.fields;
        let mut ways: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        let mut add = |query: Box<dyn Query>, boost: f32| {
            ways.push((Occur::Should, Box::new(BoostQuery::new(query, boost))));
        };
        let mut known = 0;
        for (field, boost) in [(f.name, 4.0), (f.title, 3.0), (f.tags, 2.0), (f.summary, 1.0), (f.readme, 0.3)] {
            let term = Term::from_field_text(field, word);
            known = known.max(searcher.doc_freq(&term)?);
            add(Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs)), boost);
        }
        if word.chars().count() >= 2 {
            for (field, boost) in [(f.name, 2.0), (f.title, 1.5)] {
                add(Box::new(FuzzyTermQuery::new_prefix(Term::from_field_text(field, word), 0, true)), boost);
            }
        }
        let distance = typos(word);
        if distance > 0 && known < RIGHT_DOCUMENTS {
            for (field, boost) in [(f.name, 1.0), (f.title, 0.8), (f.tags, 0.5), (f.summary, 0.3)] {
                add(Box::new(FuzzyTermQuery::new(Term::from_field_text(field, word), distance, true)), boost);
            }
        }
        Ok(Box::new(BooleanQuery::new(ways)))
    }
}

/// Collects the scores of all documents by the slot of their agent.
struct BySlot;

struct Segment {
    slots: Column<u64>,
    scores: Vec<f32>,
}

impl Collector for BySlot {
    type Fruit = Vec<f32>;
    type Child = Segment;

    fn for_segment(&self, _: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<Segment> {
        Ok(Segment { slots: segment.fast_fields().u64("slot")?, scores: Vec::new() })
    }

    fn requires_scoring(&self) -> bool {
        true
    }

    fn merge_fruits(&self, segments: Vec<Vec<f32>>) -> tantivy::Result<Vec<f32>> {
        let mut all: Vec<f32> = Vec::new();
        for scores in segments {
            if all.len() < scores.len() {
                all.resize(scores.len(), 0.0);
            }
            // An agent is in one segment.
            all.iter_mut().zip(scores).for_each(|(place, score)| *place += score);
        }
        Ok(all)
    }
}

impl SegmentCollector for Segment {
    type Fruit = Vec<f32>;

    fn collect(&mut self, document: DocId, score: Score) {
        let slot = self.slots.first(document).and_then(|slot| usize::try_from(slot).ok()).unwrap_or_default();
        if self.scores.len() <= slot {
            self.scores.resize(slot + 1, 0.0);
        }
        if let Some(place) = self.scores.get_mut(slot) {
            *place = score;
        }
    }

    fn harvest(self) -> Vec<f32> {
        self.scores
    }
}
