//! The server as its clients see it: one test binary that starts the real program and speaks Postgres to it.
//!
//! | room | what it holds against the server |
//! |---|---|
//! | [`scripts`] | SQL scripts with their results, each view script in twins, with 1 and 2 workers |
//! | [`oracle`] | random changes; after every commit each view equals its own SQL run afresh |
//! | [`tpch`] | the 22 queries of TPC-H as views, while rows arrive and change |
//! | [`consistency`] | one tagged query over tables and views under concurrent writers |
//! | [`durability`] | `kill -9` while rows arrive: what was acknowledged is there |
//! | [`crash`] | `kill -9` again and again, with every kind of state; nothing is lost, nothing comes twice |
//! | [`disk`] | a disk that is full, or can only be read |
//! | [`event_time`] | windows, lateness and emission against a model that recomputes |
//! | [`event_time_joins`] | joins and top-n that let go of what is over, against a model |
//! | [`history`] | the past against a log of it, changes as a stream against the tables at every epoch |
//! | [`docs`] | every example of the reference pages |
//! | [`fuzz`] | random queries over random tables, as views, ad hoc, and on PostgreSQL |
//! | [`security`] | passwords, roles, rules and TLS, for what must not work |
//! | [`garbage`] | bytes that are no Postgres |
//! | [`wire`] | conversations that are nearly right; clients that say or read nothing; a thousand of them |
//! | [`clients`] | psql and its transcripts, psycopg, JDBC, tokio-postgres; what clients were seen to send, with PostgreSQL's answers |
//! | [`dbt`] | a project of ten models, built with dbt-postgres and with the adapter in dbt-highwater/ |
//! | [`sources`] | generated, paced and broken inputs |
//! | [`back_pressure`] | limited rates; a slow view beside a quick one |
//! | [`kafka`] | a real broker, killed and restarted |
//! | [`demo`] | `highwater demo` as it is shipped |
//! | [`memory`] | state that does not fit into the memory limit |
//! | [`maintenance`] | backup, restore, check; damaged files |
//! | [`layers`] | imports point down only; the deliberate absences |
//!
//! README.md beside this file says how to run one of them, and which environment variables they read.

mod back_pressure;
mod clients;
mod consistency;
mod crash;
mod dbt;
mod demo;
mod disk;
mod docs;
mod durability;
mod event_time;
mod event_time_joins;
mod fuzz;
mod garbage;
mod harness;
mod history;
mod kafka;
mod layers;
mod maintenance;
mod memory;
mod oracle;
mod scripts;
mod security;
mod sources;
mod tpch;
mod wire;
