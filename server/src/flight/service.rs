//! The calls of Flight SQL.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery,
    CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, IpcMessage, SchemaAsIpc, Ticket,
};
use bytes::Bytes;
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt, TryStreamExt};
use millstream::batch::{Batch, query_error};
use millstream::lake::Lake;
use millstream::{Engine, QueryLimits};
use prost::Message;
use tokio::sync::Semaphore;
use tonic::{Code, Request, Response, Status, Streaming};

use super::prepared::Prepared;
use super::{key, listing, placeholder};
use crate::ingest::{retry, status, status_of};

/// Answers that may stream at the same time; more are refused with a delay.
const ANSWERS_MAX: usize = 64;

/// When to come back then.
const BUSY_RETRY_MS: u64 = 500;

type Answer = Response<Pin<Box<dyn Stream<Item = Result<FlightData, Status>> + Send>>>;

/// Flight SQL over the tables.
pub struct FlightSql {
    batch: Batch,
    lake: Lake,
    limits: QueryLimits,
    answers: Arc<Semaphore>,
    about: Result<SqlInfoData, String>,
}

impl FlightSql {
    /// The service over an engine's tables.
    pub fn new(engine: &Engine, limits: QueryLimits) -> Self {
        Self {
            batch: engine.batch().clone(),
            lake: engine.lake().clone(),
            limits,
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
            about: listing::about().map_err(|e| e.to_string()),
        }
    }

    /// The columns of a query, as [`FlightSql::rows`] sends them.
    async fn schema(&self, sql: &str, values: &BTreeMap<String, ScalarValue>) -> Result<SchemaRef, Status> {
        let described = self.batch.describe(sql, values, &self.limits).await.map_err(told)?;
        Ok(plain(&described.schema))
    }

    /// Runs a query. It ends early when its reader goes away.
    async fn rows(&self, sql: &str, values: &BTreeMap<String, ScalarValue>) -> Result<Answer, Status> {
        let permit = self.answers.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{ANSWERS_MAX} answers are streaming already; try again");
            retry(Code::ResourceExhausted, "BUSY", message, BUSY_RETRY_MS)
        })?;
        let rows = self.batch.query_stream(sql, values, &self.limits).await.map_err(told)?;
        let schema = plain(&rows.schema());
        let shape = Arc::clone(&schema);
        let batches = rows.map(move |batch| {
            let _streaming = &permit;
            let batch = batch.map_err(|e| FlightError::Tonic(Box::new(told(query_error(e)))))?;
            let columns = batch.columns().iter().zip(shape.fields()).map(|(c, field)| cast(c, field.data_type()));
            Ok(RecordBatch::try_new(Arc::clone(&shape), columns.collect::<Result<_, _>>()?)?)
        });
        Ok(answer(schema, batches))
    }

    fn about(&self) -> Result<&SqlInfoData, Status> {
        self.about.as_ref().map_err(|e| Status::internal(e.clone()))
    }
}

