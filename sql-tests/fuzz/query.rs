//! Random queries: typed, nested, and with one right answer.
//!
//! | part | file |
//! |---|---|
//! | what a query is: plain, grouped, windowed, a set operation, the first of an order | this one |
//! | what it reads: tables, joins, subqueries, LATERAL, WITH | [`super::from`] |
//! | values and conditions, with subqueries in them | [`super::expr`] |
//! | calls of aggregates and window functions | [`super::calls`] |
//!
//! A query is asked for columns of given types and calls them c0, c1, …. What would leave the answer open is not made: an
//! order that cuts ends with all columns, no float is summed, nothing overflows or divides by zero.

use super::choices::Choices;
use super::schema::{Schema, TYPES, Type};

/// How many tables a query reads, over all; a product of more would be too large.
const RELATIONS_MAX: usize = 4;

/// Something that can stand in an expression, as it is written there.
#[derive(Clone, Debug)]
pub struct Named {
    pub sql: String,
    pub data_type: Type,
    /// A plain column: a subquery may refer to it from inside.
    pub plain: bool,
}

/// What can be read from: a WITH query.
#[derive(Clone, Debug)]
pub struct Relation {
    pub name: String,
    pub types: Vec<Type>,
}

/// What an expression can refer to.
#[derive(Clone, Debug)]
pub struct Scope {
    pub columns: Vec<Named>,
    /// Columns of the queries around this one.
    pub outer: Vec<Named>,
    /// Whether subqueries may stand here.
    pub subqueries: bool,
}

impl Scope {
    pub fn of(&self, data_type: Type) -> Vec<&Named> {
        self.columns.iter().filter(|column| column.data_type == data_type).collect()
    }

    /// What a subquery here can refer to.
    pub fn for_inside(&self) -> Vec<Named> {
        self.columns.iter().chain(&self.outer).filter(|column| column.plain).cloned().collect()
    }

    pub fn without_subqueries(&self) -> Scope {
        Scope { subqueries: false, ..self.clone() }
    }
}

pub struct Generator<'a> {
    pub choices: &'a mut Choices,
    pub schema: &'a Schema,
    pub with: Vec<Relation>,
    pub relations_left: usize,
    pub aliases: usize,
    /// The window of this SELECT that tells rows apart. Two such windows may number equal rows differently, and then what
    /// stands beside what is open.
    pub numbered: Option<String>,
}

/// A whole query.
pub fn query(schema: &Schema, choices: &mut Choices) -> String {
    let mut generator =
        Generator { choices, schema, with: vec![], relations_left: RELATIONS_MAX, aliases: 0, numbered: None };
    generator.top()
}

