//! The beginning of a connection: a user name of any kind, and an API key as password.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{Sink, SinkExt};
use pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::{
    ClientInfo, ConnectionGuard, ConnectionHandle, PgWireConnectionState, PidSecretKeyGenerator,
    RandomPidSecretKeyGenerator,
};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::startup::Authentication;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use super::command::SERVER_VERSION;
use super::error::fatal;
use super::session::Session;
use crate::keys::{Denied, Role};

#[async_trait]
impl StartupHandler for Session {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        match message {
            PgWireFrontendMessage::Startup(ref startup) => {
                // Before the key is asked for: it must not travel in clear text where TLS is to be had.
                if self.must_come_over_tls {
                    return Err(fatal("28000", "this server takes TLS connections only; connect with sslmode=require"));
                }
                protocol_negotiation(client, startup).await?;
                save_startup_parameters_to_metadata(client, startup);
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                client.send(PgWireBackendMessage::Authentication(Authentication::CleartextPassword)).await?;
            }
            PgWireFrontendMessage::PasswordMessageFamily(password) => {
                let password = password.into_password()?;
                let header = format!("Bearer {}", password.password);
                let id = self.keys.authenticate(Some(&header), &[Role::Analyst]).map_err(denied)?;
                self.admit(id);
                let (pid, secret) = RandomPidSecretKeyGenerator::default().generate(client);
                client.set_pid_and_secret_key(pid, secret.clone());
                let (handle, guard) = self.cancels.register(pid, secret);
                client.session_extensions().insert::<Arc<ConnectionHandle>>(handle);
                client.session_extensions().insert::<ConnectionGuard>(guard);
                let mut parameters = DefaultServerParameterProvider::default();
                parameters.server_version = SERVER_VERSION.to_string();
                parameters.is_superuser = false;
                parameters.default_transaction_read_only = true;
                finish_authentication(client, &parameters).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The API key was refused.
pub fn denied(denied: Denied) -> PgWireError {
    match denied {
        Denied::Unauthenticated(message) => {
            fatal("28P01", format!("{message}; the password is an API key of the role analyst"))
        }
        Denied::Forbidden(message) => fatal("28000", message),
        Denied::TooMany { message, .. } => fatal("53300", message),
        Denied::Storage(message) => fatal("58030", message),
    }
}
