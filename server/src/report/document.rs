//! What a report prints: its answers as figures, charts and tables for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use arrow::record_batch::RecordBatch;
use chrono::NaiveTime;
use chrono_tz::Tz;
use millstream::{QueryResult, Result};
use millstream_report::{Better, Kpi, Report, Section};

use super::{Answers, utc};
use crate::chart;
use crate::dashboard::ask::on_clocks_of;
use crate::label::{capitalised, label, minor_units, sign, titled};

impl Answers {
    /// What the PDF prints; `organisation` is whose figures these are, and may be empty.
    pub fn document(&self, organisation: &str) -> Result<Report> {
        let (first, last) = self.days();
        let whole = [self.range.from, self.range.to].iter().all(|t| self.local(*t).time() == NaiveTime::MIN);
        let (mut kpis, mut definitions, mut sections) = (Vec::new(), Vec::new(), Vec::new());
        for answer in &self.sections {
            if let Some(previous) = &answer.previous {
                kpis.extend(figures(&answer.result, previous, &answer.trend)?);
                definitions.push(paragraphs(&answer.file.definition));
                continue;
            }
            let rows = for_people(&answer.result, self.zone)?;
            sections.push(Section {
                title: answer.file.title.clone(),
                chart: chart::spec(&answer.file.title, "", &rows.schema(), std::slice::from_ref(&rows)),
                table: vec![titled_columns(&rows)?],
                definition: paragraphs(&answer.file.definition),
                ..Section::default()
            });
        }
        Ok(Report {
            title: format!("{} report", capitalised(&chart::words(&self.name))),
            organisation: organisation.to_string(),
            period: if whole { format!("{first} to {last}") } else { format!("{first} to {last}, in part") },
            time_zone: self.zone.name().to_string(),
            generated_at: utc(self.generated_at),
            data_complete_through: self.complete_through.map(utc),
            kpis,
            kpi_definition: definitions.join("\n\n"),
            sections,
        })
    }
}

/// The figures of an answer of one row, or of one per currency, each with its change against the time before.
fn figures(now: &QueryResult, before: &QueryResult, trend: &[QueryResult]) -> Result<Vec<Kpi>> {
    let (now, before) = (Figures::of(now)?, Figures::of(before)?);
    let trend = trend.iter().map(Figures::of).collect::<Result<Vec<_>>>()?;
    let mut kpis = Vec::new();
    for (currency, values) in &now.rows {
        for (name, value) in now.names.iter().zip(values) {
            let before = before.value(currency, name);
            let change = value.zip(before).filter(|(_, b)| *b != 0.0).map(|(v, b)| (v - b) / b.abs());
            let (mut label, mut unit) = label(name);
            let mut divisor = 1.0;
            if name.ends_with("_minor") {
                (unit, divisor) = (sign(currency), minor_units(currency));
            }
            if now.rows.len() > 1 {
                label = format!("{label}, {currency}");
            }
            let trend = trend.iter().map(|piece| piece.value(currency, name).map(|v| v / divisor)).collect();
            let (value, unit) = (value.map(|v| v / divisor), unit.to_string());
            kpis.push(Kpi { label, value, unit, change, better: better(name), trend });
        }
    }
    Ok(kpis)
}

/// The numbers of an answer by currency; `""` where it has none.
struct Figures {
    names: Vec<String>,
    /// In the order of the rows.
    rows: Vec<(String, Vec<Option<f64>>)>,
}

impl Figures {
    fn of(result: &QueryResult) -> Result<Self> {
        let all = concat_batches(&result.schema, &result.batches)?;
        let currencies = currencies(&all)?;
        let mut names = Vec::new();
        let mut columns = Vec::new();
        for (field, column) in result.schema.fields().iter().zip(all.columns()) {
            if field.data_type().is_numeric() {
                names.push(field.name().clone());
                let floats = cast(column, &DataType::Float64)?;
                columns.push(floats.as_primitive::<Float64Type>().iter().collect::<Vec<_>>());
            }
        }
        let rows = currencies.into_iter().enumerate().map(|(row, currency)| {
            (currency, columns.iter().map(|column| column.get(row).copied().flatten()).collect())
        });
        Ok(Self { names, rows: rows.collect() })
    }

    fn value(&self, currency: &str, name: &str) -> Option<f64> {
        let index = self.names.iter().position(|known| known == name)?;
        self.rows.iter().find(|(known, _)| known == currency)?.1.get(index).copied().flatten()
    }
}

/// The currency of each row.
fn currencies(rows: &RecordBatch) -> Result<Vec<String>> {
    let Some(column) = rows.column_by_name("currency") else { return Ok(vec![String::new(); rows.num_rows()]) };
    let texts = cast(column, &DataType::Utf8)?;
    Ok(texts.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_string()).collect())
}

fn better(column: &str) -> Better {
    let lower = ["latency", "error", "failure", "_ms", "bounce", "rejected", "late", "churn", "incident"];
    let neither = ["cost", "tokens", "storage"];
    if neither.iter().any(|word| column.contains(word)) {
        Better::Neither
    } else if lower.iter().any(|word| column.contains(word)) {
        Better::Lower
    } else {
        Better::Higher
    }
}

