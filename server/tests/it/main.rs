//! The server's tests, in one program.

mod cli;
mod demo;
mod http;
mod ingest;
mod keys;
