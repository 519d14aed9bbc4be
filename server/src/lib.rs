//! The server around the engine: what producers and analysts reach over the network, and the command line.

pub mod adapt;
pub mod catalog;
pub mod chart;
pub mod cli;
pub mod complete;
pub mod config;
pub mod connections;
pub mod dashboard;
pub mod demo;
pub mod duration;
pub mod flight;
pub mod format;
pub mod generate;
pub mod http;
pub mod ingest;
pub mod keys;
pub mod metric;
pub mod otlp;
pub mod postgres;
pub mod range;
pub mod report;
pub mod rows;
pub mod schedule;
pub mod sending;
pub mod serve;
pub mod tables;
