//! SQL: text ([`parse`]) to tables ([`catalog`]) to a tree of operators ([`planner`], [`plan`]).

pub mod calendar;
pub mod catalog;
pub mod column_type;
pub mod duration;
pub mod functions;
mod json;
mod memory_table;
pub mod parse;
mod partition;
pub mod percentile_disc;
pub mod plan;
pub mod planner;
mod planning_error;
pub mod program;
pub mod sketch;
mod sorted_set;
mod text_set;
mod user_function;
mod window_table;
