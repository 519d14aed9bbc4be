//! Ingest over a real server on the loopback, with a recorder in the engine's place.

mod arrow_rows;
mod client;
mod json_rows;
mod limits;
mod recorder;
mod typed;

use std::sync::Arc;

use millstream::time::SystemClock;
use millstream_proto::v1::event_batch::Events;
use millstream_proto::v1::ingest_client::IngestClient;
use millstream_proto::v1::{Ack, EventBatch, Rejected};
use millstream_server::ingest::{CODE_METADATA, IngestConfig, serve};
use millstream_server::keys::{Keys, Role};
use recorder::Recorder;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// A server on a free port.
pub struct Running {
    pub address: std::net::SocketAddr,
    pub recorder: Arc<Recorder>,
    pub keys: Arc<Keys>,
    /// Of a producer.
    pub key: String,
    data_dir: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<millstream::Result<()>>,
}

impl Running {
    pub async fn start(config: IngestConfig) -> Self {
        let data_dir = tempfile::tempdir().unwrap();
        let keys = Arc::new(Keys::open(data_dir.path(), Arc::new(SystemClock)).unwrap());
        let key = keys.create("plugin", Role::Producer, None).unwrap();
        let recorder = Arc::new(Recorder::new());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = serve(recorder.clone(), keys.clone(), config, listener, Default::default(), async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(serving);
        Self { address, recorder, keys, key, data_dir, stop: Some(stop), task }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn client(&self) -> IngestClient<Channel> {
        IngestClient::connect(self.url()).await.unwrap().max_encoding_message_size(64 << 20)
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let value = MetadataValue::try_from(format!("Bearer {}", self.key)).unwrap();
        request.metadata_mut().insert("authorization", value);
        request
    }

    /// Sends one batch without a sequence.
    pub async fn send(&self, events: Events) -> Result<Ack, Status> {
        let batch = EventBatch { producer: "p".into(), events: Some(events), ..Default::default() };
        Ok(self.client().await.send(self.request(batch)).await?.into_inner())
    }

    /// Tells the server to stop.
    pub fn stop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }

    /// Waits until it has; gives the directory back.
    pub async fn stopped(self) -> millstream::Result<tempfile::TempDir> {
        self.task.await.unwrap().map(|()| self.data_dir)
    }
}

/// The code, the stable word and the message of a failed call.
pub fn failure(outcome: Result<Ack, Status>) -> (Code, String, String) {
    let status = outcome.expect_err("the call should have failed");
    let code = status.metadata().get(CODE_METADATA).map(|code| code.to_str().unwrap().to_string());
    (status.code(), code.unwrap_or_default(), status.message().to_string())
}

/// A refused row as text.
pub fn told(rejected: &[Rejected]) -> Vec<String> {
    rejected.iter().map(|row| format!("{} {}: {}", row.index, row.code, row.message)).collect()
}

/// A seeded generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}
