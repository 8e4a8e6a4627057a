//! Tables: two to four small ones, whose columns come from one pool of names, each with its type, so that columns of the
//! same name can always be joined; and the statements that change them.

use super::choices::Choices;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Int,
    BigInt,
    Numeric,
    Text,
    Bool,
    Timestamp,
}

pub const TYPES: &[Type] = &[Type::Int, Type::BigInt, Type::Numeric, Type::Text, Type::Bool, Type::Timestamp];

impl Type {
    pub fn sql(self) -> &'static str {
        match self {
            Type::Int => "int",
            Type::BigInt => "bigint",
            Type::Numeric => "numeric",
            Type::Text => "text",
            Type::Bool => "bool",
            Type::Timestamp => "timestamp",
        }
    }

    /// A literal that has this type wherever it stands.
    pub fn literal(self, choices: &mut Choices) -> String {
        match self {
            Type::Int => choices.pick(&["0", "1", "2", "3", "-1"]).to_string(),
            Type::BigInt => format!("CAST({} AS bigint)", choices.pick(&["1", "2", "7", "5000000000"])),
            Type::Numeric => choices.pick(&["1.25", "0.00", "2.50", "-3.75"]).to_string(),
            // No letter whose case only some locales know: the reference runs in the C locale.
            Type::Text => format!("'{}'", choices.pick(&["a", "b", "ab", "", "B", "水"])),
            Type::Bool => choices.pick(&["true", "false"]).to_string(),
            Type::Timestamp => {
                format!("TIMESTAMP '2024-01-0{} 0{}:30:00'", 1 + choices.below(3), choices.below(3))
            }
        }
    }

    /// A value for a column: few different ones, some NULL.
    fn value(self, choices: &mut Choices) -> String {
        if choices.chance(15) { "NULL".to_string() } else { self.literal(choices) }
    }
}

#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub data_type: Type,
}

#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    /// Whether the first column, `id`, is its key.
    pub keyed: bool,
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug)]
pub struct Schema {
    pub tables: Vec<Table>,
}

/// `k` and `g` are integers both: keys and groups.
const POOL: &[(&str, Type)] = &[
    ("k", Type::Int),
    ("g", Type::Int),
    ("b", Type::BigInt),
    ("n", Type::Numeric),
    ("s", Type::Text),
    ("f", Type::Bool),
    ("ts", Type::Timestamp),
];

/// Values of `id`: few, so that conflicts are common.
const IDS: usize = 14;

impl Schema {
    pub fn random(choices: &mut Choices) -> Schema {
        let count = 2 + choices.below(3);
        let tables = (0..count).map(|number| {
            let keyed = choices.chance(65);
            let mut columns = vec![];
            if keyed {
                columns.push(Column { name: "id".to_string(), data_type: Type::Int });
            }
            let (size, start) = (3 + choices.below(3), choices.below(POOL.len()));
            for offset in 0..size {
                // Neighbours in a ring: two tables have some names in common, but seldom all.
                let (name, data_type) = POOL[(start + offset) % POOL.len()];
                columns.push(Column { name: name.to_string(), data_type });
            }
            Table { name: format!("t{number}"), keyed, columns }
        });
        Schema { tables: tables.collect() }
    }

    pub fn create(&self) -> Vec<String> {
        let column = |table: &Table, column: &Column| {
            let key = if table.keyed && column.name == "id" { " PRIMARY KEY" } else { "" };
            let data_type = if column.data_type == Type::Numeric { "numeric(8,2)" } else { column.data_type.sql() };
            format!("{} {data_type}{key}", column.name)
        };
        let create = |table: &Table| {
            let columns: Vec<String> = table.columns.iter().map(|c| column(table, c)).collect();
            format!("CREATE TABLE {} ({})", table.name, columns.join(", "))
        };
        self.tables.iter().map(create).collect()
    }

    pub fn drop(&self) -> String {
        let names: Vec<&str> = self.tables.iter().map(|table| table.name.as_str()).collect();
        format!("DROP TABLE IF EXISTS {} CASCADE", names.join(", "))
    }
}

