//! Style, script and icon: compiled in, under addresses that change with their content, so that browsers keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use crate::http::Problem;

/// The icon as SVG.
pub const ICON: &str = include_str!("assets/icon.svg");
const SCRIPT: &str = include_str!("assets/millstream.js");

/// The style with the colours of charts before it.
static STYLE: LazyLock<String> =
    LazyLock::new(|| format!("{}{}", millstream_report::chart::page_css(), include_str!("assets/millstream.css")));

/// The first digits of the hash of everything.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for part in [ICON, SCRIPT, STYLE.as_str()] {
        hash.update(part.as_bytes());
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
});

/// The address of an asset.
pub fn url(name: &str) -> String {
    format!("/assets/{name}?v={}", VERSION.as_str())
}

/// `GET /assets/{name}`.
pub async fn file(Path(name): Path<String>) -> Result<Response, Problem> {
    let (media_type, text) = match name.as_str() {
        "millstream.css" => ("text/css; charset=utf-8", STYLE.as_str()),
        "millstream.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Problem::not_found(format!("no asset `{name}`"))),
    };
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((headers, text).into_response())
}
