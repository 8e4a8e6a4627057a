//! The merged columns of `JOIN … USING (c)`: what `c` alone means, and where `*` puts it.
//!
//! | join | `c` |
//! |---|---|
//! | inner, left | the left side's |
//! | right | the right side's |
//! | full | `coalesce` of both |
//!
//! `*` shows the merged columns first, then the rest of each relation. The planner takes the left side's column in every
//! case, and shows it at its own place; and in a subquery it takes a column of that name of the query around, if there is
//! one. So every merged column is spelled out.

use sqlparser::ast::{
    BinaryOperator, ExcludeSelectItem, Expr, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, ObjectName,
    ObjectNamePart, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor, WildcardAdditionalOptions,
};

use super::build::{call, folded, rewrite_outside_subqueries};

/// A merged column: its name, what it stands for, and whether that is not the left side's column.
struct Merged {
    name: Ident,
    value: Expr,
    is_other: bool,
}

/// A relation of FROM: the name that it goes by, and which of its columns are merged.
struct Relation {
    name: Ident,
    merged: Vec<Ident>,
}

/// Respells one SELECT as far as its spelling tells whose columns are merged. NATURAL JOIN waits for the catalog.
pub(super) fn rewrite(select: &mut Select) {
    let is_natural = |join: &mut Join| {
        constraint_of(&mut join.join_operator).is_some_and(|constraint| *constraint == JoinConstraint::Natural)
    };
    if !select.from.iter_mut().flat_map(|from| &mut from.joins).any(is_natural) {
        merge_columns(select, &|_| None);
    }
}

/// Respells one SELECT; `columns_of` tells the columns of a relation, where they are known. Joins that it cannot see
/// through (of a relation without a name, say) stay as the planner has them.
pub(in crate::sql) fn merge_columns(select: &mut Select, columns_of: &dyn Fn(&TableFactor) -> Option<Vec<String>>) {
    let Some((merged, relations)) = merge(select, columns_of) else { return };
    expand_wildcards(select, &merged, &relations);
    let merged_by = |expr: &Expr| {
        let Expr::Identifier(ident) = expr else { return None };
        merged.iter().find(|merged| folded(&merged.name) == folded(ident))
    };
    let respell = |expr: &mut Expr| {
        if let Some(merged) = merged_by(expr) {
            *expr = merged.value.clone();
        }
    };
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr @ Expr::Identifier(_)) = item
            && let Some(merged) = merged_by(expr)
        {
            *item = SelectItem::ExprWithAlias { expr: merged.value.clone(), alias: merged.name.clone() };
        } else {
            rewrite_outside_subqueries(item, respell);
        }
    }
    rewrite_outside_subqueries(&mut select.selection, respell);
    if let GroupByExpr::Expressions(exprs, _) = &mut select.group_by {
        rewrite_outside_subqueries(exprs, respell);
    }
    rewrite_outside_subqueries(&mut select.having, respell);
}

/// The merged columns and the relations of FROM. A join on a column that was merged otherwise than the planner takes it
/// gets its condition spelled out.
fn merge(
    select: &mut Select,
    columns_of: &dyn Fn(&TableFactor) -> Option<Vec<String>>,
) -> Option<(Vec<Merged>, Vec<Relation>)> {
    let [from] = select.from.as_mut_slice() else { return None };
    if !from.joins.iter_mut().any(|join| shared_columns(join).is_some()) {
        return None;
    }
    let mut relations = vec![Relation { name: relation_name(&from.relation)?, merged: vec![] }];
    let mut columns = vec![columns_of(&from.relation)];
    let mut merged: Vec<Merged> = vec![];
    // Where each stands in `*`: those of the last join come first.
    let mut order: Vec<usize> = vec![];
    for join in &mut from.joins {
        let name = relation_name(&join.relation)?;
        let own = shared_columns(join).unwrap_or_default();
        let mut first = vec![];
        let mut equalities = vec![];
        let mut is_spelled_out = false;
        for column in &own {
            let right = qualified(&name, column);
            let at = merged.iter().position(|merged| folded(&merged.name) == folded(column));
            let at = match (at, relations.as_slice()) {
                (Some(at), _) => at,
                (None, lefts) => {
                    let owner = match lefts {
                        [only] => only,
                        lefts => &lefts[owner(&columns, &folded(column))?],
                    };
                    let value = qualified(&owner.name, column);
                    merged.push(Merged { name: column.clone(), value, is_other: false });
                    merged.len() - 1
                }
            };
            first.push(at);
            let merged = &mut merged[at];
            is_spelled_out |= merged.is_other;
            equalities.push(equal(merged.value.clone(), right.clone()));
            match &join.join_operator {
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => {
                    merged.value = right;
                    merged.is_other = true;
                }
                JoinOperator::FullOuter(_) => {
                    merged.value = call("coalesce", vec![merged.value.clone(), right]);
                    merged.is_other = true;
                }
                _ => {}
            }
        }
        if let (true, Some(constraint)) = (is_spelled_out, constraint_of(&mut join.join_operator)) {
            let all = equalities.into_iter().reduce(and)?;
            *constraint = JoinConstraint::On(all);
        }
        // The left side's own column is merged, too.
        for merged in &own {
            let owner = match relations.len() {
                1 => Some(0),
                _ => owner(&columns, &folded(merged)),
            };
            if let Some(owner) = owner
                && !relations[owner].merged.iter().any(|other| folded(other) == folded(merged))
            {
                relations[owner].merged.push(merged.clone());
            }
        }
        relations.push(Relation { name, merged: own });
        columns.push(columns_of(&join.relation));
        order.retain(|at| !first.contains(at));
        order.splice(0..0, first);
    }
    let mut merged: Vec<Option<Merged>> = merged.into_iter().map(Some).collect();
    Some((order.into_iter().filter_map(|at| merged[at].take()).collect(), relations))
}