/// Planner and executor may differ in what can be null, but clients want the schema that they were told. Views of strings
/// become strings, which clients of every age know.
fn plain(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let data_type = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        Field::new(field.name(), data_type, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// An error of the engine for the client; ours are logged too.
fn told(error: millstream::Error) -> Status {
    if matches!(error, millstream::Error::Bug(_) | millstream::Error::Storage(_) | millstream::Error::Corrupt(_)) {
        tracing::error!("flight: {error}");
    }
    status_of(&error)
}

fn answer(schema: SchemaRef, batches: impl Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static) -> Answer {
    let data = FlightDataEncoderBuilder::new().with_schema(schema).build(batches).map_err(Status::from);
    Response::new(Box::pin(data))
}

fn one(batch: Result<RecordBatch, FlightError>) -> Result<Answer, Status> {
    let batch = batch?;
    Ok(answer(batch.schema(), futures::stream::iter([Ok(batch)])))
}

/// Where the rows of a command are: here, under a ticket that is the command.
fn info(
    schema: &Schema,
    ticket: &impl ProstMessageExt,
    request: Request<FlightDescriptor>,
) -> Result<Response<FlightInfo>, Status> {
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    let info = FlightInfo::new()
        .try_with_schema(schema)
        .map_err(|e| Status::internal(e.to_string()))?
        .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_descriptor(request.into_inner());
    Ok(Response::new(info))
}

fn ipc(schema: &Schema) -> Result<Bytes, Status> {
    let message: IpcMessage = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|e: arrow::error::ArrowError| Status::internal(e.to_string()))?;
    Ok(message.0)
}

fn read_only<T>() -> Result<T, Status> {
    let message = "this face only reads; send rows to the ingest service, or to POST /api/v1/ingest/{table}";
    Err(status(Code::FailedPrecondition, "READ_ONLY", message))
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<key::Handshake>, Status> {
        key::handshake(request.metadata())
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let schema = self.schema(&query.query, &BTreeMap::new()).await?;
        info(&schema, &TicketStatementQuery { statement_handle: query.query.into() }, request)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Answer, Status> {
        let sql = std::str::from_utf8(&ticket.statement_handle)
            .map_err(|_| status(Code::InvalidArgument, "MALFORMED", "this is no ticket of this server; ask again"))?;
        self.rows(sql, &BTreeMap::new()).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let prepared = Prepared::new(placeholder::numbered(&query.query));
        let described = self.batch.describe(&prepared.sql, &BTreeMap::new(), &self.limits).await.map_err(told)?;
        let field = |(number, known): (usize, Option<DataType>)| {
            Field::new(number.to_string(), known.unwrap_or(DataType::Null), true)
        };
        let parameters = (1..).zip(described.numbered().map_err(told)?).map(field);
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: prepared.handle(),
            dataset_schema: ipc(&plain(&described.schema))?,
            parameter_schema: ipc(&Schema::new(parameters.collect::<Vec<_>>()))?,
        })
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let mut prepared = Prepared::of(&query.prepared_statement_handle).map_err(told)?;
        let data = request.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let batches: Vec<RecordBatch> = FlightRecordBatchStream::new_from_flight_data(data).try_collect().await?;
        prepared.bind(&batches).map_err(told)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(prepared.handle()) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let prepared = Prepared::of(&query.prepared_statement_handle).map_err(told)?;
        let schema = self.schema(&prepared.sql, &prepared.values().map_err(told)?).await?;
        info(&schema, &query, request)
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        _request: Request<Ticket>,
    ) -> Result<Answer, Status> {
        let prepared = Prepared::of(&query.prepared_statement_handle).map_err(told)?;
        self.rows(&prepared.sql, &prepared.values().map_err(told)?).await
    }

    async fn do_action_close_prepared_statement(
        &self,
        _query: ActionClosePreparedStatementRequest,
        _request: Request<Action>,
    ) -> Result<(), Status> {
        // The client held it.
        Ok(())
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.into_builder().schema(), &query, request)
    }

    async fn do_get_catalogs(&self, query: CommandGetCatalogs, _request: Request<Ticket>) -> Result<Answer, Status> {
        one(listing::catalogs(query))
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder().schema(), &query, request)
    }

    async fn do_get_schemas(&self, query: CommandGetDbSchemas, _request: Request<Ticket>) -> Result<Answer, Status> {
        one(listing::schemas(query))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.clone().into_builder().schema(), &query, request)
    }

    async fn do_get_tables(&self, query: CommandGetTables, _request: Request<Ticket>) -> Result<Answer, Status> {
        one(listing::tables(query, &self.lake).await.map_err(told)?)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&query.into_builder().schema(), &query, request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _request: Request<Ticket>,
    ) -> Result<Answer, Status> {
        one(listing::table_types(query))
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        info(&self.about()?.schema(), &query, request)
    }

    async fn do_get_sql_info(&self, query: CommandGetSqlInfo, _request: Request<Ticket>) -> Result<Answer, Status> {
        one(query.into_builder(self.about()?).build())
    }

    async fn do_put_statement_update(
        &self,
        _query: CommandStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        read_only()
    }

    async fn do_put_statement_ingest(
        &self,
        _query: CommandStatementIngest,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        read_only()
    }

    async fn do_put_prepared_statement_update(
        &self,
        _query: CommandPreparedStatementUpdate,
        _request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        read_only()
    }

    async fn register_sql_info(&self, _id: i32, _info: &SqlInfo) {}
}
