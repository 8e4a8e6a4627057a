//! The planning environment: functions, rules and options that make DataFusion plan as Postgres would.

use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::execution::{SessionStateBuilder, SessionStateDefaults};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::optimizer::{Optimizer, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::SessionConfig;

use super::arrival::{ArrivalPlanner, ReadNow};
use super::checked::{CheckedArithmetic, aggregates};
use super::decorrelate::DecorrelateSubqueries;
use super::hidden_constants::HideConstants;
use super::kept_apart;
use super::kept_offsets::KeepOffsets;
use super::operators::PostgresOperators;
use super::sorted_inputs::SortedInputs;
use super::window::WindowPlanner;
use super::window::adhoc::AdhocPlanner;
use crate::catalog::functions;

/// A builder that others add their functions and runtime to. Strings are `Utf8`, numbers with a point are `numeric`,
/// time is in UTC unless the session says otherwise. Call `mark_start_execution` on a clone of the built state for each
/// statement, before binding: `now()` is that instant.
pub fn dialect_state() -> SessionStateBuilder {
    let mut config = SessionConfig::new().with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.collect_spans = true;
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.optimizer.expand_views_at_output = true;
    options.execution.time_zone = Some("UTC".to_string());
    // A cast of a column without NULLs is without NULLs in the logical plan only: the check would refuse such group keys.
    options.execution.skip_physical_aggregate_schema_check = true;
    let mut aggregate_functions = SessionStateDefaults::default_aggregate_functions();
    aggregate_functions.extend(aggregates::aggregates());
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![Arc::new(ReadNow), Arc::new(DecorrelateSubqueries)];
    rules.extend(kept_apart::apart(Optimizer::default().rules));
    rules.push(Arc::new(KeepOffsets));
    rules.push(Arc::new(HideConstants));
    // Ours come later, and take the place of those that have the same name.
    let mut scalar = SessionStateDefaults::default_scalar_functions();
    scalar.extend(functions::scalar_functions());
    // Ours are asked first.
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(PostgresOperators)];
    planners.extend(SessionStateDefaults::default_expr_planners());
    SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_scalar_functions(scalar)
        .with_expr_planners(planners)
        .with_aggregate_functions(aggregate_functions)
        .with_analyzer_rules(vec![
            Arc::new(datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction::new()),
            Arc::new(datafusion::optimizer::analyzer::type_coercion::TypeCoercion::new()),
            Arc::new(CheckedArithmetic),
        ])
        .with_optimizer_rules(rules)
        .with_physical_optimizer_rules(physical_rules())
        .with_relation_planners(vec![Arc::new(WindowPlanner), Arc::new(ArrivalPlanner)])
        .with_query_planner(Arc::new(AdhocPlanner))
}

/// DataFusion's rules, one of ours before its check, and but one: that pushes filters through a projection by column name, and of two columns of one name takes
/// either (`RIGHT JOIN … WHERE a.id IS NULL` tested b.id). Scans here take their filters from the logical plan.
fn physical_rules() -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules = PhysicalOptimizer::default().rules;
    rules.retain(|rule| !rule.name().starts_with("FilterPushdown"));
    // The planner checks itself last.
    rules.insert(rules.len().saturating_sub(1), Arc::new(SortedInputs));
    rules
}
