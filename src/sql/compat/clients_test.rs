//! What real clients ask, asked of a catalog with a table, a view, a materialized view and a source.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::execution::FunctionRegistry;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::catalog::functions::{self, AdvisoryLocks, FunctionContext};
use crate::catalog::system::{self, SystemContext};
use crate::catalog::{Catalog, Column, Object, ObjectKind, QualifiedName, SourceDefinition};
use crate::error::{Error, Result};
use crate::types::{PgType, Position, RelationId};

const SETTINGS: &[(&str, &str)] = &[
    ("search_path", "public"),
    ("jit", "off"),
    ("server_version_num", "150000"),
    ("max_index_keys", "32"),
    ("default_table_access_method", "heap"),
];

struct TestContext {
    catalog: Arc<Catalog>,
    locks: AdvisoryLocks,
}

impl FunctionContext for TestContext {
    fn catalog(&self) -> Arc<Catalog> {
        self.catalog.clone()
    }

    fn database(&self) -> String {
        "dev".into()
    }

    fn user(&self) -> String {
        "root".into()
    }

    fn pid(&self) -> i32 {
        7
    }

    fn setting(&self, name: &str) -> Option<String> {
        SETTINGS.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
    }

    fn set_setting(&self, _: &str, value: &str, _: bool) -> Result<String> {
        Ok(value.into())
    }

    fn version(&self) -> String {
        "PostgreSQL 15.0 on test".into()
    }

    fn cancel_backend(&self, _: i32) -> bool {
        false
    }

    fn terminate_backend(&self, _: i32) -> bool {
        false
    }

    fn relation_bytes(&self, _: &Object) -> i64 {
        8192
    }

    fn epoch(&self) -> u64 {
        42
    }

    fn locks(&self) -> &AdvisoryLocks {
        &self.locks
    }

    fn client_address(&self) -> Option<String> {
        None
    }

    fn start_time_us(&self) -> i64 {
        0
    }
}

fn column(name: &str, pg_type: PgType, nullable: bool, default: Option<&str>) -> Column {
    Column { name: name.into(), pg_type, nullable, default: default.map(str::to_string) }
}

fn test_catalog() -> Result<Catalog> {
    let mut catalog = Catalog::default();
    let mut add = |name: &str, kind: ObjectKind, columns: Vec<Column>, definition: &str, reads: &[u32]| {
        let id = catalog.allocate_id();
        let name = QualifiedName { schema: "public".into(), name: name.into() };
        let depends_on = reads.iter().map(|id| RelationId(*id)).collect();
        catalog.insert(Object { id, name, kind, columns, definition: definition.into(), depends_on }).map(|_| ())
    };
    let users = vec![
        column("id", PgType::Int8, false, None),
        column("name", PgType::Text, false, Some("'x'::text")),
        column("email", PgType::Varchar(Some(100)), true, None),
        column("score", PgType::Numeric(Some((10, 2))), true, None),
        column("tags", PgType::Array(Box::new(PgType::Text)), true, None),
        column("created_at", PgType::Timestamptz, true, Some("now()")),
    ];
    let pair = || vec![column("id", PgType::Int8, true, None), column("name", PgType::Text, true, None)];
    add("users", ObjectKind::Table { primary_key: vec![0] }, users, "CREATE TABLE users (…)", &[])?;
    add("v_users", ObjectKind::View, pair(), "SELECT id, name FROM users", &[16384])?;
    let totals = vec![column("user_id", PgType::Int8, true, None), column("n", PgType::Int8, true, None)];
    let kind = ObjectKind::MaterializedView { key: Some(vec![0]) };
    add("mv_orders", kind, totals, "SELECT user_id, count(*) AS n FROM orders GROUP BY user_id", &[16388])?;
    let source = SourceDefinition {
        options: BTreeMap::from([
            ("connector".to_string(), "kafka".to_string()),
            ("properties.sasl.password".to_string(), "hunter2".to_string()),
        ]),
        format: "PLAIN".into(),
        encode: "JSON".into(),
        encode_options: BTreeMap::new(),
        watermark: None,
        start: Position::default(),
    };
    add("clicks", ObjectKind::Source(source), pair(), "CREATE SOURCE clicks (…)", &[])?;
    let orders = vec![column("user_id", PgType::Int8, false, None), column("item", PgType::Int4, false, None)];
    add("orders", ObjectKind::Table { primary_key: vec![0, 1] }, orders, "CREATE TABLE orders (…)", &[])?;
    Ok(catalog)
}

struct Client {
    context: SessionContext,
    oids: BTreeMap<String, u32>,
}

