//! The marketplace for AI agents: find, install, review, publish, sell.
//!
//! In: requests of browsers, programs and Stripe. Out: pages, an API, packages, and one event for each change, to Millstream.
//! It never touches the engine: it sends events over gRPC and reads the metrics API over HTTP.

#![cfg(feature = "service")]

pub mod accounts;
pub mod api;
pub mod app;
pub mod catalogue;
pub mod cli;
pub mod clock;
pub mod config;
pub mod db;
pub mod demo;
pub mod events;
pub mod installs;
pub mod mail;
pub mod oidc;
pub mod packages;
pub mod pages;
pub mod payments;
pub mod problem;
pub mod publish;
pub mod reviews;
pub mod sample;
pub mod sandbox;
pub mod search;
pub mod secret;
pub mod serve;
pub mod usage;
