//! Mergeable sketches of quantiles: DDSketch with a relative error of one part in a hundred.
//!
//! `sketch(value)` makes one of a group's values, `sketch_merge(sketch)` one of many, `sketch_percentile(sketch, q)` reads it.
//! The value that it gives for n values is within [`RELATIVE_ERROR`] of the exact one, which is at place ceil(q * n) of the
//! sorted values, as `percentile_disc` has it; merging adds no error. The bytes are those of DataDog's Java library.
//! Source: Masson, Rim, Lee: DDSketch, VLDB 2019.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Builder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility,
};
use sketches_ddsketch::{Config, DDSketch};

/// The bound of the error, relative to the value.
pub const RELATIVE_ERROR: f64 = 0.01;

/// Buckets of one sketch: at the relative error, values may differ by a factor of e^40.
const BUCKETS_MAX: u32 = 2_048;

/// Values nearer to zero are zero: a nanosecond in milliseconds is a thousand times more.
const VALUE_MIN: f64 = 1e-9;

/// `sketch` and `sketch_merge`.
pub fn sketch_aggregates() -> [Arc<AggregateUDF>; 2] {
    [false, true].map(|merges| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(AggregateUDF::from(Sketch { merges, signature }))
    })
}

/// `sketch_percentile`.
pub fn sketch_percentile() -> Arc<ScalarUDF> {
    let signature = Signature::user_defined(Volatility::Immutable);
    Arc::new(ScalarUDF::from(Percentile { signature }))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sketch {
    merges: bool,
    signature: Signature,
}

impl AggregateUDFImpl for Sketch {
    fn name(&self) -> &str {
        if self.merges { "sketch_merge" } else { "sketch" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [value] if !self.merges && (value.is_numeric() || value.is_null()) => Ok(vec![DataType::Float64]),
            [sketch] if self.merges && is_binary(sketch) => Ok(vec![DataType::Binary]),
            _ if self.merges => plan_err!("sketch_merge takes one column of sketches; write sketch_merge(sketch)"),
            _ => plan_err!("sketch takes one column of numbers; write sketch(latency_ms)"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new(format_state_name(args.name, "sketch"), DataType::Binary, true))])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if args.is_distinct {
            return plan_err!("{} knows no DISTINCT; leave it out", self.name());
        }
        Ok(Box::new(Values { merges: self.merges, sketch: empty() }))
    }
}

pub(super) fn is_binary(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::Null)
}

fn empty() -> DDSketch {
    DDSketch::new(Config::new(RELATIVE_ERROR, BUCKETS_MAX, VALUE_MIN))
}

fn decode(bytes: &[u8]) -> Result<DDSketch> {
    match DDSketch::from_java_bytes(bytes) {
        Ok(sketch) => Ok(sketch),
        Err(e) => exec_err!("these bytes are no sketch ({e}); give the result of sketch() or sketch_merge()"),
    }
}

struct Values {
    merges: bool,
    sketch: DDSketch,
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a sketch of {} values", self.sketch.count())
    }
}

impl Values {
    fn merge(&mut self, sketches: &ArrayRef) -> Result<()> {
        for bytes in sketches.as_binary::<i32>().iter().flatten() {
            if let Err(e) = self.sketch.merge(&decode(bytes)?) {
                return exec_err!("a sketch with another error bound cannot be merged ({e}); make it with sketch()");
            }
        }
        Ok(())
    }

    fn bytes(&self) -> ScalarValue {
        let bytes = (self.sketch.count() > 0).then(|| without_sum(self.sketch.to_java_bytes()));
        ScalarValue::Binary(bytes)
    }
}

/// The bytes without the sum of the values, which depends on the order in which they came: equal values make equal bytes.
///
/// They begin with the count (a mark and up to nine bytes, all but the last with the high bit set), least and greatest value
/// (a mark and eight bytes each) and the sum (a mark and eight bytes, absent for 0).
fn without_sum(mut bytes: Vec<u8>) -> Vec<u8> {
    const SUM_MARK: u8 = 0x84;
    let count = 1 + bytes.iter().skip(1).take(8).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    let at = count + 18;
    if bytes.get(at) == Some(&SUM_MARK) && bytes.len() >= at + 9 {
        bytes.drain(at..at + 9);
    }
    bytes
}

