//! One connection: statements in, rows out.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::SchemaRef;
use arrow_pg::datatypes::into_pg_type;
use async_trait::async_trait;
use datafusion::scalar::ScalarValue;
use futures::Sink;
use millstream::QueryLimits;
use millstream::batch::Batch;
use pgwire::api::cancel::{CancelHandler, DefaultCancelHandler};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{DescribePortalResponse, DescribeStatementResponse, FieldInfo, Response, Tag};
use pgwire::api::stmt::{QueryParser, StoredStatement};
use pgwire::api::store::PortalStore;
use pgwire::api::{ClientInfo, ClientPortalStore, ConnectionManager, PgWireServerHandlers, Type};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::PgWireBackendMessage;

use super::command::{self, Command};
use super::dialect::{Dialect, Statement};
use super::{copy, encode, error, login, parameter};
use crate::keys::{KeyId, Keys};

/// A statement that waits for its parameters.
#[derive(Debug)]
pub struct Prepared {
    /// As the client wrote it.
    sql: String,
    statement: Statement,
    /// The columns; none for a command without an answer.
    schema: Option<SchemaRef>,
    /// The types of `$1`, `$2`, ...
    parameters: Vec<Type>,
}

/// One connection.
pub struct Session {
    batch: Batch,
    pub(super) keys: Arc<Keys>,
    limits: QueryLimits,
    dialect: Arc<Dialect>,
    pub(super) cancels: Arc<ConnectionManager>,
    /// Whether the server speaks TLS and this connection does not.
    pub(super) must_come_over_tls: bool,
    id: OnceLock<KeyId>,
}

impl Session {
    /// A connection that has not logged in.
    pub fn new(
        batch: Batch,
        keys: Arc<Keys>,
        limits: QueryLimits,
        dialect: Arc<Dialect>,
        cancels: Arc<ConnectionManager>,
    ) -> Self {
        Self { batch, keys, limits, dialect, cancels, must_come_over_tls: false, id: OnceLock::new() }
    }

    /// The key was accepted.
    pub(super) fn admit(&self, id: KeyId) {
        // A second password on one connection does not change who it is.
        let _ = self.id.set(id);
    }

    /// A key that was revoked since the connection began reads nothing more.
    fn still_admitted(&self) -> PgWireResult<()> {
        let id = self.id.get().ok_or_else(|| error::fatal("28000", "no API key"))?;
        self.keys.take(id, 0).map_err(login::denied)
    }

    async fn statements(&self, sql: &str) -> PgWireResult<Vec<Statement>> {
        let dialect = Arc::clone(&self.dialect);
        let parsed = self.batch.rewrite(sql, &self.limits, move |sql| dialect.statements(sql)).await;
        parsed.map_err(|e| error::of(e, sql))
    }

    async fn prepare(&self, sql: &str, statement: Statement) -> PgWireResult<Prepared> {
        let sql = sql.to_string();
        match &statement.command {
            Some(Command::Show(name)) => {
                let schema = Some(encode::one_text(name));
                Ok(Prepared { sql, statement, schema, parameters: Vec::new() })
            }
            Some(_) => Ok(Prepared { sql, statement, schema: None, parameters: Vec::new() }),
            None => {
                let described = self.batch.describe(&statement.text, &BTreeMap::new(), &self.limits).await;
                let described = described.map_err(|e| error::of(e, &sql))?;
                let numbered = described.numbered().map_err(|e| error::of(e, &sql))?;
                let parameters = (1..).zip(numbered).map(|(number, known)| {
                    let known = known.and_then(|t| into_pg_type(&t).ok()).filter(|t| *t != Type::UNKNOWN);
                    let count = counts_rows(&statement.text, number);
                    known.unwrap_or(if count { Type::INT8 } else { Type::TEXT })
                });
                let parameters = parameters.collect();
                Ok(Prepared { sql, statement, schema: Some(described.schema), parameters })
            }
        }
    }

    async fn command<C>(&self, client: &mut C, command: &Command, format: &Format, sql: &str) -> PgWireResult<Response>
    where
        C: Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        Ok(match command {
            Command::Copy(copy) => {
                let rows = self.batch.query_stream(&copy.query, &BTreeMap::new(), &self.limits).await;
                copy::send(client, copy, rows.map_err(|e| error::of(e, sql))?).await?
            }
            Command::Begin => Response::TransactionStart(Tag::new("BEGIN")),
            Command::End(tag) => Response::TransactionEnd(Tag::new(tag)),
            Command::Nothing(tag) => Response::Execution(Tag::new(tag)),
            Command::Show(name) => {
                let unknown = || error::new("42704", format!("there is no setting \"{name}\""));
                let value = command::setting(name, &self.limits).ok_or_else(unknown)?;
                Response::Query(encode::text(name, &value, format)?)
            }
        })
    }

    /// Answers a query; `sql` is how the client wrote it.
    async fn query(
        &self,
        text: &str,
        parameters: &BTreeMap<String, ScalarValue>,
        format: &Format,
        sql: &str,
    ) -> PgWireResult<Response> {
        let result = self.batch.query(text, parameters, &self.limits).await.map_err(|e| error::of(e, sql))?;
        if result.truncated {
            // The protocol has no way to say that rows are missing, so an answer is whole or an error.
            let message = format!(
                "the answer has more than {} rows (query.rows_max); add LIMIT, aggregate, or COPY (...) TO STDOUT, which has no such limit",
                self.limits.rows_max
            );
            return Err(error::new("54000", message));
        }
        Ok(Response::Query(encode::rows(&result.schema, result.batches, format)?))
    }
}

