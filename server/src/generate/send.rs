//! Sends a made-up platform to a server, one producer per table, day by day.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::{Error, Result};
use millstream_proto::v1::event_batch::Events;
use tokio::time::Instant;

use super::{Day, Shape, World};
use crate::demo::stream::Typed;
use crate::ingest::client::{Client, ClientError, Options, Totals};

/// Rows of one batch.
const BATCH_ROWS: usize = 2_000;

/// Whom to send to, and how fast.
#[derive(Debug, Clone)]
pub struct Target {
    /// `http://host:port` of the gRPC face.
    pub endpoint: String,
    /// An API key for producers.
    pub key: String,
    /// Events a second at most; as fast as the server takes them if absent.
    pub rate: Option<u64>,
}

/// Sends every day that is left; `told` hears of each day's end with the events sent so far.
pub async fn send(world: &mut World, target: &Target, mut told: impl FnMut(u64)) -> Result<Totals> {
    let mut clients = BTreeMap::new();
    let begun = Instant::now();
    let mut sent = 0;
    while let Some(day) = world.next_day() {
        for (table, batches) in batches(day) {
            let client = match clients.entry(table) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let producer = producer(&world.shape, table);
                    let options = Options::new(&target.endpoint, &target.key, producer, 1);
                    entry.insert(Client::start(options, |_| ()).map_err(client_error)?)
                }
            };
            for (rows, events) in batches {
                if !client.send(events).await {
                    break;
                }
                sent += rows;
                if let Some(rate) = target.rate {
                    tokio::time::sleep_until(begun + Duration::from_secs_f64(sent as f64 / rate.max(1) as f64)).await;
                }
            }
        }
        told(sent);
    }
    let mut totals = Totals::default();
    for client in clients.into_values() {
        let Totals { accepted, duplicates, rejected, .. } = client.finish().await.map_err(client_error)?;
        totals.accepted += accepted;
        totals.duplicates += duplicates;
        totals.rejected += rejected;
    }
    Ok(totals)
}

/// Who sends the rows of `table`. The same platform sent again is known again: nothing is doubled.
pub fn producer(shape: &Shape, table: &str) -> String {
    format!("generate-{:x}-{table}", shape.seed)
}

type Batches = Vec<(&'static str, Vec<(u64, Events)>)>;

fn batches(day: Day) -> Batches {
    fn of<E: Typed + Clone>(all: &mut Batches, events: &[E]) {
        let batches = events.chunks(BATCH_ROWS).map(|rows| (rows.len() as u64, E::wrap(rows.to_vec())));
        all.push((E::TABLE, batches.collect()));
    }
    let mut all = Vec::new();
    // Prices and plans first: what comes later that day refers to them.
    of(&mut all, &day.price);
    of(&mut all, &day.subscription);
    of(&mut all, &day.payment);
    of(&mut all, &day.ide);
    of(&mut all, &day.agent);
    of(&mut all, &day.workflow);
    of(&mut all, &day.api);
    of(&mut all, &day.marketplace);
    of(&mut all, &day.cost);
    of(&mut all, &day.storage);
    of(&mut all, &day.incident);
    of(&mut all, &day.identity);
    all.retain(|(_, batches)| !batches.is_empty());
    all
}

fn client_error(error: ClientError) -> Error {
    match error {
        ClientError::Options(message) => Error::Config(message),
        error => Error::Storage(error.to_string()),
    }
}