impl Accumulator for Values {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let Some(values) = values.first() else { return Ok(()) };
        if self.merges {
            return self.merge(values);
        }
        // What is not a number has no place among the others.
        values
            .as_primitive::<Float64Type>()
            .iter()
            .flatten()
            .filter(|v| v.is_finite())
            .for_each(|v| self.sketch.add(v));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(self.bytes())
    }

    fn size(&self) -> usize {
        size_of_val(self) + size_of::<u64>() * self.sketch.length().min(BUCKETS_MAX as usize)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.bytes()])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        states.first().map_or(Ok(()), |sketches| self.merge(sketches))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Percentile {
    signature: Signature,
}

impl ScalarUDFImpl for Percentile {
    fn name(&self) -> &str {
        "sketch_percentile"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [sketch, q] if is_binary(sketch) && q.is_numeric() => Ok(vec![DataType::Binary, DataType::Float64]),
            _ => plan_err!("sketch_percentile takes a sketch and a fraction; write sketch_percentile(sketch, 0.95)"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [sketches, q] = args.args.as_slice() else {
            return plan_err!("sketch_percentile takes a sketch and a fraction");
        };
        let q = match q {
            ColumnarValue::Scalar(ScalarValue::Float64(Some(q))) if (0.0..=1.0).contains(q) => *q,
            _ => {
                return plan_err!(
                    "the fraction of sketch_percentile is no constant from 0 to 1; write a number such as 0.95"
                );
            }
        };
        let sketches = cast(&sketches.to_array(args.number_rows)?, &DataType::Binary)?;
        let mut answers = Float64Builder::with_capacity(sketches.len());
        for bytes in sketches.as_binary::<i32>() {
            answers.append_option(match bytes {
                Some(bytes) => percentile(&decode(bytes)?, q),
                None => None,
            });
        }
        Ok(ColumnarValue::Array(Arc::new(answers.finish())))
    }
}

/// The value at place ceil(q * n). The library asks for a fraction of n - 1 and rounds down: the middle between two places
/// cannot be rounded to the wrong one.
fn percentile(sketch: &DDSketch, q: f64) -> Option<f64> {
    let count = sketch.count() as f64;
    let place = (q * count - 1e-9 * count).ceil().clamp(1.0, count.max(1.0)) - 1.0;
    if place + 1.0 >= count {
        return sketch.max();
    }
    let value = sketch.quantile(((place + 0.5) / (count - 1.0)).min(1.0 - f64::EPSILON)).ok()??;
    // The ends of the range are known exactly.
    Some(value.clamp(sketch.min()?, sketch.max()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(sorted: &[f64], q: f64) -> f64 {
        sorted[((q * sorted.len() as f64).ceil() as usize).max(1) - 1]
    }

    #[test]
    fn every_percentile_is_within_the_bound_after_any_merge() {
        let mut seed = 7u64;
        for n in [1usize, 2, 3, 10, 1_000, 20_000] {
            let mut values: Vec<f64> = (0..n)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    ((seed >> 11) as f64 / (1u64 << 53) as f64).powi(6) * 60_000.0 + 0.001
                })
                .collect();
            let mut merged = empty();
            for part in values.chunks(n.div_ceil(7)) {
                let mut sketch = empty();
                part.iter().for_each(|v| sketch.add(*v));
                merged.merge(&decode(&without_sum(sketch.to_java_bytes())).unwrap()).unwrap();
            }
            values.sort_by(f64::total_cmp);
            for q in [0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0] {
                let (ours, exact) = (percentile(&merged, q).unwrap(), exact(&values, q));
                assert!(
                    (ours - exact).abs() <= RELATIVE_ERROR * exact * 1.000_001,
                    "n {n} q {q}: {ours}, exactly {exact}"
                );
            }
        }
        assert_eq!(percentile(&empty(), 0.5), None);
    }

    #[test]
    fn the_order_of_values_does_not_show() {
        let values: Vec<f64> = (0..5_000).map(|i| f64::from(i * 7_919 % 5_000) * 0.37 + 0.001).collect();
        let bytes_of = |values: &mut dyn Iterator<Item = &f64>, parts: usize| {
            let mut sketches = vec![empty(); parts];
            values.enumerate().for_each(|(i, v)| sketches[i % parts].add(*v));
            let mut merged = empty();
            sketches.iter().for_each(|s| merged.merge(s).unwrap());
            without_sum(merged.to_java_bytes())
        };
        let forward = bytes_of(&mut values.iter(), 1);
        assert_eq!(forward, bytes_of(&mut values.iter().rev(), 1));
        assert_eq!(forward, bytes_of(&mut values.iter(), 9));
    }

    #[test]
    fn bytes_that_are_no_sketch_are_named() {
        assert!(decode(b"nothing").err().unwrap().to_string().contains("give the result of sketch()"));
    }
}
