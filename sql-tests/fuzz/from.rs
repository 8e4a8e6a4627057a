//! What a query reads: tables, WITH queries, subqueries, and joins of every kind between them.

use super::query::{Generator, Named, Scope};
use super::schema::{Table, Type};

const JOINS: &[&str] = &["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"];

impl Generator<'_> {
    /// The text behind FROM, and what can be referred to then.
    pub fn from(&mut self, depth: usize, outer: &[Named]) -> (String, Scope) {
        let start = self.choices.open();
        let (mut sql, mut columns, _) = self.source(depth, outer);
        if self.relations_left > 0 && self.choices.chance(8) {
            // The old way to join: the condition stands in WHERE, if there is one.
            let (right, right_columns) = self.relation(depth, outer);
            sql = format!("{sql}, {right}");
            columns.extend(right_columns);
        }
        self.choices.close("from", start);
        (sql, Scope { columns, outer: outer.to_vec(), subqueries: depth > 0 })
    }

    /// A relation or a join of some, and whether it is a join.
    fn source(&mut self, depth: usize, outer: &[Named]) -> (String, Vec<Named>, bool) {
        let start = self.choices.open();
        let kind = if self.relations_left == 0 {
            0
        } else {
            self.choices.weighted(&[(24, 0), (15, 1), (3, 2), (3, 3), (2, 4)])
        };
        let (sql, columns) = match kind {
            0 => self.relation(depth, outer),
            1 => self.join(depth, outer),
            2 => self.using(),
            3 => self.lateral(depth, outer),
            _ => self.nearest(depth, outer),
        };
        self.choices.close("source", start);
        (sql, columns, kind == 1 || kind >= 3)
    }

    /// A table, mostly; a WITH query or a subquery.
    fn relation(&mut self, depth: usize, outer: &[Named]) -> (String, Vec<Named>) {
        let start = self.choices.open();
        let kind = self.choices.weighted(&[(6, 0), (2, 1), (3, 2)]);
        self.relations_left = self.relations_left.saturating_sub(1);
        let result = if kind == 1 && !self.with.is_empty() {
            let with = self.choices.pick(&self.with).clone();
            let alias = self.alias();
            let columns = derived(&alias, &with.types);
            (format!("{} AS {alias}", with.name), columns)
        } else if kind == 2 && depth > 0 && self.relations_left > 0 {
            let types = self.types(3);
            // A plain derived table sees nothing of what is around it but what is outside the whole query.
            let sql = self.query(depth - 1, &types, outer);
            let alias = self.alias();
            (format!("({sql}) AS {alias}"), derived(&alias, &types))
        } else {
            let (table, alias) = (self.choices.pick(&self.schema.tables).clone(), self.alias());
            let mut columns = columns(&alias, &table);
            if self.choices.chance(5) {
                // The first column under another name.
                columns[0].sql = format!("{alias}.first_one");
                (format!("{} AS {alias} (first_one)", table.name), columns)
            } else {
                (format!("{} AS {alias}", table.name), columns)
            }
        };
        self.choices.close("relation", start);
        result
    }

    fn join(&mut self, depth: usize, outer: &[Named]) -> (String, Vec<Named>) {
        let word = *self.choices.pick(JOINS);
        let (left, mut columns, _) = self.source(depth, outer);
        let (right, right_columns) = if self.choices.chance(15) {
            match self.source(depth, outer) {
                (sql, columns, true) => (format!("({sql})"), columns),
                (sql, columns, false) => (sql, columns),
            }
        } else {
            self.relation(depth, outer)
        };
        let condition = self.join_condition(&columns, &right_columns, depth);
        columns.extend(right_columns);
        match condition {
            None => (format!("{left} CROSS JOIN {right}"), columns),
            Some(condition) => (format!("{left} {word} {right} ON {condition}"), columns),
        }
    }

    /// An equality, an equality and more, a comparison, anything; `None` is a cross join.
    fn join_condition(&mut self, left: &[Named], right: &[Named], depth: usize) -> Option<String> {
        let kind = self.choices.weighted(&[(10, 0), (5, 1), (3, 2), (2, 3), (1, 4), (1, 5)]);
        let equality = self.pair(left, right).map(|(a, b)| match self.choices.below(12) {
            11 => format!("{a} IS NOT DISTINCT FROM {b}"),
            _ => format!("{a} = {b}"),
        });
        let both: Vec<Named> = left.iter().chain(right).cloned().collect();
        let scope = Scope { columns: both, outer: vec![], subqueries: false };
        match (kind, equality) {
            (0, Some(equality)) => Some(equality),
            (1, Some(equality)) => {
                let more = self.condition(&scope, depth.min(1));
                Some(format!("{equality} AND {more}"))
            }
            (2, _) => {
                let (a, b) = self.pair(left, right)?;
                Some(format!("{a} {} {b}", self.choices.pick(&["<", ">", "<=", ">=", "<>"])))
            }
            (3, Some(equality)) => {
                let (a, b) = self.pair(left, right)?;
                Some(format!("{equality} AND {a} {} {b}", self.choices.pick(&["<", ">=", "<>", "="])))
            }
            (4, _) => Some(self.condition(&scope, depth.min(1))),
            (5, _) => None,
            (_, equality) => equality,
        }
    }

    /// Columns of one type from both sides.
    fn pair(&mut self, left: &[Named], right: &[Named]) -> Option<(String, String)> {
        let mut pairs = vec![];
        for a in left {
            pairs.extend(right.iter().filter(|b| b.data_type == a.data_type).map(|b| (a.sql.clone(), b.sql.clone())));
        }
        if pairs.is_empty() { None } else { Some(self.choices.pick(&pairs).clone()) }
    }

    /// USING or NATURAL between two tables, as a derived table, so that its columns have one name each.
    fn using(&mut self) -> (String, Vec<Named>) {
        let (a, b) = (self.choices.pick(&self.schema.tables).clone(), self.choices.pick(&self.schema.tables).clone());
        self.relations_left = self.relations_left.saturating_sub(2);
        let word = *self.choices.pick(JOINS);
        let (left, right, alias) = (self.alias(), self.alias(), self.alias());
        let shared: Vec<String> =
            a.columns.iter().filter(|c| b.columns.iter().any(|d| d.name == c.name)).map(|c| c.name.clone()).collect();
        let named = |name: String, data_type: Type| Named { sql: format!("{alias}.{name}"), data_type, plain: true };
        let type_of = |name: &str, table: &Table| {
            table.columns.iter().find(|column| column.name == name).map_or(Type::Int, |column| column.data_type)
        };
        if !shared.is_empty() && self.choices.chance(40) {
            let mut columns: Vec<Named> = shared.iter().map(|name| named(name.clone(), type_of(name, &a))).collect();
            for table in [&a, &b] {
                let rest = table.columns.iter().filter(|column| !shared.contains(&column.name));
                columns.extend(rest.map(|column| named(column.name.clone(), column.data_type)));
            }
            let sql = format!("(SELECT * FROM {} AS {left} NATURAL {word} {} AS {right}) AS {alias}", a.name, b.name);
            return (sql, columns);
        }
        let mut keys: Vec<String> = vec![];
        for _ in 0..1 + self.choices.below(2) {
            if !shared.is_empty() {
                let key = self.choices.pick(&shared).clone();
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        let mut items = keys.clone();
        let mut columns: Vec<Named> = keys.iter().map(|key| named(key.clone(), type_of(key, &a))).collect();
        for (table, side) in [(&a, &left), (&b, &right)] {
            for column in table.columns.iter().take(3) {
                // A qualified key shows one side's value, NULL where that side is missing.
                let name = format!("{side}_{}", column.name);
                items.push(format!("{side}.{} AS {name}", column.name));
                columns.push(named(name, column.data_type));
            }
        }
        let join = if keys.is_empty() {
            format!("{} AS {left} CROSS JOIN {} AS {right}", a.name, b.name)
        } else {
            format!("{} AS {left} {word} {} AS {right} USING ({})", a.name, b.name, keys.join(", "))
        };
        (format!("(SELECT {} FROM {join}) AS {alias}", items.join(", ")), columns)
    }

    /// A relation, and a query over it for each of its rows.
    fn lateral(&mut self, depth: usize, outer: &[Named]) -> (String, Vec<Named>) {
        let (left, mut columns) = self.relation(depth, outer);
        if self.choices.chance(30) {
            return self.set_returning(left, columns);
        }
        let types = self.types(2);
        let around: Vec<Named> = columns.iter().chain(outer).cloned().collect();
        let sql = self.query(depth.saturating_sub(1), &types, &around);
        let alias = self.alias();
        columns.extend(derived(&alias, &types));
        match self.choices.below(3) {
            0 => (format!("{left} CROSS JOIN LATERAL ({sql}) AS {alias}"), columns),
            1 => (format!("{left} LEFT JOIN LATERAL ({sql}) AS {alias} ON true"), columns),
            _ => (format!("{left} JOIN LATERAL ({sql}) AS {alias} ON true"), columns),
        }
    }

    /// A relation, and for each of its rows the one of a table that is nearest by a column.
    fn nearest(&mut self, depth: usize, outer: &[Named]) -> (String, Vec<Named>) {
        let (left, mut all) = self.relation(depth, outer);
        let (table, inner) = (self.choices.pick(&self.schema.tables).clone(), self.alias());
        self.relations_left = self.relations_left.saturating_sub(1);
        let own = columns(&inner, &table);
        let Some((near, by)) = self.pair(&all, &own) else { return (left, all) };
        let (op, direction) = *self.choices.pick(&[("<=", "DESC"), ("<", "DESC"), (">=", "ASC"), (">", "ASC")]);
        let mut conditions = vec![format!("{by} {op} {near}")];
        if self.choices.chance(70)
            && let Some((a, b)) = self.pair(&all, &own)
        {
            conditions.push(format!("{b} = {a}"));
        }
        if self.choices.chance(30) {
            let scope = Scope { columns: own.clone(), outer: vec![], subqueries: false };
            conditions.push(self.condition(&scope, 0));
        }
        // Which row it is must not be open.
        let order: Vec<&str> = own.iter().map(|column| column.sql.as_str()).collect();
        let items: Vec<String> =
            own.iter().enumerate().map(|(number, column)| format!("{} AS c{number}", column.sql)).collect();
        let sql = format!(
            "SELECT {} FROM {} AS {inner} WHERE {} ORDER BY {by} {direction}, {} LIMIT 1",
            items.join(", "),
            table.name,
            conditions.join(" AND "),
            order.join(", ")
        );
        let alias = self.alias();
        let types: Vec<Type> = own.iter().map(|column| column.data_type).collect();
        all.extend(derived(&alias, &types));
        match self.choices.below(2) {
            0 => (format!("{left} LEFT JOIN LATERAL ({sql}) AS {alias} ON true"), all),
            _ => (format!("{left} CROSS JOIN LATERAL ({sql}) AS {alias}"), all),
        }
    }

    /// A relation, and the rows that a function makes of each of its rows.
    fn set_returning(&mut self, left: String, mut columns: Vec<Named>) -> (String, Vec<Named>) {
        let of = |data_type: Type| columns.iter().filter(|column| column.data_type == data_type).collect::<Vec<_>>();
        let (ints, texts) = (of(Type::Int), of(Type::Text));
        let int = if ints.is_empty() { "2".to_string() } else { self.choices.pick(&ints).sql.clone() };
        let (call, data_type) = match self.choices.below(4) {
            0 => (format!("generate_series(1, {int})"), Type::Int),
            1 => (format!("unnest(ARRAY[{int}, 7, NULL])"), Type::Int),
            2 if !texts.is_empty() => (format!("string_to_table({}, 'b')", self.choices.pick(&texts).sql), Type::Text),
            2 => ("unnest(ARRAY['a', NULL])".to_string(), Type::Text),
            _ => (format!("generate_series({int}, 3, 2)"), Type::Int),
        };
        let alias = self.alias();
        columns.push(Named { sql: format!("{alias}.c0"), data_type, plain: true });
        let sql = match self.choices.below(2) {
            0 => format!("{left} CROSS JOIN LATERAL {call} AS {alias} (c0)"),
            _ => format!("{left} LEFT JOIN LATERAL {call} AS {alias} (c0) ON true"),
        };
        (sql, columns)
    }
}

fn derived(alias: &str, types: &[Type]) -> Vec<Named> {
    let named = |(number, data_type): (usize, &Type)| Named {
        sql: format!("{alias}.c{number}"),
        data_type: *data_type,
        plain: true,
    };
    types.iter().enumerate().map(named).collect()
}

fn columns(alias: &str, table: &Table) -> Vec<Named> {
    let named = |column: &super::schema::Column| Named {
        sql: format!("{alias}.{}", column.name),
        data_type: column.data_type,
        plain: true,
    };
    table.columns.iter().map(named).collect()
}
