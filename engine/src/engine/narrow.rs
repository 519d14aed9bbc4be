//! Sources that read no column which nobody uses: what is not asked for is neither decoded nor kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{collect_columns, reassign_expr_columns};

use crate::error::{Error, Result};
use crate::sql::catalog::{Table, inputs};
use crate::sql::plan::Plan;

/// Adds the columns of each source that a plan uses to `used`, by table.
pub fn used_columns(plan: &Plan, used: &mut BTreeMap<String, BTreeSet<usize>>) {
    if let Plan::Scan { table, columns, .. } = plan {
        used.entry(table.clone()).or_default().extend(columns);
    }
    plan.inputs().iter().for_each(|input| used_columns(input, used));
}

/// The table with only the `used` columns and those that its time needs.
pub fn narrow(table: &Table, used: &BTreeSet<usize>) -> Result<Table> {
    if table.changelog {
        return Ok(table.clone());
    }
    let mut kept = used.clone();
    kept.extend(table.event_time);
    kept.extend(table.watermark.iter().flat_map(collect_columns).map(|c| c.index()));
    if kept.is_empty() {
        // Rows without a column could not be counted in a text.
        kept.insert(0);
    }
    let kept: Vec<usize> = kept.into_iter().filter(|i| *i < table.schema.fields().len()).collect();
    let schema: SchemaRef = Arc::new(table.schema.project(&kept)?);
    let moved = |e: &Arc<dyn PhysicalExpr>, to: &Schema| Ok::<_, Error>(reassign_expr_columns(e.clone(), to)?);
    let mut metadata = Vec::new();
    let (arriving, columns) = match &table.columns {
        None => (schema.clone(), None),
        Some(expressions) => {
            let own: Vec<_> = kept.iter().filter_map(|i| expressions.get(*i)).collect();
            let needed: BTreeSet<usize> = own.iter().flat_map(|e| collect_columns(e)).map(|c| c.index()).collect();
            let first = table.arriving.fields().len();
            metadata = needed.iter().filter_map(|i| table.metadata.get(i.checked_sub(first)?)).cloned().collect();
            let mut needed: Vec<usize> = needed.into_iter().filter(|i| *i < first).collect();
            if needed.is_empty() && first > 0 {
                needed.push(0);
            }
            let arriving = Arc::new(table.arriving.project(&needed)?);
            let inputs = inputs(&arriving, &metadata);
            let own = own.into_iter().map(|e| moved(e, &inputs)).collect::<Result<_>>()?;
            (arriving, Some(own))
        }
    };
    let place = |i: usize| kept.iter().position(|k| *k == i);
    Ok(Table {
        event_time: table.event_time.and_then(place),
        watermark: table.watermark.as_ref().map(|e| moved(e, &schema)).transpose()?,
        primary_key: table.primary_key.iter().filter_map(|i| place(*i)).collect(),
        schema,
        arriving,
        columns,
        metadata,
        ..table.clone()
    })
}

/// The plan over narrowed tables: its scans' columns are where `narrow` has put them.
pub fn rescan(plan: &mut Plan, tables: &BTreeMap<String, Table>) -> Result<()> {
    match plan {
        Plan::Operator { inputs, .. } => inputs.iter_mut().try_for_each(|input| rescan(input, tables)),
        Plan::Scan { table, columns, schema } => {
            let Some(narrowed) = tables.get(table).filter(|t| !t.changelog) else { return Ok(()) };
            *columns = schema.fields().iter().map(|f| narrowed.schema.index_of(f.name())).collect::<Result<_, _>>()?;
            Ok(())
        }
    }
}