/// One statement that changes a table. Rows stand apart so that a failing case can lose some of them.
#[derive(Clone, Debug)]
pub enum Change {
    Insert { table: String, rows: Vec<String>, conflict: String },
    Other(String),
}

/// Statements that take effect together.
pub type Transaction = Vec<Change>;

impl Change {
    pub fn sql(&self) -> String {
        match self {
            Change::Insert { table, rows, conflict } => {
                format!("INSERT INTO {table} VALUES {}{conflict}", rows.join(", "))
            }
            Change::Other(sql) => sql.clone(),
        }
    }
}

/// The statement or statements of a transaction, to be sent at once.
pub fn transaction_sql(transaction: &[Change]) -> String {
    match transaction {
        [change] => change.sql(),
        changes => {
            let changes: Vec<String> = changes.iter().map(Change::sql).collect();
            format!("BEGIN; {}; COMMIT", changes.join("; "))
        }
    }
}

pub fn transaction(schema: &Schema, choices: &mut Choices) -> Transaction {
    let count = choices.weighted(&[(5, 1), (2, 2), (1, 3)]);
    (0..count).map(|_| change(schema, choices)).collect()
}

fn change(schema: &Schema, choices: &mut Choices) -> Change {
    let table = choices.pick(&schema.tables);
    match choices.weighted(&[(50, 0), (22, 1), (22, 2), (1, 3), (1, 4)]) {
        0 => insert(table, choices),
        1 => {
            let columns: Vec<&Column> = table.columns.iter().filter(|column| column.name != "id").collect();
            let column = choices.pick(&columns);
            let value = match (column.data_type, choices.below(3)) {
                (Type::Int, 1) => format!("({} + 1) % 4", column.name),
                (Type::Numeric, 1) => format!("1.50 - {}", column.name),
                (Type::Bool, 1) => format!("NOT {}", column.name),
                (Type::Text, 1) => format!("upper({})", column.name),
                (data_type, _) => data_type.value(choices),
            };
            Change::Other(format!(
                "UPDATE {} SET {} = {value} WHERE {}",
                table.name,
                column.name,
                which(table, choices)
            ))
        }
        2 => Change::Other(format!("DELETE FROM {} WHERE {}", table.name, which(table, choices))),
        3 => Change::Other(format!("DELETE FROM {}", table.name)),
        _ => Change::Other(format!("TRUNCATE {}", table.name)),
    }
}

fn insert(table: &Table, choices: &mut Choices) -> Change {
    let mut taken = vec![];
    let mut rows = vec![];
    for _ in 0..1 + choices.below(6) {
        let id = choices.below(IDS);
        if table.keyed && taken.contains(&id) {
            continue;
        }
        taken.push(id);
        let value = |column: &Column, choices: &mut Choices| match column.name.as_str() {
            "id" => id.to_string(),
            _ => column.data_type.value(choices),
        };
        let values: Vec<String> = table.columns.iter().map(|column| value(column, choices)).collect();
        rows.push(format!("({})", values.join(", ")));
    }
    let conflict = if !table.keyed {
        String::new()
    } else if choices.chance(50) {
        let sets: Vec<String> = table.columns[1..].iter().map(|c| format!("{0} = excluded.{0}", c.name)).collect();
        format!(" ON CONFLICT (id) DO UPDATE SET {}", sets.join(", "))
    } else {
        " ON CONFLICT DO NOTHING".to_string()
    };
    Change::Insert { table: table.name.clone(), rows, conflict }
}

/// A condition that holds for some rows.
fn which(table: &Table, choices: &mut Choices) -> String {
    let column = choices.pick(&table.columns);
    match (column.data_type, choices.below(4)) {
        (_, 3) => format!("{} IS NULL", column.name),
        (Type::Int, _) if column.name == "id" => format!("id % 5 = {}", choices.below(5)),
        (data_type, _) => format!("{} = {}", column.name, data_type.literal(choices)),
    }
}
