import java.math.BigDecimal;
import java.sql.*;
import java.util.*;

/** What a program with the JDBC driver does: metadata, typed parameters, server prepares, batches, fetch size, errors. */
public class Jdbc {
    static void check(boolean holds, String what) {
        if (!holds) throw new AssertionError(what);
    }

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = DriverManager.getConnection(arguments[0], "root", "")) {
            check(connection.getMetaData().getDatabaseMajorVersion() == 15, "version");
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE j (id int PRIMARY KEY, b boolean, l bigint, n numeric(10,2), t text, d date, ts timestamp, f float8)");
                statement.execute("CREATE MATERIALIZED VIEW jm AS SELECT count(*) AS n, sum(l) AS s FROM j");
            }
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO j VALUES (?, ?, ?, ?, ?, ?, ?, ?)")) {
                for (int id = 1; id <= 20; id++) {
                    insert.setInt(1, id);
                    insert.setBoolean(2, id % 2 == 0);
                    insert.setLong(3, 10_000_000_000L * id);
                    insert.setBigDecimal(4, new BigDecimal("1.25"));
                    insert.setString(5, id == 7 ? null : "text " + id);
                    insert.setObject(6, java.time.LocalDate.of(2013, 1, id));
                    insert.setObject(7, java.time.LocalDateTime.of(2013, 1, id, 12, 34, 56));
                    insert.setDouble(8, id / 4.0);
                    insert.addBatch();
                }
                check(Arrays.stream(insert.executeBatch()).sum() == 20, "batch");
            }
            // From the fifth run a server prepare, from then on binary results.
            try (PreparedStatement select = connection.prepareStatement("SELECT * FROM j WHERE id = ?")) {
                for (int id = 1; id <= 12; id++) {
                    select.setInt(1, id);
                    try (ResultSet row = select.executeQuery()) {
                        check(row.next() && row.getInt("id") == id, "id");
                        check(row.getBoolean(2) == (id % 2 == 0), "boolean");
                        check(row.getLong(3) == 10_000_000_000L * id, "bigint");
                        check(row.getBigDecimal(4).equals(new BigDecimal("1.25")), "numeric " + row.getBigDecimal(4));
                        check(Objects.equals(row.getString(5), id == 7 ? null : "text " + id), "text");
                        check(row.getObject(6, java.time.LocalDate.class).getDayOfMonth() == id, "date");
                        check(row.getObject(7, java.time.LocalDateTime.class).getSecond() == 56, "timestamp");
                        check(row.getDouble(8) == id / 4.0, "float8");
                        check(!row.next(), "one row");
                    }
                }
            }
            // A cursor of the protocol: portals with a row limit inside a transaction.
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.setFetchSize(3);
                int count = 0;
                try (ResultSet rows = statement.executeQuery("SELECT id FROM j ORDER BY id")) {
                    while (rows.next()) check(rows.getInt(1) == ++count, "order");
                }
                check(count == 20, "all rows");
                statement.executeUpdate("DELETE FROM j WHERE id > 10");
            }
            connection.rollback();
            connection.setAutoCommit(true);
            try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery("SELECT n, s FROM jm")) {
                check(row.next() && row.getLong(1) == 20 && row.getLong(2) == 2_100_000_000_000L, "the view");
                check(row.getMetaData().getColumnName(1).equals("n"), "column name");
            }
            Set<String> tables = new TreeSet<>();
            try (ResultSet found = connection.getMetaData().getTables(null, "public", "j%", new String[] {"TABLE", "MATERIALIZED VIEW"})) {
                while (found.next()) tables.add(found.getString("TABLE_NAME") + ":" + found.getString("TABLE_TYPE"));
            }
            check(tables.toString().equals("[j:TABLE, jm:MATERIALIZED VIEW]"), "tables: " + tables);
            List<String> columns = new ArrayList<>();
            try (ResultSet found = connection.getMetaData().getColumns(null, "public", "j", null)) {
                while (found.next()) columns.add(found.getString("COLUMN_NAME") + ":" + found.getString("TYPE_NAME"));
            }
            check(columns.equals(List.of("id:int4", "b:bool", "l:int8", "n:numeric", "t:text", "d:date", "ts:timestamp", "f:float8")), "columns: " + columns);
            try (ResultSet found = connection.getMetaData().getPrimaryKeys(null, "public", "j")) {
                check(found.next() && found.getString("COLUMN_NAME").equals("id"), "primary key");
            }
            try (Statement statement = connection.createStatement()) {
                statement.execute("INSERT INTO j (id) VALUES (1)");
                check(false, "a duplicate key was taken");
            } catch (SQLException error) {
                check(error.getSQLState().equals("23505"), error.getSQLState());
            }
        }
        System.out.println("ok");
    }
}
