//! Values and conditions: typed expressions over a scope, with subqueries where it allows them.
//!
//! Nothing here can fail on a row: integers stay small, there is no division, and a scalar subquery has one row at most.

use super::query::{Generator, Scope};
use super::schema::Type;

impl Generator<'_> {
    /// A value of the type.
    pub fn expr(&mut self, data_type: Type, scope: &Scope, depth: usize) -> String {
        let start = self.choices.open();
        let kind = self.choices.weighted(&[
            (60, 0),
            (4, 1),
            (if depth > 0 { 24 } else { 0 }, 2),
            (if scope.subqueries { 6 } else { 0 }, 3),
        ]);
        let sql = match kind {
            0 => self.column(data_type, scope),
            1 => self.typed_literal(data_type),
            2 => self.call(data_type, scope, depth - 1),
            _ => self.scalar_subquery(data_type, scope, depth),
        };
        self.choices.close(data_type.sql(), start);
        sql
    }

    /// A column of the type, rarely one of a query around this one; a literal where there is none.
    fn column(&mut self, data_type: Type, scope: &Scope) -> String {
        let own = scope.of(data_type);
        let outer: Vec<_> = scope.outer.iter().filter(|column| column.data_type == data_type).collect();
        if !outer.is_empty() && (own.is_empty() || self.choices.chance(12)) {
            return self.choices.pick(&outer).sql.clone();
        }
        if !own.is_empty() {
            return self.choices.pick(&own).sql.clone();
        }
        let ints = scope.of(Type::Int);
        if data_type == Type::BigInt && !ints.is_empty() {
            return format!("CAST({} AS bigint)", self.choices.pick(&ints).sql);
        }
        self.typed_literal(data_type)
    }

    /// A literal that is a value by itself; a string alone has no type yet. Sometimes NULL.
    fn typed_literal(&mut self, data_type: Type) -> String {
        if self.choices.chance(6) {
            return format!("CAST(NULL AS {})", data_type.sql());
        }
        let literal = data_type.literal(self.choices);
        if data_type == Type::Text { format!("CAST({literal} AS text)") } else { literal }
    }

    /// An operator or a function over values.
    fn call(&mut self, data_type: Type, scope: &Scope, depth: usize) -> String {
        let general = self.choices.below(9);
        match general {
            0 => {
                let (a, b) = (self.expr(data_type, scope, depth), self.expr(data_type, scope, depth));
                return format!("coalesce({a}, {b})");
            }
            1 => {
                let condition = self.condition(scope, depth);
                let (a, b) = (self.expr(data_type, scope, depth), self.expr(data_type, scope, depth));
                let other = if self.choices.chance(30) { String::new() } else { format!(" ELSE {b}") };
                return format!("CASE WHEN {condition} THEN {a}{other} END");
            }
            2 => {
                let (a, b) = (self.expr(data_type, scope, depth), data_type.literal(self.choices));
                return format!("nullif({a}, {b})");
            }
            3 if data_type != Type::Bool => {
                let (a, b) = (self.expr(data_type, scope, depth), self.expr(data_type, scope, depth));
                return format!("{}({a}, {b})", self.choices.pick(&["greatest", "least"]));
            }
            _ => {}
        }
        match data_type {
            Type::Int => match self.choices.below(6) {
                0 => format!("({} + {})", self.expr(Type::Int, scope, depth), self.expr(Type::Int, scope, depth)),
                1 => format!("({} - {})", self.expr(Type::Int, scope, depth), self.expr(Type::Int, scope, depth)),
                2 => format!("({} * 2)", self.expr(Type::Int, scope, depth)),
                3 => format!("({} % 3)", self.expr(Type::Int, scope, depth)),
                4 => format!("length({})", self.expr(Type::Text, scope, depth)),
                _ => format!("abs({})", self.expr(Type::Int, scope, depth)),
            },
            Type::BigInt => match self.choices.below(5) {
                0 => format!("({} + {})", self.expr(Type::BigInt, scope, depth), self.expr(Type::Int, scope, depth)),
                1 => format!("({} - {})", self.expr(Type::BigInt, scope, depth), self.expr(Type::BigInt, scope, depth)),
                2 => format!("({} % 5)", self.expr(Type::BigInt, scope, depth)),
                3 => format!("CAST({} AS bigint)", self.expr(Type::Int, scope, depth)),
                _ => format!("(- {})", self.expr(Type::BigInt, scope, depth)),
            },
            Type::Numeric => match self.choices.below(5) {
                0 => {
                    format!("({} + {})", self.expr(Type::Numeric, scope, depth), self.expr(Type::Numeric, scope, depth))
                }
                1 => {
                    format!("({} - {})", self.expr(Type::Numeric, scope, depth), self.expr(Type::BigInt, scope, depth))
                }
                2 => format!("({} * 2)", self.expr(Type::Numeric, scope, depth)),
                3 => format!("CAST({} AS numeric)", self.expr(Type::Int, scope, depth)),
                _ => format!("abs({})", self.expr(Type::Numeric, scope, depth)),
            },
            Type::Text => match self.choices.below(5) {
                0 => format!("({} || {})", self.expr(Type::Text, scope, depth), self.expr(Type::Text, scope, depth)),
                1 => format!("upper({})", self.expr(Type::Text, scope, depth)),
                2 => format!("substr({}, 1, 1)", self.expr(Type::Text, scope, depth)),
                3 => format!("CAST({} AS text)", self.expr(Type::Int, scope, depth)),
                _ => format!("replace({}, 'a', 'xy')", self.expr(Type::Text, scope, depth)),
            },
            Type::Bool => format!("({})", self.condition(scope, depth)),
            Type::Timestamp => match self.choices.below(2) {
                0 => format!("({} + INTERVAL '90 minutes')", self.expr(Type::Timestamp, scope, depth)),
                _ => format!("date_trunc('day', {})", self.expr(Type::Timestamp, scope, depth)),
            },
        }
    }

    /// One value of another query: an aggregate over it, or the first of an order.
    fn scalar_subquery(&mut self, data_type: Type, scope: &Scope, depth: usize) -> String {
        let outer = scope.for_inside();
        let inner = depth.saturating_sub(1);
        if self.choices.chance(25) {
            let (from, inside) = self.from(inner, &outer);
            let filter = self.correlated(&inside, inner);
            let value = self.expr(data_type, &inside.without_subqueries(), 0);
            let direction = self.direction();
            return format!("(SELECT {value} AS c0 FROM {from}{filter} ORDER BY c0{direction} LIMIT 1)");
        }
        let (from, inside) = self.from(inner, &outer);
        let filter = self.correlated(&inside, inner);
        match self.aggregate(data_type, &inside) {
            Some(call) => format!("(SELECT {} FROM {from}{filter})", call.sql),
            None => data_type.literal(self.choices),
        }
    }

    /// A condition that ties a subquery to a row around it, mostly; with more beside it, or without.
    fn correlated(&mut self, inside: &Scope, depth: usize) -> String {
        let mut pairs = vec![];
        for own in &inside.columns {
            let same = inside.outer.iter().filter(|outer| outer.data_type == own.data_type);
            pairs.extend(same.map(|outer| (own.sql.clone(), outer.sql.clone())));
        }
        let kind = self.choices.weighted(&[(6, 0), (2, 1), (2, 2), (1, 3)]);
        if pairs.is_empty() || kind == 3 {
            return self.filter("WHERE", inside, depth.min(1));
        }
        let (own, outer) = self.choices.pick(&pairs).clone();
        match kind {
            0 => format!(" WHERE {own} = {outer}"),
            1 => format!(" WHERE {own} = {outer} AND {}", self.condition(inside, depth.min(1))),
            _ => format!(" WHERE {own} {} {outer}", self.choices.pick(&["<", ">=", "<>"])),
        }
    }

    /// True, false or NULL.
    pub fn condition(&mut self, scope: &Scope, depth: usize) -> String {
        let start = self.choices.open();
        let deep = |weight: usize| if depth > 0 { weight } else { 0 };
        let nested = |weight: usize| if scope.subqueries { weight } else { 0 };
        let inner = depth.saturating_sub(1);
        let kinds = [
            (20, 0),
            (deep(8), 1),
            (deep(3), 2),
            (6, 3),
            (5, 4),
            (3, 5),
            (3, 6),
            (nested(5), 7),
            (nested(5), 8),
            (nested(4), 9),
            (nested(2), 10),
            (2, 11),
        ];
        let sql = match self.choices.weighted(&kinds) {
            0 => {
                let data_type = self.type_in(scope);
                let (a, b) = (self.expr(data_type, scope, inner), self.expr(data_type, scope, inner));
                let b = if a == b { data_type.literal(self.choices) } else { b };
                format!("{a} {} {b}", self.choices.pick(&["=", "<>", "<", ">", "<=", ">="]))
            }
            1 => {
                let (a, b) = (self.condition(scope, inner), self.condition(scope, inner));
                format!("({a} {} {b})", self.choices.pick(&["AND", "OR"]))
            }
            2 => format!("NOT ({})", self.condition(scope, inner)),
            3 => {
                let data_type = self.type_in(scope);
                let not = if self.choices.chance(50) { "NOT " } else { "" };
                format!("{} IS {not}NULL", self.expr(data_type, scope, inner))
            }
            4 => {
                let data_type = self.type_in(scope);
                let a = self.expr(data_type, scope, inner);
                let mut list: Vec<String> =
                    (0..1 + self.choices.below(3)).map(|_| data_type.literal(self.choices)).collect();
                if self.choices.chance(15) {
                    list.push("NULL".to_string());
                }
                format!("{a} {} ({})", self.choices.pick(&["IN", "NOT IN"]), list.join(", "))
            }
            5 => {
                let data_type = self.type_in(scope);
                let (a, b) = (self.expr(data_type, scope, inner), self.expr(data_type, scope, inner));
                format!("{a} IS {}DISTINCT FROM {b}", self.choices.pick(&["", "NOT "]))
            }
            6 => {
                let data_type = *self.choices.pick(&[Type::Int, Type::BigInt, Type::Numeric, Type::Timestamp]);
                let a = self.expr(data_type, scope, inner);
                format!("{a} BETWEEN {} AND {}", data_type.literal(self.choices), data_type.literal(self.choices))
            }
            7 => {
                let not = if self.choices.chance(50) { "NOT " } else { "" };
                format!("{not}EXISTS ({})", self.existence(scope, inner))
            }
            8 => {
                let data_type = self.type_in(scope);
                let a = self.expr(data_type, &scope.without_subqueries(), 0);
                let word = *self.choices.pick(&["IN", "NOT IN"]);
                format!("{a} {word} ({})", self.one_column(data_type, scope, inner))
            }
            9 => {
                let data_type = self.type_in(scope);
                let a = self.expr(data_type, &scope.without_subqueries(), 0);
                let operator = *self.choices.pick(&["=", "<", ">", "<=", ">=", "<>"]);
                format!("{a} {operator} {}", self.scalar_subquery(data_type, scope, inner))
            }
            10 => {
                let data_type = self.type_in(scope);
                let a = self.expr(data_type, &scope.without_subqueries(), 0);
                let operator = *self.choices.pick(&["=", "<", ">=", "<>"]);
                let word = *self.choices.pick(&["ANY", "ALL"]);
                format!("{a} {operator} {word} ({})", self.one_column(data_type, scope, inner))
            }
            _ => match scope.of(Type::Text).is_empty() {
                true => self.expr(Type::Bool, scope, 0),
                false => {
                    let a = self.expr(Type::Text, scope, 0);
                    format!(
                        "{a} {} {}",
                        self.choices.pick(&["LIKE", "NOT LIKE"]),
                        self.choices.pick(&["'a%'", "'%b'", "'_'"])
                    )
                }
            },
        };
        self.choices.close("condition", start);
        sql
    }

    /// What stands in EXISTS.
    fn existence(&mut self, scope: &Scope, depth: usize) -> String {
        let outer = scope.for_inside();
        if depth > 0 && self.choices.chance(15) {
            let types = self.types(1);
            return self.query(depth - 1, &types, &outer);
        }
        let (from, inside) = self.from(depth, &outer);
        let filter = self.correlated(&inside, depth);
        format!("SELECT 1 FROM {from}{filter}")
    }

    /// What stands in IN, ANY and ALL.
    fn one_column(&mut self, data_type: Type, scope: &Scope, depth: usize) -> String {
        let outer = if self.choices.chance(40) { scope.for_inside() } else { vec![] };
        if depth > 0 && self.choices.chance(30) {
            return self.query(depth - 1, &[data_type], &outer);
        }
        let (from, inside) = self.from(depth, &outer);
        let value = self.expr(data_type, &inside.without_subqueries(), 0);
        let filter = if outer.is_empty() {
            self.filter("WHERE", &inside, depth.min(1))
        } else {
            self.correlated(&inside, depth)
        };
        format!("SELECT {value} FROM {from}{filter}")
    }
}
