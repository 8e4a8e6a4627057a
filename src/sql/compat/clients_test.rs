//! What real clients ask, asked of a catalog with a table, a view, a materialized view and a source.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::execution::FunctionRegistry;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement as DfStatement;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

use crate::catalog::functions::{self, AdvisoryLocks, FunctionContext};
use crate::catalog::system::{self, SystemContext};
use crate::catalog::{Catalog, Column, Object, ObjectKind, QualifiedName, SourceDefinition, ViewOptions};
use crate::error::{Error, Result};
use crate::sql::types::PgTypePlanner;
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

    fn session_user(&self) -> String {
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

    fn cancel_backend(&self, _: i32) -> Result<bool> {
        Ok(false)
    }

    fn terminate_backend(&self, _: i32) -> Result<bool> {
        Ok(false)
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
        catalog
            .insert(Object { id, name, kind, columns, definition: definition.into(), depends_on, indexes: vec![] })
            .map(|_| ())
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
    add("users", ObjectKind::table(vec![0]), users, "CREATE TABLE users (…)", &[])?;
    add("v_users", ObjectKind::View, pair(), "SELECT id, name FROM users", &[16384])?;
    let totals = vec![column("user_id", PgType::Int8, true, None), column("n", PgType::Int8, true, None)];
    let kind = ObjectKind::maintained(Some(vec![0]), ViewOptions::default());
    add("mv_orders", kind, totals, "SELECT user_id, count(*) AS n FROM orders GROUP BY user_id", &[16388])?;
    let source = SourceDefinition {
        is_paused: false,
        options: BTreeMap::from([
            ("connector".to_string(), "kafka".to_string()),
            ("properties.sasl.password".to_string(), "hunter2".to_string()),
        ]),
        format: "PLAIN".into(),
        encode: "JSON".into(),
        encode_options: BTreeMap::new(),
        watermark: None,
        generated: vec![],
        start: Position::default(),
    };
    add("clicks", ObjectKind::Source(source), pair(), "CREATE SOURCE clicks (…)", &[])?;
    let orders = vec![column("user_id", PgType::Int8, false, None), column("item", PgType::Int4, false, None)];
    add("orders", ObjectKind::table(vec![0, 1]), orders, "CREATE TABLE orders (…)", &[])?;
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
        let state = SessionStateBuilder::new().with_config(config).with_default_features();
        let context = SessionContext::new_with_state(state.with_type_planner(Arc::new(PgTypePlanner)).build());
        let functions: Arc<dyn FunctionContext> =
            Arc::new(TestContext { catalog: catalog.clone(), locks: AdvisoryLocks::default() });
        let state = context.state_ref();
        for function in functions::scalar_functions().chain(functions::all(functions)) {
            state.write().register_udf(function)?;
        }
        for function in functions::aggregates() {
            state.write().register_udaf(function)?;
        }
        let told = SystemContext {
            catalog: &catalog,
            database: "dev",
            user: "root",
            is_superuser: true,
            settings: &[],
            activity: &[],
        };
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

/// One answer after the other, so that a failure shows them all.
async fn check(client: &Client, cases: &[(&str, String, &[&str])]) -> Result<()> {
    let mut wrong = vec![];
    for (what, sql, expected) in cases {
        let rows = match client.rows(sql).await {
            Ok(rows) => rows,
            Err(error) => vec![format!("{} {error}", error.code.0)],
        };
        if rows != *expected {
            wrong.push(format!("{what}\n  expected {expected:#?}\n  got {rows:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_is_told_the_truth() -> Result<()> {
    let client = Client::connect()?;
    let psql = |title: &str, index: usize| captured(PSQL, title, index);
    let cases: &[(&str, String, &[&str])] = &[
        (
            r"\d",
            psql(r"\d", 0),
            &[
                "public|clicks|foreign table|root",
                "public|mv_orders|materialized view|root",
                "public|orders|table|root",
                "public|users|table|root",
                "public|v_users|view|root",
            ],
        ),
        (r"\dt", psql(r"\dt", 0), &["public|orders|table|root", "public|users|table|root"]),
        (r"\dv", psql(r"\dv", 0), &["public|v_users|view|root"]),
        (r"\dm", psql(r"\dm", 0), &["public|mv_orders|materialized view|root"]),
        (r"\di", psql(r"\di", 0), &["public|orders_pkey|index|root|orders", "public|users_pkey|index|root|users"]),
        (r"\d users: which", psql(r"\d users", 0), &["16384|public|users"]),
        (r"\d users: what", psql(r"\d users", 1), &["0|r|true|false|false|false|false|false|false||0||p|d|heap"]),
        (
            r"\d users: columns",
            psql(r"\d users", 2),
            &[
                "id|bigint||true|||",
                "name|text|'x'::text|true|||",
                "email|character varying(100)||false|||",
                "score|numeric(10,2)||false|||",
                "tags|text[]||false|||",
                "created_at|timestamp with time zone|now()|false|||",
            ],
        ),
        (
            r"\d users: indexes",
            psql(r"\d users", 3),
            &[
                "users_pkey|true|true|false|true|CREATE UNIQUE INDEX users_pkey ON users USING btree (id)|PRIMARY KEY (id)|p|false|false|false|0",
            ],
        ),
        (r"\d users: policies", psql(r"\d users", 6), &[]),
        (
            r"\d+ v_users: definition",
            "SELECT pg_catalog.pg_get_viewdef('{v_users}'::pg_catalog.oid, true)".into(),
            &[" SELECT id, name FROM users;"],
        ),
        (r"\sv v_users", psql(r"\sv v_users", 0), &["16385"]),
        (r"\l", psql(r"\l", 0), &["dev|root|UTF8|C|C||libc|"]),
        (r"\dn", psql(r"\dn", 0), &["hw_catalog|root", "public|root"]),
        (r"\df", psql(r"\df", 0), &[]),
        (r"\dT", psql(r"\dT", 0), &[]),
        (r"\du", psql(r"\du", 0), &["root|true|true|true|true|true|-1||[]|false|true"]),
        (r"\dx", psql(r"\dx", 0), &[]),
        (
            r"\dt+",
            psql(r"\dt+", 0),
            &[
                "public|orders|table|root|permanent|heap|8192 bytes|",
                "public|users|table|root|permanent|heap|8192 bytes|",
            ],
        ),
        (
            r"\d clicks: server",
            psql(r"\d source (server of a foreign table)", 0),
            &["kafka|connector 'kafka', \"properties.sasl.password\" '********'"],
        ),
    ];
    check(&client, cases).await
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_are_told_the_truth() -> Result<()> {
    let client = Client::connect()?;
    let key_columns = statements(JDBC)
        .into_iter()
        .map(|(_, sql)| sql)
        .find(|sql| sql.contains("AS KEY_SEQ, ci.relname AS PK_NAME"))
        .expect("JDBC asks for primary keys");
    let columns = statements(JDBC)
        .into_iter()
        .map(|(_, sql)| sql)
        .find(|sql| sql.contains("AS adsrc"))
        .expect("JDBC asks for columns")
        .replace("SELECT * FROM (", "SELECT attname, atttypid, attnotnull, atttypmod, attnum, adsrc FROM (");
    let is_array = statements(JDBC)
        .into_iter()
        .map(|(_, sql)| sql)
        .find(|sql| sql.contains("is_array") && sql.contains("1007"))
        .expect("JDBC asks what a type is");
    let asyncpg = statements(DRIVERS)
        .into_iter()
        .map(|(_, sql)| sql)
        .find(|sql| sql.contains("typeinfo_tree"))
        .expect("asyncpg asks for types");
    let primary_key = statements(SQLALCHEMY)
        .into_iter()
        .map(|(_, sql)| sql)
        .find(|sql| sql.contains("generate_subscripts(ix.indkey, 1) ord"))
        .expect("SQLAlchemy asks for primary keys");
    let cases: &[(&str, String, &[&str])] = &[
        ("getPrimaryKeys", key_columns.clone(), &["|public|users|id|1|users_pkey"]),
        (
            "getPrimaryKeys of two columns",
            key_columns.replace("'users'", "'orders'"),
            &["|public|orders|user_id|1|orders_pkey", "|public|orders|item|2|orders_pkey"],
        ),
        (
            "getColumns",
            columns,
            &[
                "id|20|true|-1|1|",
                "name|25|true|-1|2|'x'::text",
                "email|1043|false|104|3|",
                "score|1700|false|655366|4|",
                "tags|1009|false|-1|5|",
                "created_at|1184|false|-1|6|now()",
            ],
        ),
        ("what int4[] is", is_array, &["true|b|_int4|1007"]),
        (
            "asyncpg's types",
            asyncpg
                .replace("SELECT DISTINCT\n    *,", "SELECT DISTINCT oid, ns, name, kind, depth,")
                .replace("depth DESC", "depth DESC, oid"),
            &["23|pg_catalog|int4|b|1||-|", "25|pg_catalog|text|b|0||-|", "1007|pg_catalog|_int4|b|0||integer|"],
        ),
        ("primary key", primary_key.replace("{users}", "{orders}"), &["user_id", "item"]),
        ("psycopg's type", captured(DRIVERS, "psycopg3", 0), &["int4|23|1007|integer|,"]),
        (
            "columns",
            "SELECT column_name, data_type, udt_name, is_nullable, column_default, numeric_precision FROM \
             information_schema.columns WHERE table_name = 'users' AND table_catalog = current_database()"
                .into(),
            &[
                "id|bigint|int8|NO||64",
                "name|text|text|NO|'x'::text|",
                "email|character varying|varchar|YES||",
                "score|numeric|numeric|YES||10",
                "tags|ARRAY|_text|YES||",
                "created_at|timestamp with time zone|timestamptz|YES|now()|",
            ],
        ),
        (
            "what a view reads",
            "SELECT DISTINCT d.refobjid::regclass::text FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid \
             WHERE d.classid = 'pg_rewrite'::regclass AND r.ev_class = 'mv_orders'::regclass \
             AND d.refobjid <> r.ev_class"
                .into(),
            &["orders"],
        ),
    ];
    check(&client, cases).await
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_answer_as_in_postgres() -> Result<()> {
    let client = Client::connect()?;
    let values = "(VALUES (1, 'a'), (2, 'b'), (2, 'c')) AS t(k, v)";
    let cases: &[(&str, String, &[&str])] = &[
        ("who", "SELECT current_user, session_user, current_catalog, current_schema, current_schema()".into(), &["root|root|dev|public|public"]),
        ("schemas", "SELECT current_schemas(true), (current_schemas(false))[1]".into(), &["[pg_catalog, public]|public"]),
        ("settings", "SELECT current_setting('JIT'), current_setting('nope', true), set_config('jit', 'on', false)".into(), &["off||on"]),
        ("no setting", "SELECT current_setting('nope')".into(), &["42704 unrecognized configuration parameter \"nope\""]),
        ("no relation", "SELECT 'nope'::regclass".into(), &["42P01 relation \"nope\" does not exist"]),
        ("references", "SELECT 'users'::regclass, 'pg_class'::regclass::oid, 16384::regclass::text, 'int4[]'::regtype, to_regclass('nope')".into(), &["users|1259|users|integer[]|"]),
        ("types", "SELECT format_type(1043, 104), format_type(1700, 655366), format_type(1015, 104), format_type(99999, NULL), format_type(NULL, 1)".into(), &["character varying(100)|numeric(10,2)|character varying(100)[]|???|"]),
        ("privileges", "SELECT has_table_privilege('users', 'SELECT'), has_table_privilege('root', 'users', 'select, insert'), has_schema_privilege('public', 'USAGE')".into(), &["true|true|true"]),
        ("no privilege", "SELECT has_table_privilege('users', 'FLY')".into(), &["22023 unrecognized privilege type: \"fly\""]),
        ("quotes", "SELECT quote_ident('a b'), quote_literal('it''s'), quote_nullable(NULL), format('%I.%s = %L %%', 'T', 1, 'x')".into(), &["\"a b\"|'it''s'|NULL|\"T\".1 = 'x' %"]),
        ("arrays", "SELECT array_upper(ARRAY[5, 6], 1), array_lower(ARRAY[5], 1), array_upper(ARRAY[5], 2), array_to_string(ARRAY['a', NULL, 'b'], ',', '-')".into(), &["2|1||a,-,b"]),
        ("json", "SELECT json_build_object('a', 1, 'b', NULL, 'c', 'x')".into(), &["{\"a\" : 1, \"b\" : null, \"c\" : \"x\"}"]),
        ("a series", "SELECT generate_series(1, 3)".into(), &["1", "2", "3"]),
        ("a series in FROM", "SELECT s + 1 FROM generate_series(1, 2) s".into(), &["2", "3"]),
        ("names", "SELECT * FROM (SELECT 1, 2, now() IS NULL AS a) s".into(), &["1|2|false"]),
        ("any of a text", format!("SELECT v FROM {values} WHERE k = ANY('{{2,7}}') ORDER BY v"), &["b", "c"]),
        ("one value", format!("SELECT (SELECT v FROM {values} WHERE t.k = u.x) FROM (VALUES (1), (9)) u(x) ORDER BY x"), &["a", ""]),
        ("two values", format!("SELECT (SELECT v FROM {values} WHERE t.k = u.x) FROM (VALUES (2)) u(x)"), &["21000 more than one row returned by a subquery used as an expression"]),
        ("the first", format!("SELECT (SELECT v FROM {values} WHERE t.k = u.x ORDER BY v DESC LIMIT 1) FROM (VALUES (2)) u(x)"), &["c"]),
        ("arrays of rows", format!("SELECT ARRAY(SELECT v FROM {values} WHERE t.k = u.x ORDER BY v DESC) FROM (VALUES (2), (3)) u(x) ORDER BY x"), &["[c, b]", "[]"]),
        ("an outer condition", format!("SELECT (SELECT v FROM {values} WHERE t.k = u.x AND u.x < 2) FROM (VALUES (1), (3)) u(x) ORDER BY x"), &["a", ""]),
        ("existence", format!("SELECT EXISTS (SELECT 1 FROM {values} WHERE t.k = u.x) FROM (VALUES (1), (3)) u(x) ORDER BY x"), &["true", "false"]),
        ("an escape", "SELECT 'a_b' LIKE 'a/_b' ESCAPE '/', 'axb' LIKE 'a/_b' ESCAPE '/'".into(), &["true|false"]),
        ("sleep", "SELECT pg_sleep(0.01)".into(), &[""]),
        ("locks", "SELECT pg_try_advisory_lock(1), pg_advisory_unlock(1), pg_advisory_unlock(1)".into(), &["true|true|false"]),
        ("a waiting lock", "SELECT pg_advisory_lock(1, 2)".into(), &[""]),
        ("sizes", "SELECT pg_size_pretty(pg_total_relation_size('users'))".into(), &["8192 bytes"]),
    ];
    check(&client, cases).await
}

#[test]
fn a_session_gets_its_functions_quickly() -> Result<()> {
    let context: Arc<dyn FunctionContext> =
        Arc::new(TestContext { catalog: Arc::new(test_catalog()?), locks: AdvisoryLocks::default() });
    let start = std::time::Instant::now();
    let count = functions::all(context).len();
    println!("{count} functions in {:?}", start.elapsed());
    assert!(count > 100);
    Ok(())
}
