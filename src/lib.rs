//! # Highwater
//!
//! A SQL streaming database in one binary: say where the events are (`CREATE SOURCE`), say what you want to know
//! (`CREATE MATERIALIZED VIEW`), and every `SELECT` answers at once, fresh and consistent.
//!
//! ## The life of a row
//! ```text
//! connectors ──records──▶ formats ──delta──▶ dataflow operators ──delta──▶ arrangement ──▶ World at epoch e
//!   (a source thread: runtime)           (N timely workers: runtime)        (state)         (published by runtime)
//! ```
//!
//! ## The life of a SELECT
//! ```text
//! client ──bytes──▶ pg ──text──▶ session ──▶ sql::parse, bind ──LogicalPlan──▶ serve: one World ──batches──▶ pg ──▶ client
//! ```
//!
//! ## The life of a view
//! ```text
//! CREATE MATERIALIZED VIEW ──▶ session ──▶ sql::bind, lower ──StreamPlan──▶ runtime ──▶ dataflow: fragments on each worker
//! ```
//!
//! ## Layers: imports point down only (a test reads every `use crate::` line)
//! | layer | rooms |
//! |---|---|
//! | 6 | `server`, `demo`, `maintenance`: the only wiring |
//! | 5 | `pg` |
//! | 4 | `session` |
//! | 3 | `sql`, `serve`, `runtime` |
//! | 2 | `connectors`, `formats`, `dataflow` |
//! | 1 | `catalog`, `plan`, `state` |
//! | 0 | `types`, `error`, `config`, `exit` |

pub mod demo;
pub mod maintenance;
pub mod server;

pub mod pg;

pub mod session;

pub mod runtime;
pub mod serve;
pub mod sql;

pub mod connectors;
pub mod dataflow;
pub mod formats;

pub mod catalog;
pub mod plan;
pub mod state;

pub mod config;
pub mod error;
pub mod exit;
pub mod types;
