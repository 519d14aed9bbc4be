//! Downloads: content-addressed, so a cache may keep them for ever; in ranges, so a broken one can go on.

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use crate::app::App;
use crate::problem::{Problem, Result};

/// What an address of a package that is not free carries.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Signed {
    until: Option<i64>,
    sig: Option<String>,
}

/// `GET /packages/{sha256}.tar.gz`
pub async fn download(
    State(app): State<Arc<App>>,
    Path(file): Path<String>,
    Query(signed): Query<Signed>,
    headers: HeaderMap,
) -> Result<Response> {
    let sha256 = file.strip_suffix(".tar.gz").unwrap_or(&file);
    let missing = || Problem::not_found(format!("no package {sha256}"));
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT v.size_bytes, a.price_kind FROM versions v JOIN agents a ON a.id = v.agent_id
         WHERE v.sha256 = $1 AND v.published_at IS NOT NULL AND a.state = 'listed'",
    )
    .bind(sha256)
    .fetch_all(app.db.read())
    .await?;
    let (size, _) = rows.first().ok_or_else(missing)?;
    let free = rows.iter().any(|(_, kind)| kind == "free");
    if !free {
        let fits = match (signed.until, &signed.sig) {
            (Some(until), Some(sig)) => until > app.clock.now_ms() && app.signer.fits_address(sha256, until, sig),
            _ => false,
        };
        if !fits {
            return Err(Problem::forbidden("this address is not signed or is over; install the agent again"));
        }
    }
    answer(&app, sha256, size.cast_unsigned(), free, &headers).await
}

async fn answer(app: &App, sha256: &str, size: u64, free: bool, headers: &HeaderMap) -> Result<Response> {
    let etag = format!("\"{sha256}\"");
    let asked = |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok());
    let known = asked(header::IF_NONE_MATCH).is_some_and(|v| v == "*" || v.split(',').any(|e| e.trim() == etag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        // A range of another file is no use: then the whole one.
        let same = asked(header::IF_RANGE).is_none_or(|v| v == etag);
        match asked(header::RANGE).filter(|_| same).map_or(Part::Whole, |r| part(r, size)) {
            Part::Whole => Body::from(app.packages.get(sha256, 0..size).await?).into_response(),
            Part::None => {
                let mut response = StatusCode::RANGE_NOT_SATISFIABLE.into_response();
                set(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
                response
            }
            Part::Of(range) => {
                let shown = format!("bytes {}-{}/{size}", range.start, range.end.saturating_sub(1));
                let body = Body::from(app.packages.get(sha256, range).await?);
                let mut response = (StatusCode::PARTIAL_CONTENT, body).into_response();
                set(&mut response, header::CONTENT_RANGE, &shown);
                response
            }
        }
    };
    let cache = if free { "public, max-age=31536000, immutable" } else { "private, no-store" };
    set(&mut response, header::CACHE_CONTROL, cache);
    set(&mut response, header::ETAG, &etag);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(&mut response, header::CONTENT_TYPE, "application/gzip");
    set(&mut response, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(&mut response, header::CONTENT_DISPOSITION, "attachment");
    Ok(response)
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

enum Part {
    Whole,
    Of(Range<u64>),
    None,
}

/// One range is served; several at once, or what is no range, give the whole, as RFC 9110 allows.
fn part(text: &str, size: u64) -> Part {
    let Some(spec) = text.strip_prefix("bytes=").filter(|s| !s.contains(',')) else { return Part::Whole };
    let Some((first, last)) = spec.split_once('-') else { return Part::Whole };
    let range = match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.trim().is_empty() => first..size,
        (Err(_), Ok(count)) if first.trim().is_empty() => size.saturating_sub(count)..size,
        _ => return Part::Whole,
    };
    if range.is_empty() { Part::None } else { Part::Of(range) }
}
