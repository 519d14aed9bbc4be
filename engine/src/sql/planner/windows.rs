//! Windows in a GROUP BY.

use datafusion::logical_expr::Expr;

use crate::error::{Error, Result, SqlError};
use crate::operators::window::{WindowKind, Windows};
use crate::sql::duration;
use crate::sql::functions::WINDOW_FUNCTIONS;

/// A window function in a GROUP BY.
#[derive(Debug, Clone)]
pub(super) struct WindowCall {
    name: String,
    /// The column that it is over, if it names one.
    pub(super) time: Option<Expr>,
    arguments: Vec<Option<i64>>,
}

impl WindowCall {
    pub(super) fn of(e: &Expr) -> Option<Self> {
        match e {
            Expr::Alias(a) => Self::of(&a.expr),
            Expr::ScalarFunction(f) if is_window_function(f.name()) => {
                let time = f.args.first().filter(|a| matches!(a, Expr::Column(_)));
                let arguments = f
                    .args
                    .iter()
                    .skip(usize::from(time.is_some()))
                    .map(|a| match a {
                        Expr::Literal(v, _) => duration::of_scalar(v),
                        _ => None,
                    })
                    .collect();
                Some(Self { name: f.name().to_string(), time: time.cloned(), arguments })
            }
            _ => None,
        }
    }

    pub(super) fn check(&self) -> Result<WindowKind> {
        let mut sizes = Vec::new();
        for a in &self.arguments {
            match a {
                Some(n) => sizes.push(*n),
                None => {
                    return Err(Error::Query(SqlError {
                        message: format!("{}: windows take literal intervals without months", self.name),
                        fix: Some("use days, hours, minutes or seconds, such as INTERVAL '30 days'".into()),
                        ..Default::default()
                    }));
                }
            }
        }
        window_kind(&self.name, &sizes)
    }
}

/// The windows of a function with its sizes, in nanoseconds.
pub(super) fn window_kind(name: &str, sizes: &[i64]) -> Result<WindowKind> {
    let needed = WINDOW_FUNCTIONS.iter().find(|(n, _)| *n == name).map_or(0, |(_, n)| *n);
    if sizes.iter().take(needed).any(|n| *n <= 0) {
        return Err(Error::sql(format!("{name}: an interval must be longer than zero")));
    }
    let offset = sizes.get(needed).copied().unwrap_or(0);
    match (name, sizes) {
        ("tumble", [width, ..]) => Ok(WindowKind::Aligned(Windows { offset, ..Windows::new(*width, *width) })),
        ("hop", [slide, width, ..]) => {
            if slide > width {
                return Err(Error::sql(
                    "hop(slide, width): the slide is longer than the width, so rows would be dropped between windows",
                ));
            }
            Ok(WindowKind::Aligned(Windows { offset, ..Windows::new(*width, *slide) }))
        }
        ("cumulate", [step, width, ..]) => {
            if width % step != 0 {
                return Err(Error::Query(SqlError {
                    message: "cumulate(step, width): the width is not a multiple of the step".into(),
                    fix: Some("use a step such as INTERVAL '1 hour' of a width of INTERVAL '1 day'".into()),
                    ..Default::default()
                }));
            }
            Ok(WindowKind::Aligned(Windows { width: *width, slide: *step, offset, cumulating: true }))
        }
        ("session", [gap]) => Ok(WindowKind::Session(*gap)),
        _ => Err(Error::Bug(format!("window function {name} with {} arguments", sizes.len()))),
    }
}

/// Whether a function is a window of a GROUP BY.
pub(super) fn is_window_function(name: &str) -> bool {
    WINDOW_FUNCTIONS.iter().any(|(n, _)| *n == name)
}