/// Which of several relations has the column. `None`: not known, or more than one.
fn owner(columns: &[Option<Vec<String>>], column: &String) -> Option<usize> {
    let mut owners = vec![];
    for (at, columns) in columns.iter().enumerate() {
        if columns.as_ref()?.contains(column) {
            owners.push(at);
        }
    }
    match owners.as_slice() {
        [owner] => Some(*owner),
        _ => None,
    }
}

fn equal(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Eq, right: Box::new(right) }
}

fn and(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::And, right: Box::new(right) }
}

/// The condition of a join that can have USING.
pub(in crate::sql) fn constraint_of(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint) => Some(constraint),
        _ => None,
    }
}

/// The columns of USING.
pub(in crate::sql) fn shared_columns(join: &mut Join) -> Option<Vec<Ident>> {
    let JoinConstraint::Using(columns) = constraint_of(&mut join.join_operator)? else { return None };
    let column = |name: &ObjectName| match name.0.as_slice() {
        [ObjectNamePart::Identifier(ident)] => Some(ident.clone()),
        _ => None,
    };
    columns.iter().map(column).collect()
}

fn relation_name(factor: &TableFactor) -> Option<Ident> {
    match factor {
        TableFactor::Table { alias: Some(alias), .. } | TableFactor::Derived { alias: Some(alias), .. } => {
            Some(alias.name.clone())
        }
        TableFactor::Table { name, alias: None, .. } => match name.0.last() {
            Some(ObjectNamePart::Identifier(ident)) => Some(ident.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn qualified(relation: &Ident, column: &Ident) -> Expr {
    Expr::CompoundIdentifier(vec![relation.clone(), column.clone()])
}

/// `*` as the merged columns and the rest of each relation.
fn expand_wildcards(select: &mut Select, merged: &[Merged], relations: &[Relation]) {
    if !select.projection.iter().any(|item| matches!(item, SelectItem::Wildcard(_))) {
        return;
    }
    let mut items = vec![];
    for item in std::mem::take(&mut select.projection) {
        match item {
            SelectItem::Wildcard(options) if options == WildcardAdditionalOptions::default() => {
                for merged in merged {
                    items.push(SelectItem::ExprWithAlias { expr: merged.value.clone(), alias: merged.name.clone() });
                }
                for relation in relations {
                    let name = ObjectName::from(vec![relation.name.clone()]);
                    let excluded =
                        relation.merged.iter().map(|column| ObjectName::from(vec![column.clone()])).collect();
                    let options = WildcardAdditionalOptions {
                        opt_exclude: (!relation.merged.is_empty()).then_some(ExcludeSelectItem::Multiple(excluded)),
                        ..WildcardAdditionalOptions::default()
                    };
                    let kind = SelectItemQualifiedWildcardKind::ObjectName(name);
                    items.push(SelectItem::QualifiedWildcard(kind, options));
                }
            }
            other => items.push(other),
        }
    }
    select.projection = items;
}
