//! Calls of aggregates and of window functions, by the type that comes out.

use super::query::{Generator, Named, Scope};
use super::schema::Type;

impl Generator<'_> {
    /// An aggregate over the rows of the scope; `None` if none gives the type.
    pub fn aggregate(&mut self, data_type: Type, scope: &Scope) -> Option<Named> {
        let start = self.choices.open();
        // An aggregate over outer columns alone would belong to the query around; and no subquery stands in one.
        let scope = Scope { columns: scope.columns.clone(), outer: vec![], subqueries: false };
        let call = self.aggregate_call(data_type, &scope);
        let sql = call.map(|mut sql| {
            if self.choices.chance(18) && !sql.starts_with("array_to_string(") {
                sql = format!("{sql} FILTER (WHERE {})", self.condition(&scope, 0));
            }
            sql
        });
        self.choices.close("aggregate", start);
        sql.map(|sql| Named { sql, data_type, plain: false })
    }

    fn aggregate_call(&mut self, data_type: Type, scope: &Scope) -> Option<String> {
        let distinct = if self.choices.chance(15) { "DISTINCT " } else { "" };
        Some(match data_type {
            Type::BigInt => match self.choices.weighted(&[(6, 0), (4, 1), (5, 2), (2, 3), (1, 4)]) {
                0 => "count(*)".to_string(),
                1 => {
                    let of = self.type_in(scope);
                    format!("count({distinct}{})", self.expr(of, scope, 0))
                }
                2 => format!("sum({distinct}{})", self.expr(Type::Int, scope, 1)),
                3 => format!("{}({})", self.choices.pick(&["min", "max"]), self.expr(Type::BigInt, scope, 0)),
                _ => format!("bit_or({})", self.expr(Type::BigInt, scope, 0)),
            },
            Type::Int => match self.choices.weighted(&[(6, 0), (1, 1), (1, 2), (1, 3)]) {
                2 => format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {})", self.expr(Type::Int, scope, 0)),
                3 => format!("mode() WITHIN GROUP (ORDER BY {})", self.expr(Type::Int, scope, 0)),
                0 => format!("{}({})", self.choices.pick(&["min", "max"]), self.expr(Type::Int, scope, 1)),
                _ => format!(
                    "{}({})",
                    self.choices.pick(&["bit_and", "bit_or", "bit_xor"]),
                    self.expr(Type::Int, scope, 0)
                ),
            },
            Type::Numeric => match self.choices.weighted(&[(4, 0), (3, 1), (3, 2), (2, 3)]) {
                0 => format!("sum({distinct}{})", self.expr(Type::Numeric, scope, 0)),
                1 => format!("avg({distinct}{})", self.expr(Type::Int, scope, 0)),
                2 => format!("sum({})", self.expr(Type::BigInt, scope, 0)),
                _ => format!("{}({})", self.choices.pick(&["min", "max"]), self.expr(Type::Numeric, scope, 0)),
            },
            Type::Text => match self.choices.weighted(&[(4, 0), (2, 1), (1, 2)]) {
                0 => format!("{}({})", self.choices.pick(&["min", "max"]), self.expr(Type::Text, scope, 0)),
                1 => {
                    let value = self.expr(Type::Text, scope, 0);
                    format!("string_agg({distinct}{value}, ',' ORDER BY {value})")
                }
                _ => {
                    let of = *self.choices.pick(&[Type::Int, Type::Text, Type::BigInt]);
                    let value = self.expr(of, scope, 0);
                    format!("array_to_string(array_agg({distinct}{value} ORDER BY {value}), ',', '~')")
                }
            },
            Type::Bool => {
                format!("{}({})", self.choices.pick(&["bool_and", "bool_or", "every"]), self.expr(Type::Bool, scope, 0))
            }
            Type::Timestamp => {
                format!("{}({})", self.choices.pick(&["min", "max"]), self.expr(Type::Timestamp, scope, 0))
            }
        })
    }

    /// What stands in OVER. `total`: the order tells all rows apart as far as they differ.
    pub fn over(&mut self, scope: &Scope, total: bool, frame: &str) -> String {
        if let Some(over) = self.numbered.as_ref().filter(|_| total) {
            return format!("{over}{frame}");
        }
        let mut over = String::new();
        if self.choices.chance(60) {
            let keys = self.keys(scope, 1, 2);
            let by: Vec<&str> = keys.iter().map(|key| key.sql.as_str()).collect();
            over.push_str(&format!("PARTITION BY {} ", by.join(", ")));
        }
        let mut order = self.keys(scope, 1, 2);
        if total {
            let rest = scope.columns.iter().filter(|column| order.iter().all(|first| first.sql != column.sql));
            let rest: Vec<Named> = rest.cloned().collect();
            order.extend(rest);
        }
        let order: Vec<String> = order.iter().map(|column| format!("{}{}", column.sql, self.direction())).collect();
        over.push_str(&format!("ORDER BY {}", order.join(", ")));
        if total {
            self.numbered = Some(over.clone());
        }
        format!("{over}{frame}")
    }

    /// A window function over the rows of the scope.
    pub fn window_call(&mut self, data_type: Type, scope: &Scope) -> Option<Named> {
        let start = self.choices.open();
        let bare = Scope { columns: scope.columns.clone(), outer: vec![], subqueries: false };
        let sql = self.window_function(data_type, &bare);
        self.choices.close("window", start);
        Some(Named { sql, data_type, plain: false })
    }

    fn window_function(&mut self, data_type: Type, scope: &Scope) -> String {
        match self.choices.weighted(&[(5, 0), (4, 1), (4, 2), (6, 3)]) {
            0 if data_type == Type::BigInt => {
                let (function, total) =
                    *self.choices.pick(&[("row_number()", true), ("rank()", false), ("dense_rank()", false)]);
                format!("{function} OVER ({})", self.over(scope, total, ""))
            }
            0 if data_type == Type::Int => {
                let buckets = 1 + self.choices.below(4);
                format!("ntile({buckets}) OVER ({})", self.over(scope, true, ""))
            }
            0 if data_type == Type::Numeric => {
                let function = *self.choices.pick(&["percent_rank()", "cume_dist()"]);
                format!("CAST(round(CAST({function} OVER ({}) AS numeric), 6) AS numeric)", self.over(scope, false, ""))
            }
            0 | 1 => {
                let value = self.expr(data_type, scope, 0);
                let function = *self.choices.pick(&["lag", "lead"]);
                let arguments = match self.choices.below(3) {
                    0 => String::new(),
                    1 => format!(", {}", self.choices.below(3)),
                    _ => format!(", {}, {}", 1 + self.choices.below(2), data_type.literal(self.choices)),
                };
                format!("{function}({value}{arguments}) OVER ({})", self.over(scope, true, ""))
            }
            2 => {
                let value = self.expr(data_type, scope, 0);
                let frame = self.rows_frame();
                let function = match self.choices.below(3) {
                    0 => format!("first_value({value})"),
                    1 => format!("last_value({value})"),
                    _ => format!("nth_value({value}, {})", 1 + self.choices.below(3)),
                };
                format!("{function} OVER ({})", self.over(scope, true, &frame))
            }
            _ => self.window_aggregate(data_type, scope),
        }
    }

    fn window_aggregate(&mut self, data_type: Type, scope: &Scope) -> String {
        let call = match data_type {
            Type::BigInt => match self.choices.below(3) {
                0 => "count(*)".to_string(),
                1 => format!("sum({})", self.expr(Type::Int, scope, 0)),
                _ => format!("max({})", self.expr(Type::BigInt, scope, 0)),
            },
            Type::Numeric => match self.choices.below(2) {
                0 => format!("sum({})", self.expr(Type::Numeric, scope, 0)),
                _ => format!("avg({})", self.expr(Type::Int, scope, 0)),
            },
            Type::Bool => {
                format!("{}({})", self.choices.pick(&["bool_or", "bool_and"]), self.expr(Type::Bool, scope, 0))
            }
            Type::Int => {
                let function = *self.choices.pick(&["min", "max", "bit_or", "bit_xor"]);
                format!("{function}({})", self.expr(Type::Int, scope, 0))
            }
            other => format!("{}({})", self.choices.pick(&["min", "max"]), self.expr(other, scope, 0)),
        };
        match self.choices.weighted(&[(4, 0), (3, 1), (4, 2), (2, 3), (2, 4)]) {
            // Peers count together, so that the order need not be total.
            0 => format!("{call} OVER ({})", self.over(scope, false, "")),
            1 => {
                let keys = self.keys(scope, 1, 2);
                let by: Vec<&str> = keys.iter().map(|key| key.sql.as_str()).collect();
                match self.choices.below(3) {
                    0 => format!("{call} OVER ()"),
                    _ => format!("{call} OVER (PARTITION BY {})", by.join(", ")),
                }
            }
            2 => {
                let frame = self.rows_frame();
                format!("{call} OVER ({})", self.over(scope, true, &frame))
            }
            3 => {
                let frame = self.frame("GROUPS");
                format!("{call} OVER ({})", self.over(scope, false, &frame))
            }
            _ => {
                let ints = scope.of(Type::Int);
                if ints.is_empty() {
                    return format!("{call} OVER ()");
                }
                let by = self.choices.pick(&ints).sql.clone();
                let direction = self.direction();
                let frame = self.frame("RANGE");
                format!("{call} OVER (ORDER BY {by}{direction}{frame})")
            }
        }
    }

    fn rows_frame(&mut self) -> String {
        if self.choices.chance(25) { String::new() } else { self.frame("ROWS") }
    }

    fn frame(&mut self, unit: &str) -> String {
        let from = self.choices.below(4);
        if self.choices.chance(4) {
            // It ends before it starts.
            let frame = *self.choices.pick(&["1 PRECEDING AND 2 PRECEDING", "2 FOLLOWING AND 1 FOLLOWING"]);
            return format!(" {unit} BETWEEN {frame}");
        }
        let (least, more) = (1, 1 + self.choices.below(2));
        let bound = |at: usize, is_start: bool| match at {
            0 => "UNBOUNDED PRECEDING".to_string(),
            1 => format!("{} PRECEDING", if is_start { more } else { least }),
            2 => "CURRENT ROW".to_string(),
            3 => format!("{} FOLLOWING", if is_start { least } else { more }),
            _ => "UNBOUNDED FOLLOWING".to_string(),
        };
        // 1..=4, not before where it starts.
        let to = from.max(1) + self.choices.below(5 - from.max(1));
        let (start, end) = (bound(from, true), bound(to, false));
        let exclude = match self.choices.below(8) {
            1 => " EXCLUDE CURRENT ROW",
            2 => " EXCLUDE GROUP",
            3 => " EXCLUDE TIES",
            4 => " EXCLUDE NO OTHERS",
            _ => "",
        };
        format!(" {unit} BETWEEN {start} AND {end}{exclude}")
    }
}