impl Client {
    fn connect() -> Result<Client> {
        let catalog = Arc::new(test_catalog()?);
        let config = SessionConfig::new()
            .set_bool("datafusion.sql_parser.map_string_types_to_utf8view", false)
            .with_target_partitions(1)
            .with_default_catalog_and_schema("dev", "public");
        let context = SessionContext::new_with_config(config);
        let functions: Arc<dyn FunctionContext> =
            Arc::new(TestContext { catalog: catalog.clone(), locks: AdvisoryLocks::default() });
        let state = context.state_ref();
        for function in functions::all(functions) {
            state.write().register_udf(function)?;
        }
        for function in functions::aggregates() {
            state.write().register_udaf(function)?;
        }
        let told = SystemContext { catalog: &catalog, database: "dev", user: "root", settings: &[], activity: &[] };
        let dev = context.catalog("dev").ok_or_else(|| Error::internal("the default catalog is there"))?;
        let public = dev.schema("public").ok_or_else(|| Error::internal("the default schema is there"))?;
        for schema in ["pg_catalog", "information_schema"] {
            let provider = Arc::new(MemorySchemaProvider::new());
            for (_, name, _) in system::names().filter(|(s, ..)| *s == schema) {
                let Some(batch) = system::table(schema, name, &told) else { continue };
                let table = Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?);
                provider.register_table(name.to_string(), table.clone())?;
                if schema == "pg_catalog" {
                    public.register_table(name.to_string(), table)?;
                }
            }
            dev.register_schema(schema, provider)?;
        }
        let mut oids: BTreeMap<String, u32> = catalog.objects().map(|o| (o.name.name.clone(), o.id.0)).collect();
        oids.insert("users_pkey".into(), system::index_oid(RelationId(16384)));
        Ok(Client { context, oids })
    }

    async fn ask(&self, sql: &str) -> Result<Vec<RecordBatch>> {
        let mut sql = sql.to_string();
        for (name, oid) in &self.oids {
            sql = sql.replace(&format!("{{{name}}}"), &oid.to_string());
        }
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, &sql)
            .map_err(|e| Error::internal(format!("does not parse: {e}")))?
            .remove(0);
        super::rewrite(&mut statement);
        let plan = self.context.state().statement_to_plan(DfStatement::Statement(Box::new(statement))).await?;
        Ok(self.context.execute_logical_plan(plan).await?.collect().await?)
    }

    /// The answer's rows, columns joined by `|`.
    async fn rows(&self, sql: &str) -> Result<Vec<String>> {
        let mut rows = vec![];
        let options = FormatOptions::new().with_null("");
        for batch in self.ask(sql).await? {
            let columns =
                batch.columns().iter().map(|c| ArrayFormatter::try_new(c, &options)).collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let cells: Vec<String> = columns.iter().map(|c| c.value(row).to_string()).collect();
                rows.push(cells.join("|"));
            }
        }
        Ok(rows)
    }
}

/// (title, statement) of a file of captured statements.
fn statements(file: &str) -> Vec<(String, String)> {
    file.split("\n-- # ")
        .skip(1)
        .filter_map(|part| part.split_once('\n'))
        .map(|(title, sql)| (title.to_string(), sql.trim().trim_end_matches(';').to_string()))
        .collect()
}

/// The one captured statement of this title (the `index`-th, counted from 0).
fn captured(file: &str, title: &str, index: usize) -> String {
    let mut of_title = statements(file).into_iter().filter(|(t, _)| t == title);
    of_title.nth(index).expect("the file has the statement").1
}

const PSQL: &str = include_str!("../../../sql-tests/clients/psql15.sql");
const JDBC: &str = include_str!("../../../sql-tests/clients/jdbc.sql");
const DRIVERS: &str = include_str!("../../../sql-tests/clients/drivers.sql");
const SQLALCHEMY: &str = include_str!("../../../sql-tests/clients/sqlalchemy.sql");
const DBT: &str = include_str!("../../../sql-tests/clients/dbt.sql");

#[tokio::test(flavor = "multi_thread")]
async fn captured_statements_are_answered() -> Result<()> {
    let client = Client::connect()?;
    let mut failures = vec![];
    for (name, file) in [("psql", PSQL), ("jdbc", JDBC), ("drivers", DRIVERS), ("sqlalchemy", SQLALCHEMY), ("dbt", DBT)]
    {
        let all = statements(file);
        let mut failed = 0;
        for (index, (title, sql)) in all.iter().enumerate() {
            if let Err(error) = client.ask(sql).await {
                failed += 1;
                failures.push(format!("{name} {index} {title}: {error}\n{sql}"));
            }
        }
        println!("{name}: {} of {} answered", all.len() - failed, all.len());
    }
    for failure in &failures {
        println!("{failure}\n");
    }
    assert!(failures.is_empty(), "{} statements failed", failures.len());
    Ok(())
}
