//! Who calls: `Bearer <key>`, or `Basic` with any name and the key as password, which clients with a login form send.

use std::pin::Pin;

use arrow_flight::HandshakeResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::Stream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};

use crate::ingest::{denied, status};
use crate::keys::{Keys, Role};

/// The answer to a handshake.
pub type Handshake = Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>;

/// Lets a call through whose key may read.
pub fn authenticate(keys: &Keys, mut request: Request<()>) -> Result<Request<()>, Status> {
    let id = keys.authenticate(bearer(request.metadata()).as_deref(), &[Role::Analyst]).map_err(denied)?;
    keys.take(&id, 0).map_err(denied)?;
    request.extensions_mut().insert(id);
    Ok(request)
}

/// What a client sends from now on instead of name and password: the key itself as bearer token.
pub fn handshake(metadata: &MetadataMap) -> Result<Response<Handshake>, Status> {
    let missing = || status(Code::Unauthenticated, "UNAUTHENTICATED", "no API key");
    let token = bearer(metadata).ok_or_else(missing)?;
    let value = MetadataValue::try_from(token.as_str()).map_err(|_| missing())?;
    let answer = HandshakeResponse { protocol_version: 0, payload: Bytes::from(token) };
    let mut response: Response<Handshake> = Response::new(Box::pin(futures::stream::iter([Ok(answer)])));
    response.metadata_mut().insert("authorization", value);
    Ok(response)
}

/// The header as `Bearer <key>`.
fn bearer(metadata: &MetadataMap) -> Option<String> {
    let header = metadata.get("authorization")?.to_str().ok()?;
    let Some(packed) = header.strip_prefix("Basic ") else { return Some(header.to_string()) };
    let login = String::from_utf8(STANDARD.decode(packed.trim()).ok()?).ok()?;
    login.split_once(':').map(|(_, password)| format!("Bearer {password}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_key() {
        let mut metadata = MetadataMap::new();
        assert_eq!(bearer(&metadata), None);
        metadata.insert("authorization", "Basic bWU6bWlsbHN0cmVhbV9hYmM=".parse().unwrap());
        assert_eq!(bearer(&metadata).as_deref(), Some("Bearer millstream_abc"));
        metadata.insert("authorization", "Bearer millstream_abc".parse().unwrap());
        assert_eq!(bearer(&metadata).as_deref(), Some("Bearer millstream_abc"));
        metadata.insert("authorization", "Basic ???".parse().unwrap());
        assert_eq!(bearer(&metadata), None);
    }
}
