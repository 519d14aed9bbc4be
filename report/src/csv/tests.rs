//! The bytes of CSV, pinned: RFC 4180 and what a program needs beyond it.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{Field, Int32Type, Schema};

use super::*;

fn csv_of(columns: Vec<(&str, ArrayRef)>, options: CsvOptions) -> String {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut csv = CsvWriter::new(Vec::new(), &batch.schema(), options).unwrap();
    csv.write(&batch).unwrap();
    let (rows, bytes) = csv.finish().unwrap();
    assert_eq!(rows, batch.num_rows() as u64);
    String::from_utf8(bytes).unwrap()
}

/// The lines of a one-column CSV below its header.
fn cells(array: impl Array + 'static) -> Vec<String> {
    let text = csv_of(vec![("c", Arc::new(array))], CsvOptions::default());
    let body = text.strip_prefix("c\r\n").unwrap().strip_suffix("\r\n").unwrap();
    body.split("\r\n").map(str::to_owned).collect()
}

#[test]
fn quotes_only_where_needed_and_doubles_quotes() {
    let array = StringArray::from(vec![
        Some("plain text; with 'marks'"),
        Some("a,b"),
        Some("say \"hi\""),
        Some("two\nlines"),
        Some("two\r\nlines"),
        Some(""),
        None,
        Some("zoë 🚀 日本"),
        Some("\""),
    ]);
    let text = csv_of(
        vec![("a,\"b\"", Arc::new(array)), ("n", Arc::new(Int32Array::from_iter_values(0..9)))],
        CsvOptions::default(),
    );
    assert_eq!(
        text,
        "\"a,\"\"b\"\"\",n\r\n\
         plain text; with 'marks',0\r\n\
         \"a,b\",1\r\n\
         \"say \"\"hi\"\"\",2\r\n\
         \"two\nlines\",3\r\n\
         \"two\r\nlines\",4\r\n\
         \"\",5\r\n\
         ,6\r\n\
         zoë 🚀 日本,7\r\n\
         \"\"\"\",8\r\n"
    );
}

#[test]
fn every_kind_of_text_is_written_the_same() {
    let texts = vec![Some("a,b"), None, Some("")];
    let expected = ["\"a,b\"", "", "\"\""];
    assert_eq!(cells(StringArray::from(texts.clone())), expected);
    assert_eq!(cells(LargeStringArray::from(texts.clone())), expected);
    assert_eq!(cells(StringViewArray::from(texts.clone())), expected);
    assert_eq!(cells(texts.into_iter().collect::<DictionaryArray<Int32Type>>()), expected);
}

#[test]
fn numbers_have_a_point_and_no_separators() {
    assert_eq!(
        cells(Int64Array::from(vec![Some(i64::MIN), None, Some(1234567)])),
        ["-9223372036854775808", "", "1234567"]
    );
    assert_eq!(cells(UInt64Array::from(vec![u64::MAX])), ["18446744073709551615"]);
    assert_eq!(cells(Float64Array::from(vec![0.1, 1e300, f64::NAN, -2.5])), ["0.1", "1e300", "NaN", "-2.5"]);
    assert_eq!(cells(Float32Array::from(vec![0.1f32])), ["0.1"]);
    let decimal = Decimal128Array::from(vec![Some(123456), Some(-5), None]).with_precision_and_scale(20, 2).unwrap();
    assert_eq!(cells(decimal), ["1234.56", "-0.05", ""]);
    assert_eq!(cells(BooleanArray::from(vec![Some(true), Some(false), None])), ["true", "false", ""]);
}

#[test]
fn times_are_iso_8601_in_utc() {
    let second = 1_783_418_400; // 2026-07-07 10:00:00 UTC
    assert_eq!(cells(TimestampSecondArray::from(vec![Some(second), None])), ["2026-07-07T10:00:00Z", ""]);
    assert_eq!(cells(TimestampMillisecondArray::from(vec![second * 1_000 + 5])), ["2026-07-07T10:00:00.005Z"]);
    assert_eq!(cells(TimestampMicrosecondArray::from(vec![second * 1_000_000 + 5])), ["2026-07-07T10:00:00.000005Z"]);
    assert_eq!(
        cells(TimestampNanosecondArray::from(vec![second * 1_000_000_000 + 5])),
        ["2026-07-07T10:00:00.000000005Z"]
    );
    let berlin = TimestampMillisecondArray::from(vec![second * 1_000]).with_timezone("Europe/Berlin");
    assert_eq!(cells(berlin), ["2026-07-07T10:00:00Z"]);
    assert_eq!(cells(TimestampMillisecondArray::from(vec![-1])), ["1969-12-31T23:59:59.999Z"]);
    assert_eq!(cells(Date32Array::from(vec![Some(20_641), None])), ["2026-07-07", ""]);
    assert_eq!(cells(Date64Array::from(vec![second * 1_000])), ["2026-07-07"]);
    assert_eq!(cells(Time64MicrosecondArray::from(vec![36_000_000_000])), ["10:00:00"]);
}