impl Generator<'_> {
    pub fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("a{}", self.aliases)
    }

    pub fn types(&mut self, most: usize) -> Vec<Type> {
        let count = 1 + self.choices.below(most);
        let kinds = [
            (4, Type::Int),
            (4, Type::BigInt),
            (2, Type::Numeric),
            (2, Type::Text),
            (1, Type::Bool),
            (1, Type::Timestamp),
        ];
        (0..count).map(|_| self.choices.weighted(&kinds)).collect()
    }

    fn top(&mut self) -> String {
        let count = self.choices.weighted(&[(12, 0), (2, 1), (1, 2)]);
        let mut parts = vec![];
        for number in 0..count {
            let types = self.types(3);
            let sql = self.query(1, &types, &[]);
            let name = format!("q{number}");
            parts.push(format!("{name} AS ({sql})"));
            self.with.push(Relation { name, types });
        }
        let types = self.types(4);
        self.relations_left = self.relations_left.max(2);
        let depth = self.choices.weighted(&[(4, 0), (5, 1), (3, 2)]);
        let body = self.query(depth, &types, &[]);
        if parts.is_empty() { body } else { format!("WITH {} {body}", parts.join(", ")) }
    }

    /// A query with columns c0, c1, … of these types; it may refer to `outer`.
    pub fn query(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let start = self.choices.open();
        let kinds = [(12, 0), (10, 1), (4, 2), (8, 3), (4, 4), (3, 5), (5, 6), (7, 7), (4, 8), (4, 9), (1, 10)];
        let sql = match self.choices.weighted(&kinds) {
            0 => self.plain(depth, types, outer),
            1 => self.grouped(depth, types, outer),
            2 => self.global(depth, types, outer),
            3 => self.windowed(depth, types, outer),
            4 => self.plain(depth, types, outer).replacen("SELECT", "SELECT DISTINCT", 1),
            5 => self.first_of_each(depth, types, outer),
            6 => self.first_rows(depth, types, outer),
            7 => self.set_operation(depth, types, outer),
            8 => self.grouping_sets(depth, types, outer),
            9 => self.ranked(depth, types, outer),
            _ => self.values(types),
        };
        self.choices.close("query", start);
        sql
    }

    fn items(&mut self, types: &[Type], scope: &Scope, depth: usize) -> String {
        let items: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(number, data_type)| format!("{} AS c{number}", self.expr(*data_type, scope, depth)))
            .collect();
        items.join(", ")
    }

    /// ` WHERE …`, mostly.
    pub fn filter(&mut self, word: &str, scope: &Scope, depth: usize) -> String {
        if self.choices.chance(60) { format!(" {word} {}", self.condition(scope, depth)) } else { String::new() }
    }

    fn plain(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let (from, scope) = self.from(depth, outer);
        let filter = self.filter("WHERE", &scope, depth);
        format!("SELECT {} FROM {from}{filter}", self.items(types, &scope, depth))
    }

    /// Columns to group or to part by.
    pub fn keys(&mut self, scope: &Scope, least: usize, most: usize) -> Vec<Named> {
        let count = least + self.choices.below(most - least + 1);
        let mut keys: Vec<Named> = vec![];
        for _ in 0..count {
            let key = self.choices.pick(&scope.columns).clone();
            if keys.iter().all(|other| other.sql != key.sql) {
                keys.push(key);
            }
        }
        keys
    }

    /// The keys, and a call or two for each type that is wanted.
    fn after_grouping(&mut self, keys: &[Named], types: &[Type], scope: &Scope) -> Scope {
        let mut columns = keys.to_vec();
        for data_type in types {
            if self.choices.chance(80) {
                let call = self.aggregate(*data_type, scope);
                columns.extend(call);
            }
        }
        Scope { columns, outer: scope.outer.clone(), subqueries: scope.subqueries }
    }

    fn grouped(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let (from, scope) = self.from(depth, outer);
        let filter = self.filter("WHERE", &scope, depth);
        let mut keys = self.keys(&scope, 1, 2);
        if self.choices.chance(20) && keys[0].data_type == Type::Int {
            keys[0] = Named { sql: format!("({} % 2)", keys[0].sql), data_type: Type::Int, plain: false };
        }
        let by: Vec<&str> = keys.iter().map(|key| key.sql.as_str()).collect();
        let after = self.after_grouping(&keys, types, &scope);
        let items = self.items(types, &after, depth.min(1));
        let having = if self.choices.chance(25) {
            format!(" HAVING {}", self.condition(&after, depth.min(1)))
        } else {
            String::new()
        };
        format!("SELECT {items} FROM {from}{filter} GROUP BY {}{having}", by.join(", "))
    }

    /// Aggregates without groups: one row, whatever there is.
    pub fn global(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let (from, scope) = self.from(depth, outer);
        let filter = self.filter("WHERE", &scope, depth);
        let mut columns = vec![];
        for data_type in types {
            columns.extend(self.aggregate(*data_type, &scope));
        }
        let after = Scope { columns, outer: scope.outer.clone(), subqueries: false };
        let items = self.items(types, &after, 1);
        // HAVING makes it one group even if no item is an aggregate.
        let is_grouped = after.columns.iter().any(|call| items.contains(&call.sql));
        let having = match (self.choices.chance(15), is_grouped) {
            (true, _) => " HAVING count(*) > 1",
            (false, true) => "",
            (false, false) => " HAVING count(*) >= 0",
        };
        format!("SELECT {items} FROM {from}{filter}{having}")
    }

    fn grouping_sets(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let (from, scope) = self.from(depth, outer);
        let filter = self.filter("WHERE", &scope, depth);
        let keys = self.keys(&scope, 1, 3);
        let by: Vec<&str> = keys.iter().map(|key| key.sql.as_str()).collect();
        let sets = match self.choices.below(3) {
            0 => format!("ROLLUP ({})", by.join(", ")),
            1 => format!("CUBE ({})", by.join(", ")),
            _ => {
                let mut sets = vec![format!("({})", by.join(", "))];
                for _ in 0..1 + self.choices.below(2) {
                    sets.push(if self.choices.chance(40) {
                        "()".to_string()
                    } else {
                        format!("({})", self.choices.pick(&by))
                    });
                }
                format!("GROUPING SETS ({})", sets.join(", "))
            }
        };
        // A subquery that refers to a key from inside would not see that it is NULL in some sets.
        let keys: Vec<Named> = keys.iter().cloned().map(|key| Named { plain: false, ..key }).collect();
        let mut after = self.after_grouping(&keys, types, &scope);
        after.subqueries = false;
        if self.choices.chance(60) {
            let sql = format!("grouping({})", by.join(", "));
            after.columns.push(Named { sql, data_type: Type::Int, plain: false });
        }
        format!("SELECT {} FROM {from}{filter} GROUP BY {sets}", self.items(types, &after, 1))
    }

    fn windowed(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let (from, scope) = self.from(depth, outer);
        let filter = self.filter("WHERE", &scope, depth);
        let mut after = scope.clone();
        after.columns.iter_mut().for_each(|column| column.plain = false);
        after.subqueries = false;
        let mut calls: Vec<Named> = vec![];
        self.numbered = None;
        for data_type in types {
            calls.extend(self.window_call(*data_type, &scope));
        }
        // Where there is a call of the type, it is taken as often as the columns together.
        let items: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(number, data_type)| {
                let call = calls.iter().position(|call| call.data_type == *data_type);
                let sql = match call {
                    Some(at) if self.choices.chance(75) => calls.remove(at).sql,
                    _ => self.expr(*data_type, &after, 1),
                };
                format!("{sql} AS c{number}")
            })
            .collect();
        format!("SELECT {} FROM {from}{filter}", items.join(", "))
    }

    /// Top-n of each group by the number that a window function gives.
    fn ranked(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let (from, scope) = self.from(depth, outer);
        let filter = self.filter("WHERE", &scope, depth);
        let items = self.items(types, &scope.without_subqueries(), 1);
        let (function, total) = *self.choices.pick(&[("row_number", true), ("rank", false), ("dense_rank", false)]);
        self.numbered = None;
        let over = self.over(&scope, total, "");
        let n = 1 + self.choices.below(3);
        let bound = match self.choices.below(5) {
            0 => format!("rn <= {n}"),
            1 => format!("rn < {}", n + 1),
            2 => "rn = 1".to_string(),
            3 => format!("rn BETWEEN 1 AND {n}"),
            _ => format!("rn > {n}"),
        };
        let alias = self.alias();
        let columns: Vec<String> = (0..types.len()).map(|number| format!("{alias}.c{number}")).collect();
        format!(
            "SELECT {} FROM (SELECT {items}, {function}() OVER ({over}) AS rn FROM {from}{filter}) AS {alias} WHERE {bound}",
            columns.join(", ")
        )
    }

    /// An order of output columns that tells rows apart as far as they differ.
    fn order(&mut self, count: usize, first: Vec<usize>) -> String {
        let mut columns = first;
        while columns.len() < count {
            let next = self.choices.below(count);
            let next = (0..count).map(|offset| (next + offset) % count).find(|column| !columns.contains(column));
            columns.extend(next);
        }
        let order: Vec<String> = columns.into_iter().map(|column| format!("c{column}{}", self.direction())).collect();
        order.join(", ")
    }

    pub fn direction(&mut self) -> &'static str {
        const DIRECTIONS: &[&str] = &["", " DESC", " NULLS FIRST", " DESC NULLS LAST"];
        self.choices.pick::<&str>(DIRECTIONS)
    }

    /// DISTINCT ON.
    fn first_of_each(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let body = self.plain(depth, types, outer);
        let first = self.choices.below(types.len());
        let order = self.order(types.len(), vec![first]);
        format!("{} ORDER BY {order}", body.replacen("SELECT", &format!("SELECT DISTINCT ON (c{first})"), 1))
    }

    fn first_rows(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let body = match self.choices.below(3) {
            0 => self.plain(depth, types, outer),
            1 => self.grouped(depth, types, outer),
            _ => self.set_operation(depth, types, outer),
        };
        let order = self.order(types.len(), vec![]);
        let count = 1 + self.choices.below(4);
        let cut = match self.choices.below(6) {
            0..=2 => format!("LIMIT {count}"),
            3 => format!("LIMIT {count} OFFSET {}", self.choices.below(3)),
            4 => format!("OFFSET {count}"),
            _ => {
                // Ties are whole: the order need not be total.
                let first = self.choices.below(types.len());
                return format!("{body} ORDER BY c{first}{} FETCH FIRST {count} ROWS WITH TIES", self.direction());
            }
        };
        format!("{body} ORDER BY {order} {cut}")
    }

    fn set_operation(&mut self, depth: usize, types: &[Type], outer: &[Named]) -> String {
        let inner = depth.saturating_sub(1);
        let side = |this: &mut Self| match inner {
            0 => this.plain(0, types, outer),
            _ => this.query(inner, types, outer),
        };
        let word = *self.choices.pick(&["UNION ALL", "UNION", "INTERSECT", "EXCEPT", "INTERSECT ALL", "EXCEPT ALL"]);
        let left = side(self);
        let right = side(self);
        format!("({left}) {word} ({right})")
    }

    fn values(&mut self, types: &[Type]) -> String {
        let rows: Vec<String> = (0..1 + self.choices.below(3))
            .map(|_| {
                let values: Vec<String> = types.iter().map(|data_type| data_type.literal(self.choices)).collect();
                format!("({})", values.join(", "))
            })
            .collect();
        let names: Vec<String> = (0..types.len()).map(|number| format!("c{number}")).collect();
        let alias = self.alias();
        let columns: Vec<String> = names.iter().map(|name| format!("{alias}.{name}")).collect();
        format!("SELECT {} FROM (VALUES {}) AS {alias} ({})", columns.join(", "), rows.join(", "), names.join(", "))
    }

    /// A type of which the scope has a column; any type if it has none.
    pub fn type_in(&mut self, scope: &Scope) -> Type {
        let types: Vec<Type> = TYPES.iter().copied().filter(|data_type| !scope.of(*data_type).is_empty()).collect();
        if types.is_empty() { Type::Int } else { *self.choices.pick(&types) }
    }
}