/// Whether parameter `number` is a number of rows, which the plan does not tell.
fn counts_rows(sql: &str, number: usize) -> bool {
    ["LIMIT", "OFFSET"].iter().any(|word| {
        let wanted = format!("{word} ${number}");
        let after = sql.split_once(&wanted).map(|(_, after)| after);
        after.is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[async_trait]
impl SimpleQueryHandler for Session {
    async fn do_query<C>(&self, client: &mut C, sql: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.still_admitted()?;
        let statements = self.statements(sql).await?;
        if statements.len() > 1 && statements.iter().any(|s| matches!(s.command, Some(Command::Copy(_)))) {
            // Its rows are sent at once, before the answers of statements in front of it.
            return Err(error::new("0A000", "COPY with other statements in one text; send it alone"));
        }
        let mut answers = Vec::new();
        for statement in statements {
            answers.push(match &statement.command {
                Some(command) => self.command(client, command, &Format::UnifiedText, sql).await?,
                None => self.query(&statement.text, &BTreeMap::new(), &Format::UnifiedText, sql).await?,
            });
        }
        if answers.is_empty() {
            answers.push(Response::EmptyQuery);
        }
        Ok(answers)
    }
}

/// Prepares statements; describing needs the tables, so it is done while parsing.
#[derive(Clone)]
pub struct Preparer(Arc<Session>);

#[async_trait]
impl QueryParser for Preparer {
    type Statement = Arc<Prepared>;

    async fn parse_sql<C>(&self, _client: &C, sql: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Arc<Prepared>>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        self.0.still_admitted()?;
        let mut statements = self.0.statements(sql).await?;
        match (statements.pop(), statements.len()) {
            (None, _) => Ok(None),
            (Some(statement), 0) => Ok(Some(Arc::new(self.0.prepare(sql, statement).await?))),
            _ => Err(error::new("42601", "several statements in one prepared statement; send them one by one")),
        }
    }

    fn get_parameter_types(&self, statement: &Arc<Prepared>) -> PgWireResult<Vec<Type>> {
        Ok(statement.parameters.clone())
    }

    fn get_result_schema(&self, statement: &Arc<Prepared>, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        match &statement.schema {
            Some(schema) => encode::fields(schema, format.unwrap_or(&Format::UnifiedText)),
            None => Ok(Vec::new()),
        }
    }
}

/// The prepared statements of one connection.
pub struct Extended(Preparer);

#[async_trait]
impl ExtendedQueryHandler for Extended {
    type Statement = Arc<Prepared>;
    type QueryParser = Preparer;

    fn query_parser(&self) -> Arc<Preparer> {
        Arc::new(self.0.clone())
    }

    async fn do_query<C>(&self, client: &mut C, portal: &Portal<Arc<Prepared>>, _rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Arc<Prepared>>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let (session, prepared) = (&self.0.0, &portal.statement.statement);
        session.still_admitted()?;
        if let Some(command) = &prepared.statement.command {
            return session.command(client, command, &portal.result_column_format, &prepared.sql).await;
        }
        let parameters = parameter::all(portal, &prepared.parameters)?;
        session.query(&prepared.statement.text, &parameters, &portal.result_column_format, &prepared.sql).await
    }

    async fn do_describe_statement<C>(
        &self,
        _client: &mut C,
        target: &StoredStatement<Arc<Prepared>>,
    ) -> PgWireResult<DescribeStatementResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Arc<Prepared>>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let prepared = &target.statement;
        let count = prepared.parameters.len().max(target.parameter_types.len());
        let types = (0..count).map(|index| {
            let sent = target.parameter_types.get(index).cloned().flatten().filter(|t| *t != Type::UNKNOWN);
            sent.or_else(|| prepared.parameters.get(index).cloned()).unwrap_or(Type::TEXT)
        });
        let fields = self.0.get_result_schema(prepared, None)?;
        Ok(DescribeStatementResponse::new(types.collect(), fields))
    }

    async fn do_describe_portal<C>(
        &self,
        _client: &mut C,
        target: &Portal<Arc<Prepared>>,
    ) -> PgWireResult<DescribePortalResponse>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Arc<Prepared>>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let fields = self.0.get_result_schema(&target.statement.statement, Some(&target.result_column_format))?;
        Ok(DescribePortalResponse::new(fields))
    }
}

/// What pgwire asks of a connection.
pub struct Handlers(pub Arc<Session>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        Arc::clone(&self.0)
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        Arc::new(Extended(Preparer(Arc::clone(&self.0))))
    }

    fn startup_handler(&self) -> Arc<impl pgwire::api::auth::StartupHandler> {
        Arc::clone(&self.0)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        Arc::new(DefaultCancelHandler::new(Arc::clone(&self.0.cancels)))
    }
}
