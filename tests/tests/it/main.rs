//! End to end tests: one binary, for it links everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod bad_sql;
mod crash;
mod crash_files;
mod damage;
mod ddl;
mod debezium;
mod embed;
mod faults;
mod formats;
mod functions;
mod fuzz;
mod hostile_faces;
mod hostile_sql;
mod lateness;
mod layers;
mod limits;
mod lookups;
mod nexmark;
mod random_queries;
mod real_data;
mod rebuild;
mod rollup_cuts;
mod scripts;
mod simulated;
mod spilling;
mod startup;
mod streaming_is_batch;
mod tables;
mod tidy;
mod time_zones;
mod updating;
mod upgrade;
mod warnings;
