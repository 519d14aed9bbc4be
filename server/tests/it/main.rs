//! The server's tests, in one program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod browser;
mod cli;
mod connecting;
mod dashboard;
mod demo;
mod flight;
mod http;
mod ingest;
mod jdbc;
mod keys;
mod metrics;
mod more_metrics;
mod postgres;
mod proofs;
mod real;
mod reports;
mod scale;
mod sdk;
mod sending;

#[path = "../../../tests/shared/mail_server.rs"]
mod mail_server;
#[path = "../../../tests/shared/webdriver.rs"]
mod webdriver;
