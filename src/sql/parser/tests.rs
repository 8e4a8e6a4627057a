//! Statements as clients send them, and how reading fails.

use super::*;
use crate::sql::{CopyDirection, CopyFormat, CopySubject, DropKind, FetchCount, SubscribeSubject};
use crate::types::PgType;

fn one(text: &str) -> StatementKind {
    let mut statements = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(statements.len(), 1, "{text}");
    statements.remove(0).kind
}

fn fails(text: &str) -> (String, String, Option<usize>) {
    let error = parse(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
    (error.code.0.to_string(), error.message, error.position)
}

fn syntax(text: &str) -> (String, Option<usize>) {
    let (code, message, position) = fails(text);
    assert_eq!(code, "42601", "{text}: {message}");
    (message, position)
}

#[test]
fn statements_keep_their_own_text() {
    let statements = parse(" SELECT 1 ; ; -- nothing\n SELECT ';' /* ; */;").expect("two statements");
    let texts: Vec<_> = statements.iter().map(|s| (s.text.as_str(), s.offset)).collect();
    assert_eq!(texts, [("SELECT 1", 1), ("SELECT ';'", 26)]);
    assert!(matches!(one(" ;; -- nothing"), StatementKind::Empty));
}

#[test]
fn syntax_errors_speak_postgres() {
    assert_eq!(syntax("SELEC 1"), ("syntax error at or near \"SELEC\"".into(), Some(1)));
    assert_eq!(syntax("SELECT 1 +"), ("syntax error at end of input".into(), Some(11)));
    assert_eq!(syntax("SELECT é FROM t WHERE )"), ("syntax error at or near \")\"".into(), Some(23)));
    assert_eq!(syntax("SELECT 1;\nSELECT a b c FROM x"), ("syntax error at or near \"c\"".into(), Some(22)));
    assert_eq!(syntax("SELECT 'abc"), ("unterminated quoted string at or near \"'abc\"".into(), Some(8)));
    assert_eq!(syntax("CREATE TABLE t (a int,)").0, "syntax error at or near \")\"");
    assert_eq!(syntax("DROP TABLE a b").0, "syntax error at or near \"b\"");
    assert_eq!(syntax("SELECT 1 EMIT ON WINDOW CLOSE").0, "syntax error at or near \"EMIT\"");
}

#[test]
fn deep_and_long_statements_are_refused() {
    let deep = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(fails(&deep).0, "54001");
    let long = format!("SELECT 1{}", " + 1".repeat(100_000));
    assert_eq!(fails(&long).0, "54001");
    let wide = format!("SELECT 1 IN ({})", vec!["1"; 100_000].join(","));
    assert!(parse(&wide).is_ok());
}

#[test]
fn a_source_with_everything() {
    let StatementKind::CreateSource(source) =
        one("CREATE SOURCE IF NOT EXISTS s.Flights (carrier VARCHAR, t TIMESTAMPTZ, \
         p struct<a int, b struct<c text[]>>, WATERMARK FOR t AS t - INTERVAL '1' HOUR) \
         WITH (connector = 'files', nexmark.event.num = 10, follow = false) \
         FORMAT plain ENCODE csv (header = true, null_string = 'NA')")
    else {
        panic!("no source")
    };
    assert_eq!((source.name.schema.as_deref(), source.name.name.as_str()), (Some("s"), "flights"));
    let watermark = source.watermark.expect("a watermark");
    assert_eq!((watermark.column, watermark.delay_us), (1, Some(3_600_000_000)));
    assert_eq!(watermark.expression, "t - INTERVAL '1' HOUR");
    assert_eq!(source.options["nexmark.event.num"], "10");
    assert_eq!((source.format.as_str(), source.encode.as_str()), ("PLAIN", "CSV"));
    assert_eq!(source.encode_options["null_string"], "NA");
    let PgType::Record(fields) = &source.columns[2].pg_type else { panic!("no struct") };
    assert_eq!(fields[1].1, PgType::Record(vec![("c".into(), PgType::Array(Box::new(PgType::Text)))]));
}

#[test]
fn a_source_that_is_wrong() {
    let source =
        |columns: &str, rest: &str| fails(&format!("CREATE SOURCE s ({columns}) WITH (connector = 'x') {rest}"));
    assert_eq!(source("a int, WATERMARK FOR b AS b", "").0, "42703");
    assert_eq!(source("a int, WATERMARK FOR a AS a", "").0, "42804");
    assert_eq!(source("a timestamp, WATERMARK FOR a AS a - INTERVAL '1 month'", "").0, "0A000");
    assert_eq!(source("a int, a text", "").0, "42701");
    assert_eq!(source("a int", "FORMAT DEBEZIUM ENCODE JSON").1, "FORMAT DEBEZIUM is not supported");
    assert_eq!(source("a int primary key", "").0, "0A000");
    assert_eq!(fails("CREATE SOURCE s WITH (a = 1, a = 2)").0, "42601");
}

#[test]
fn a_table_with_every_type() {
    let StatementKind::CreateTable(table) = one(
        "CREATE TABLE t (a bool DEFAULT true, b int2 NOT NULL, c integer PRIMARY KEY, \
         d bigint NULL, e real, f double precision, g numeric(10, 2), h text DEFAULT 'x' || 'y' NOT NULL, i varchar(5), \
         j char(2), k bytea, l date, m time, n timestamp, o timestamp with time zone, p interval, q uuid, r json, s jsonb, \
         t int[], u numeric)",
    ) else {
        panic!("no table")
    };
    let names: Vec<String> = table.columns.iter().map(|c| c.pg_type.name()).collect();
    assert_eq!(
        names.join(", "),
        "boolean, smallint, integer, bigint, real, double precision, numeric(10,2), text, character varying(5), \
         character(2), bytea, date, time without time zone, timestamp without time zone, timestamp with time zone, \
         interval, uuid, json, jsonb, integer[], numeric"
    );
    assert_eq!(table.primary_key, [2]);
    assert!(!table.columns[2].nullable && !table.columns[7].nullable && table.columns[3].nullable);
    assert_eq!(table.columns[7].default.as_deref(), Some("'x' || 'y'"));
    let StatementKind::CreateTable(table) = one("create table t (b int, a int, constraint k primary key (b, a))")
    else {
        panic!("no table")
    };
    assert_eq!(table.primary_key, [0, 1]);
}

#[test]
fn table_constraints_are_refused_by_name() {
    for (column, name) in [
        ("a int UNIQUE", "UNIQUE"),
        ("a int CHECK (a > 0)", "CHECK"),
        ("a int REFERENCES b", "REFERENCES"),
        ("a int, FOREIGN KEY (a) REFERENCES b", "FOREIGN KEY"),
        ("a int GENERATED ALWAYS AS IDENTITY", "GENERATED"),
        ("a serial", "serial"),
    ] {
        let (code, message, _) = fails(&format!("CREATE TABLE t ({column})"));
        assert_eq!(code, "0A000", "{message}");
        assert!(message.contains(name), "{message}");
    }
    assert_eq!(fails("CREATE TABLE t (a int, PRIMARY KEY (b))").0, "42703");
    assert_eq!(fails("CREATE TABLE t (a nosuch)"), ("42704".into(), "type \"nosuch\" does not exist".into(), None));
    assert_eq!(fails("CREATE TEMP TABLE t (a int)").0, "0A000");
}

#[test]
fn views_and_sinks() {
    let StatementKind::CreateMaterializedView(view) = one(
        "CREATE MATERIALIZED VIEW IF NOT EXISTS v (x) WITH (retention = '1 day') AS SELECT a FROM t EMIT ON WINDOW CLOSE;",
    ) else {
        panic!("no view")
    };
    assert!(view.emit_on_window_close && view.if_not_exists);
    assert_eq!((view.query_text.as_str(), view.columns.as_slice()), ("SELECT a FROM t", &["x".to_string()][..]));
    assert_eq!(view.options["retention"], "1 day");
    let StatementKind::CreateSink { query_text, options, .. } =
        one("CREATE SINK k FROM s.t WITH (connector = blackhole)")
    else {
        panic!("no sink")
    };
    assert_eq!((query_text.as_str(), options["connector"].as_str()), ("SELECT * FROM s.t", "blackhole"));
    assert!(matches!(
        one("CREATE SINK k AS SELECT 1 FROM t WITH (connector = 'blackhole')"),
        StatementKind::CreateSink { .. }
    ));
    assert!(matches!(one("CREATE OR REPLACE VIEW v AS SELECT 1"), StatementKind::CreateView { or_replace: true, .. }));
    assert!(matches!(
        one("EXPLAIN CREATE MATERIALIZED VIEW v AS SELECT 1 EMIT ON WINDOW CLOSE"),
        StatementKind::Explain { .. }
    ));
}

#[test]
fn indexes_and_new_names() {
    let StatementKind::CreateIndex(index) =
        one("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS i ON s.t (a ASC, \"B\")")
    else {
        panic!("not an index")
    };
    assert!(index.unique && index.if_not_exists && index.relation.schema.as_deref() == Some("s"));
    assert_eq!((index.name.as_deref(), index.columns), (Some("i"), vec!["a".to_string(), "B".to_string()]));
    let StatementKind::Alter(alter) = one("ALTER MATERIALIZED VIEW a SWAP WITH s.b") else { panic!("not an ALTER") };
    assert_eq!(alter.kind, DropKind::MaterializedView);
    assert!(matches!(alter.action, crate::sql::AlterAction::Swap { with } if with.name == "b"));
    let StatementKind::Alter(alter) = one("ALTER TABLE IF EXISTS ONLY t RENAME x TO y") else { panic!("not an ALTER") };
    assert!(alter.if_exists && matches!(alter.action, crate::sql::AlterAction::RenameColumn { .. }));
}

#[test]
fn drops() {
    let StatementKind::Drop { kind, names, if_exists, cascade } =
        one("DROP MATERIALIZED VIEW IF EXISTS a, \"B\" CASCADE")
    else {
        panic!("no drop")
    };
    assert!(kind == DropKind::MaterializedView && if_exists && cascade);
    assert_eq!(names[1].name, "B");
    assert_eq!(fails("DROP TRIGGER i").1, "DROP TRIGGER is not supported");
}

#[test]
fn settings() {
    let set = |text: &str| match one(text) {
        StatementKind::Set { name, value, local } => (name, value.unwrap_or("DEFAULT".into()), local),
        other => panic!("{other:?}"),
    };
    let is = |text: &str, name: &str, value: &str| assert_eq!(set(text), (name.into(), value.into(), false), "{text}");
    is("SET search_path TO \"$user\", public", "search_path", "\"$user\", public");
    is("SET TIME ZONE 'Europe/Berlin'", "timezone", "Europe/Berlin");
    is("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "default_transaction_read_only", "on");
    is("SET NAMES 'utf8'", "client_encoding", "utf8");
    is("SET extra_float_digits = 3", "extra_float_digits", "3");
    is("SET datestyle = DEFAULT", "datestyle", "DEFAULT");
    is("SET my.option = -1", "my.option", "-1");
    assert_eq!(set("SET LOCAL x = on"), ("x".into(), "on".into(), true));
    assert_eq!(
        set("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
        ("transaction_isolation".into(), "repeatable read".into(), true)
    );
    let show = |text: &str| match one(text) {
        StatementKind::Show(show) => format!("{show:?}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(show("SHOW TRANSACTION ISOLATION LEVEL"), "Setting(\"transaction_isolation\")");
    assert_eq!(show("show time zone"), "Setting(\"timezone\")");
    assert_eq!(show("SHOW MATERIALIZED VIEWS"), "MaterializedViews");
    assert!(show("DESCRIBE s.t").starts_with("Columns"));
    assert!(show("SHOW CREATE MATERIALIZED VIEW v").starts_with("Create"));
}

#[test]
fn transactions_cursors_and_prepared_statements() {
    assert!(matches!(
        one("START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY"),
        StatementKind::Begin { read_only: true, .. }
    ));
    assert!(matches!(one("BEGIN READ WRITE"), StatementKind::Begin { read_only: false, isolation: None }));
    assert!(matches!(one("END"), StatementKind::Commit));
    assert!(matches!(one("ROLLBACK TO SAVEPOINT a"), StatementKind::RollbackToSavepoint { .. }));
    let StatementKind::Declare { hold, query_text, .. } =
        one("declare \"SQL_CUR1\" cursor with hold for select * from t")
    else {
        panic!("no cursor")
    };
    assert_eq!((hold, query_text.as_str()), (true, "select * from t"));
    assert!(matches!(
        one("fetch 2048 in c"),
        StatementKind::Fetch { count: FetchCount::Rows(2048), move_only: false, .. }
    ));
    assert!(matches!(
        one("MOVE FORWARD ALL FROM c"),
        StatementKind::Fetch { count: FetchCount::All, move_only: true, .. }
    ));
    assert!(matches!(one("FETCH c"), StatementKind::Fetch { count: FetchCount::Rows(1), .. }));
    assert_eq!(fails("FETCH BACKWARD 1 FROM c").0, "55000");
    let StatementKind::Prepare { types, statement, .. } = one("PREPARE p (int, text[]) AS SELECT $1") else {
        panic!("no prepare")
    };
    assert_eq!((types.len(), statement.text.as_str()), (2, "SELECT $1"));
    assert!(matches!(one("EXECUTE p (1, 'a')"), StatementKind::Execute { arguments, .. } if arguments.len() == 2));
    assert!(matches!(one("DEALLOCATE PREPARE ALL"), StatementKind::Deallocate { name: None }));
    assert!(matches!(one("UNLISTEN *"), StatementKind::Listen { tag: "UNLISTEN" }));
    assert!(matches!(one("NOTIFY c, 'x'"), StatementKind::Listen { tag: "NOTIFY" }));
}

#[test]
fn copies() {
    let copy = |text: &str| match one(text) {
        StatementKind::Copy(copy) => copy,
        other => panic!("{other:?}"),
    };
    let new = copy("COPY t (a, b) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';', NULL 'NA')");
    assert_eq!(new.direction, CopyDirection::FromStdin);
    assert!(matches!(new.subject, CopySubject::Table { columns, .. } if columns.len() == 2));
    assert!(new.options.header && new.options.format == CopyFormat::Csv);
    assert_eq!((new.options.delimiter, new.options.null.as_str()), (b';', "NA"));
    let old = copy("copy (select 1) to stdout csv header quote as '|'");
    assert!(old.options.header && old.options.quote == b'|' && old.options.escape == b'|');
    let plain = copy("COPY t TO STDOUT");
    assert_eq!((plain.options.delimiter, plain.options.null.as_str()), (b'\t', "\\N"));
    assert_eq!(fails("COPY t FROM '/etc/passwd'").0, "0A000");
    assert_eq!(fails("COPY t FROM STDIN (FORMAT xml)").0, "22023");
    assert_eq!(fails("COPY t FROM STDIN (FREEZE)").0, "0A000");
}

#[test]
fn what_is_not_taken_is_named() {
    for (text, message) in [
        ("ALTER TABLE t ADD COLUMN a int", "ALTER TABLE … ADD is not supported"),
        ("CREATE INDEX i ON t (lower(a))", "an index over an expression is not supported"),
        ("ALTER SYSTEM SET a = 1", "ALTER SYSTEM is not supported"),
        ("VACUUM", "VACUUM is not supported"),
        ("GRANT SELECT ON t TO x", "GRANT is not supported"),
        ("REFRESH MATERIALIZED VIEW v WITH NO DATA", "REFRESH MATERIALIZED VIEW … WITH NO DATA is not supported"),
        ("SELECT 1 INTO x", "SELECT INTO is not supported"),
        ("EXPLAIN (FORMAT JSON) SELECT 1", "EXPLAIN (FORMAT JSON) is not supported"),
        ("DECLARE c SCROLL CURSOR FOR SELECT 1", "a SCROLL cursor is not supported"),
    ] {
        let (code, said, _) = fails(text);
        assert_eq!((code.as_str(), said.as_str()), ("0A000", message), "{text}");
    }
}

#[test]
fn queries_in_every_spelling_are_queries() {
    for text in [
        "SELECT 1",
        "VALUES (1), (2)",
        "TABLE t",
        "(SELECT 1) UNION ALL SELECT 2",
        "WITH a AS (SELECT 1) SELECT * FROM a FETCH FIRST 2 ROWS ONLY",
        "SELECT * FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
        "SELECT * FROM TABLE(HOP(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '1' MINUTE, SIZE => INTERVAL '5' MINUTE))",
        "SELECT * FROM TUMBLE(bid, ts, INTERVAL '1 minute') AS w",
        "SELECT * FROM SESSION(bid PARTITION BY a, b, ts, INTERVAL '1 minute') AS w",
        "SELECT * FROM TABLE(SESSION(DATA => TABLE bid PARTITION BY (a, b), TIMECOL => DESCRIPTOR(ts), GAP => INTERVAL '5' MINUTES))",
        "SELECT a::uuid, b->>'x', $1 FROM t WHERE c ~ 'x'",
    ] {
        assert!(matches!(one(text), StatementKind::Query(_)), "{text}");
    }
    for text in
        ["INSERT INTO t DEFAULT VALUES", "UPDATE t SET a = 1", "DELETE FROM t USING u WHERE t.a = u.a RETURNING *"]
    {
        assert!(matches!(one(text), StatementKind::Dml(_)), "{text}");
    }
}

#[test]
fn an_instant_becomes_a_part_of_the_name() {
    let StatementKind::Query(query) =
        one("SELECT t.a FROM s.T FOR SYSTEM_TIME AS OF now() - INTERVAL '1 day' WHERE a = 1")
    else {
        panic!("a query");
    };
    let text = query.ast.to_string();
    assert!(text.contains("FOR SYSTEM_TIME AS OF now() - INTERVAL '1 day'\" AS \"t\" WHERE"), "{text}");
    // An alias that is there is kept; what follows the expression is left.
    let StatementKind::Query(query) = one("SELECT 1 FROM t FOR SYSTEM_TIME AS OF 7 x EXCEPT SELECT 1 FROM t") else {
        panic!("a query");
    };
    let text = query.ast.to_string();
    assert!(text.contains("AS OF 7\" x EXCEPT"), "{text}");
    assert!(parse("SELECT 1 FROM t FOR SYSTEM_TIME AS OF").is_err());
}

#[test]
fn a_subscription_with_all_its_clauses() {
    let StatementKind::Subscribe(all) = one(
        "SUBSCRIBE TO (SELECT a FROM t) WITH (PROGRESS, SNAPSHOT = false) AS OF 12 UP TO now() + INTERVAL '1 hour'",
    ) else {
        panic!("a subscription");
    };
    assert!(all.progress && !all.snapshot && matches!(all.subject, SubscribeSubject::Query { .. }));
    assert_eq!((all.as_of.as_deref(), all.up_to.as_deref()), (Some("12"), Some("now() + INTERVAL '1 hour'")));
    let StatementKind::Subscribe(plain) = one("SUBSCRIBE v") else { panic!("a subscription") };
    assert!(plain.snapshot && !plain.progress && plain.as_of.is_none() && plain.up_to.is_none());
    assert!(matches!(
        one("FETCH ALL c WITH (timeout = '1s')"),
        StatementKind::Fetch { count: FetchCount::All, timeout: Some(timeout), .. } if timeout == "1s"
    ));
    assert!(parse("SUBSCRIBE v WITH (SNAPSHOT = maybe)").is_err());
    assert!(parse("SUBSCRIBE v AS OF").is_err());
}
