//! TLS for `tokio-postgres` by rustls. The server's certificate is always verified: against the roots of the machine, or against
//! those of a file that the url names.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes connections whose certificate some root vouches for.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl Tls {
    /// With the roots in the PEM file `roots`, else with those of the machine.
    ///
    /// Errors, as people read them: a file that cannot be read or holds no certificate; a machine without roots.
    pub fn new(roots: Option<&str>) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        match roots {
            Some(path) => {
                let wrong = |e: &dyn std::fmt::Display| format!("sslrootcert {path}: {e}");
                for root in CertificateDer::pem_file_iter(path).map_err(|e| wrong(&e))? {
                    store.add(root.map_err(|e| wrong(&e))?).map_err(|e| wrong(&e))?;
                }
                if store.is_empty() {
                    return Err(wrong(&"holds no certificate in PEM"));
                }
            }
            None => {
                let (added, _) = store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if added == 0 {
                    return Err(
                        "this machine has no root certificates; name some with sslrootcert=/path/to/ca.pem".into()
                    );
                }
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.map_err(|e| e.to_string())?.with_root_certificates(store).with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Handshake;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Handshake> {
        let name = ServerName::try_from(host.to_string());
        let name = name.map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, format!("host '{host}': {e}")))?;
        Ok(Handshake { connector: self.0.clone(), name })
    }
}

/// One handshake to come.
pub struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Handshake {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, socket).await.map(Encrypted) })
    }
}

/// An encrypted connection.
pub struct Encrypted(TlsStream<Socket>);

impl tokio_postgres::tls::TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        // The certificate is verified, which keeps others out of the middle.
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