#[test]
fn a_time_outside_the_calendar_is_an_error_that_names_the_column() {
    let batch =
        RecordBatch::try_from_iter([("at", Arc::new(TimestampSecondArray::from(vec![i64::MAX])) as ArrayRef)]).unwrap();
    let mut csv = CsvWriter::new(Vec::new(), &batch.schema(), CsvOptions::default()).unwrap();
    assert_eq!(
        csv.write(&batch).unwrap_err().to_string(),
        "column \"at\" holds 9223372036854775807 (Second) in row 0 of a batch, a time outside the calendar; correct its unit"
    );
}

#[test]
fn nested_values_are_json_and_binary_is_hex() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    assert_eq!(cells(list), ["\"[1,null]\"", ""]);
    let at: ArrayRef = Arc::new(TimestampSecondArray::from(vec![1_783_418_400]));
    let name: ArrayRef = Arc::new(StringArray::from(vec!["a\"b"]));
    let fields =
        vec![Field::new("at", at.data_type().clone(), true), Field::new("name", name.data_type().clone(), true)];
    let object = StructArray::new(fields.into(), vec![at, name], None);
    assert_eq!(cells(object), ["\"{\"\"at\"\":\"\"2026-07-07T10:00:00Z\"\",\"\"name\"\":\"\"a\\\"\"b\"\"}\""]);
    assert_eq!(cells(BinaryArray::from(vec![Some(&[0u8, 255][..]), None])), ["00ff", ""]);
    assert_eq!(cells(BinaryViewArray::from(vec![Some(&[1u8][..])])), ["01"]);
    assert_eq!(cells(FixedSizeBinaryArray::try_from_iter([[171u8, 205]].into_iter()).unwrap()), ["abcd"]);
    assert_eq!(cells(NullArray::new(2)), ["", ""]);
}

#[test]
fn spreadsheet_options_guard_formulas_and_mark_the_encoding() {
    let text: ArrayRef = Arc::new(StringArray::from(vec!["=1+1", "-5", "@x", "\tx", "+a,b", "a=b"]));
    let number: ArrayRef = Arc::new(Int32Array::from(vec![-5; 6]));
    let columns = vec![("text", text), ("number", number)];
    let spreadsheet = CsvOptions { bom: true, formula_guard: true };
    assert_eq!(
        csv_of(columns.clone(), spreadsheet),
        "\u{feff}text,number\r\n'=1+1,-5\r\n'-5,-5\r\n'@x,-5\r\n'\tx,-5\r\n\"'+a,b\",-5\r\na=b,-5\r\n"
    );
    assert_eq!(
        csv_of(columns, CsvOptions::default()),
        "text,number\r\n=1+1,-5\r\n-5,-5\r\n@x,-5\r\n\tx,-5\r\n\"+a,b\",-5\r\na=b,-5\r\n"
    );
}

#[test]
fn batches_follow_each_other_under_one_header_and_strangers_are_refused() {
    let batch = |n: i32| RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![n])) as ArrayRef)]).unwrap();
    let mut csv = CsvWriter::new(Vec::new(), &batch(1).schema(), CsvOptions::default()).unwrap();
    csv.write(&batch(1)).unwrap();
    assert_eq!(csv.get_mut().as_slice(), b"n\r\n1\r\n", "a written batch has reached the writer");
    csv.write(&batch(2)).unwrap();
    let other = RecordBatch::try_from_iter([("n", Arc::new(StringArray::from(vec!["x"])) as ArrayRef)]).unwrap();
    assert!(csv.write(&other).unwrap_err().to_string().ends_with("write batches of one schema"));
    let (rows, bytes) = csv.finish().unwrap();
    assert_eq!((rows, bytes.as_slice()), (2, &b"n\r\n1\r\n2\r\n"[..]));
}

#[test]
fn memory_stays_at_the_buffer_whatever_the_batch() {
    /// Remembers the largest write: what the CSV held at once.
    #[derive(Debug, Default)]
    struct Largest(usize);
    impl Write for Largest {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 = self.0.max(bytes.len());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let batch =
        RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from_iter_values(0..500_000)) as ArrayRef)]).unwrap();
    let mut csv = CsvWriter::new(Largest::default(), &batch.schema(), CsvOptions::default()).unwrap();
    csv.write(&batch).unwrap();
    let (rows, largest) = csv.finish().unwrap();
    assert_eq!(rows, 500_000);
    assert!(largest.0 < BUFFER_BYTES + 1_000, "held {} bytes", largest.0);
}

#[test]
fn a_failing_writer_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("disk full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let result = CsvWriter::new(Full, &Schema::empty(), CsvOptions::default());
    let error = result.err().unwrap().to_string();
    assert_eq!(error, "cannot write the output: disk full; what was written so far is incomplete");
}