/// The rows with amounts in the major unit of their currency, and times on the clocks of the zone.
fn for_people(result: &QueryResult, zone: Tz) -> Result<RecordBatch> {
    let mut rows = concat_batches(&result.schema, &result.batches)?;
    let times: Vec<String> = (result.schema.fields().iter())
        .filter(|field| matches!(field.data_type(), DataType::Timestamp(..)))
        .map(|field| field.name().clone())
        .collect();
    for name in times {
        rows = on_clocks_of(&rows, &name, zone, 0)?;
    }
    let units: BTreeMap<usize, f64> =
        currencies(&rows)?.iter().enumerate().map(|(row, currency)| (row, minor_units(currency))).collect();
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
        let Some(name) = field.name().strip_suffix("_minor") else { return Ok((field.clone(), column.clone())) };
        let minor = cast(column, &DataType::Float64)?;
        let minor = minor.as_primitive::<Float64Type>().iter().enumerate();
        let major: Float64Array = minor.map(|(row, v)| v.map(|v| v / units.get(&row).unwrap_or(&100.0))).collect();
        Ok((Arc::new(Field::new(name, DataType::Float64, true)), Arc::new(major) as ArrayRef))
    });
    let (fields, columns): (Vec<_>, Vec<_>) = columns.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The rows with headings that people read.
fn titled_columns(rows: &RecordBatch) -> Result<RecordBatch> {
    let fields =
        rows.schema().fields().iter().map(|f| f.as_ref().clone().with_name(titled(f.name()))).collect::<Vec<_>>();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), rows.columns().to_vec())?)
}

/// Lines of one paragraph are joined; an empty line parts two. Names lose their marks.
fn paragraphs(text: &str) -> String {
    text.replace('`', "").split("\n\n").map(|p| p.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};

    fn result(columns: Vec<(&str, ArrayRef)>) -> QueryResult {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        QueryResult { schema: batch.schema(), batches: vec![batch], truncated: false }
    }

    fn one_row(users: i64, p95: Option<f64>) -> QueryResult {
        result(vec![
            ("active_users", Arc::new(Int64Array::from(vec![users]))),
            ("api_p95_ms", Arc::new(Float64Array::from(vec![p95]))),
        ])
    }

    fn money(rows: &[(&str, f64)]) -> QueryResult {
        result(vec![
            ("currency", Arc::new(StringArray::from_iter_values(rows.iter().map(|(c, _)| *c)))),
            ("mrr_minor", Arc::new(Float64Array::from_iter_values(rows.iter().map(|(_, v)| *v)))),
        ])
    }

    #[test]
    fn headline_figures_are_compared_with_the_time_before() {
        let trend = [one_row(50, None), one_row(60, Some(1.0))];
        let kpis = figures(&one_row(110, Some(50.0)), &one_row(100, None), &trend).unwrap();
        let (users, p95) = (&kpis[0], &kpis[1]);
        assert_eq!((users.label.as_str(), users.unit.as_str(), users.value), ("Active users", "", Some(110.0)));
        assert!((users.change.unwrap() - 0.1).abs() < 1e-12);
        assert_eq!((users.better, &users.trend), (Better::Higher, &vec![Some(50.0), Some(60.0)]));
        assert_eq!((p95.label.as_str(), p95.unit.as_str(), p95.change), ("API p95", "ms", None));
        assert_eq!(p95.better, Better::Lower);
    }

    #[test]
    fn each_currency_has_its_own_figures_in_its_own_unit() {
        let now = money(&[("USD", 250_000.0), ("JPY", 9_000.0)]);
        let kpis = figures(&now, &money(&[("JPY", 8_000.0)]), &[money(&[("USD", 100.0)])]).unwrap();
        let seen: Vec<_> = kpis.iter().map(|k| (k.label.as_str(), k.unit.as_str(), k.value, k.change)).collect();
        assert_eq!(
            seen,
            [("MRR, USD", "$", Some(2_500.0), None), ("MRR, JPY", "¥", Some(9_000.0), Some(0.125))],
            "the yen has no cents, and the order of the rows of the time before is another"
        );
        assert_eq!(kpis[0].trend, [Some(1.0)]);
        assert_eq!(kpis[1].trend, [None]);
        assert!(figures(&money(&[]), &money(&[]), &[]).unwrap().is_empty(), "nobody pays");
    }

    #[test]
    fn tables_have_amounts_in_major_units() {
        let rows = for_people(&money(&[("USD", 250_050.0), ("JPY", 9_000.0)]), chrono_tz::UTC).unwrap();
        assert_eq!(rows.schema().field(1).name(), "mrr");
        assert_eq!(rows.column(1).as_primitive::<Float64Type>().values(), &[2_500.5, 9_000.0]);
        assert_eq!(titled_columns(&rows).unwrap().schema().field(1).name(), "MRR");
    }
}
