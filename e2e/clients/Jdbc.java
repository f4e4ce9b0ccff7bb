import java.io.*;
import java.sql.*;
import java.util.*;
import org.postgresql.*;
import org.postgresql.copy.*;
import org.postgresql.largeobject.*;

/** The JDBC driver: server prepared statements beyond its threshold, batches, fetch size, COPY, cancel, large objects. */
class Jdbc {
    interface Case { Object run() throws Exception; }

    static String host, port, user, password, database, prefix, t;
    static Connection shared;

    static Connection connect(String... more) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", user);
        p.setProperty("password", password);
        p.setProperty("sslmode", "disable");
        for (int i = 0; i < more.length; i += 2) p.setProperty(more[i], more[i + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + host + ":" + port + "/" + database, p);
    }

    static Object one(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(sql)) {
            r.next();
            return r.getObject(1);
        }
    }

    static int run(Connection c, String sql) throws SQLException {
        try (Statement s = c.createStatement()) {
            return s.executeUpdate(sql);
        }
    }

    static String state(Case body) {
        try {
            return "no error: " + body.run();
        } catch (SQLException e) {
            return e.getSQLState();
        } catch (Exception e) {
            return e.toString();
        }
    }

    static void check(String name, Case body) {
        try {
            System.out.println("ok " + name + ": " + body.run());
        } catch (Exception e) {
            String code = e instanceof SQLException s ? s.getSQLState() : "";
            System.out.println("FAIL " + name + ": " + e.getClass().getSimpleName() + " " + code + " " + String.valueOf(e.getMessage()).split("\n")[0]);
        }
    }

    public static void main(String[] args) throws Exception {
        host = args[0]; port = args[1]; user = args[2]; password = args[3]; database = args[4]; prefix = args[5];
        t = prefix + "_jdbc";
        shared = connect();
        statements();
        transactions();
        streams();
        connections();
        shared.close();
    }

    static void statements() {
        check("create", () -> {
            run(shared, "drop table if exists " + t);
            return run(shared, "create table " + t + " (id int primary key, v text, n numeric, b bytea, at timestamptz)");
        });
        check("simple mode", () -> {
            try (Connection c = connect("preferQueryMode", "simple"); PreparedStatement s = c.prepareStatement("select ?::int + 1, ?::text")) {
                s.setInt(1, 41);
                s.setString(2, "it's");
                try (ResultSet r = s.executeQuery()) { r.next(); return r.getInt(1) + r.getString(2); }
            }
        });
        check("prepared beyond the threshold, binary", () -> {
            long total = 0;
            try (PreparedStatement s = shared.prepareStatement("select ?::int8 * 2, null::int, 1.5::float8")) {
                for (int i = 0; i < 30; i++) {
                    s.setLong(1, i);
                    try (ResultSet r = s.executeQuery()) { r.next(); total += r.getLong(1); }
                }
            }
            return total;
        });
        check("batch", () -> {
            try (PreparedStatement s = shared.prepareStatement("insert into " + t + " (id, v) values (?, ?)")) {
                for (int i = 0; i < 2000; i++) { s.setInt(1, i); s.setString(2, "batch"); s.addBatch(); }
                return Arrays.stream(s.executeBatch()).sum();
            }
        });
        check("batch rewritten", () -> {
            try (Connection c = connect("reWriteBatchedInserts", "true"); PreparedStatement s = c.prepareStatement("insert into " + t + " (id, v) values (?, ?)")) {
                for (int i = 3000; i < 4000; i++) { s.setInt(1, i); s.setString(2, "rewritten"); s.addBatch(); }
                s.executeBatch();
            }
            return one(shared, "/* walgate: consistency=strong */ select count(*) from " + t + " where v = 'rewritten'"); // another session wrote it
        });
        check("batch with an error", () -> {
            try (PreparedStatement s = shared.prepareStatement("insert into " + t + " (id, v) values (?, 'twice')")) {
                for (int id : new int[] {5000, 5001, 1, 5002}) { s.setInt(1, id); s.addBatch(); }
                try { s.executeBatch(); return "no error"; } catch (BatchUpdateException e) {
                    return e.getSQLState() + " " + one(shared, "select count(*) from " + t + " where v = 'twice'");
                }
            }
        });
        check("generated keys", () -> {
            try (PreparedStatement s = shared.prepareStatement("insert into " + t + " (id, v) values (6000, 'key')", Statement.RETURN_GENERATED_KEYS)) {
                s.executeUpdate();
                try (ResultSet r = s.getGeneratedKeys()) { r.next(); return r.getInt("id"); }
            }
        });
        check("several statements", () -> {
            try (Statement s = shared.createStatement()) {
                boolean rows = s.execute("select 1; select 2; update " + t + " set v = v where id = 1");
                return rows + " " + s.getMoreResults() + " " + s.getMoreResults() + " " + s.getUpdateCount();
            }
        });
        check("errors", () -> state(() -> one(shared, "select 1/0")) + state(() -> one(shared, "selec")) + state(() -> one(shared, "select * from nothing_there")) + one(shared, "select 1"));
        check("metadata", () -> {
            List<String> columns = new ArrayList<>();
            try (ResultSet r = shared.getMetaData().getColumns(null, null, t, null)) { while (r.next()) columns.add(r.getString("COLUMN_NAME")); }
            return columns;
        });
        check("schema changes", () -> {
            run(shared, "drop table if exists " + t + "_changing");
            run(shared, "create table " + t + "_changing (a int)");
            run(shared, "insert into " + t + "_changing values (1)");
            int columns = 0;
            try (PreparedStatement s = shared.prepareStatement("select * from " + t + "_changing")) {
                for (int i = 0; i < 10; i++) s.executeQuery().close();
                run(shared, "alter table " + t + "_changing add b int");
                for (int i = 0; i < 10; i++) try (ResultSet r = s.executeQuery()) { columns += r.getMetaData().getColumnCount(); }
            }
            return columns;
        });
    }

    static void transactions() {
        check("fetch size", () -> {
            shared.setAutoCommit(false);
            int total = 0;
            try (Statement s = shared.createStatement()) {
                s.setFetchSize(50);
                try (ResultSet r = s.executeQuery("select generate_series(1, 1000)")) { while (r.next()) total++; }
            }
            shared.commit();
            shared.setAutoCommit(true);
            return total;
        });
        check("savepoints", () -> {
            shared.setAutoCommit(false);
            run(shared, "insert into " + t + " (id, v) values (7000, 'outer')");
            Savepoint point = shared.setSavepoint();
            String code = state(() -> one(shared, "select 1/0"));
            shared.rollback(point);
            shared.commit();
            shared.setAutoCommit(true);
            return code + one(shared, "select v from " + t + " where id = 7000");
        });
        check("autosave", () -> {
            try (Connection c = connect("autosave", "always")) {
                c.setAutoCommit(false);
                String code = state(() -> one(c, "select 1/0"));
                Object after = one(c, "select 5");
                c.commit();
                return code + after;
            }
        });
        check("read only", () -> {
            try (Connection c = connect()) {
                c.setReadOnly(true);
                c.setAutoCommit(false);
                Object count = one(c, "select count(*) from " + t + " where v = 'batch'");
                String code = state(() -> run(c, "delete from " + t));
                c.rollback();
                return count + code;
            }
        });
        check("isolation", () -> {
            try (Connection c = connect()) {
                c.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
                c.setAutoCommit(false);
                return one(c, "show transaction_isolation");
            }
        });
    }

    static void streams() {
        check("copy both ways", () -> {
            CopyManager copy = shared.unwrap(PGConnection.class).getCopyAPI();
            StringBuilder rows = new StringBuilder();
            for (int i = 10000; i < 15000; i++) rows.append(i).append("\tcopied\n");
            long in = copy.copyIn("copy " + t + " (id, v) from stdin", new StringReader(rows.toString()));
            StringWriter out = new StringWriter();
            long back = copy.copyOut("copy (select id from " + t + " where v = 'copied') to stdout", out);
            return in + " " + back + " " + out.toString().length();
        });
        check("large objects", () -> {
            shared.setAutoCommit(false);
            LargeObjectManager manager = shared.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = manager.createLO();
            try (LargeObject o = manager.open(oid)) { o.write(new byte[100000]); }
            int size;
            try (LargeObject o = manager.open(oid)) { size = o.size(); }
            manager.delete(oid);
            shared.commit();
            shared.setAutoCommit(true);
            return size;
        });
        check("big values", () -> {
            byte[] big = new byte[16 << 20];
            Arrays.fill(big, (byte) 7);
            try (PreparedStatement s = shared.prepareStatement("select ?::bytea")) {
                s.setBytes(1, big);
                try (ResultSet r = s.executeQuery()) { r.next(); return Arrays.equals(big, r.getBytes(1)); }
            }
        });
        check("listen and notify", () -> {
            try (Connection c = connect()) {
                run(c, "listen clientsjdbc");
                run(shared, "notify clientsjdbc, 'hello'");
                PGNotification[] seen = c.unwrap(PGConnection.class).getNotifications(20000);
                return seen == null ? "none" : seen[0].getName() + " " + seen[0].getParameter();
            }
        });
        check("cancel", () -> {
            try (Statement s = shared.createStatement()) {
                Timer timer = new Timer(true);
                timer.schedule(new TimerTask() { public void run() { try { s.cancel(); } catch (SQLException e) { e.printStackTrace(); } } }, 500);
                return state(() -> s.executeQuery("select pg_sleep(30)")) + one(shared, "select 1");
            }
        });
        check("query timeout", () -> {
            try (Statement s = shared.createStatement()) {
                s.setQueryTimeout(1);
                return state(() -> s.executeQuery("select pg_sleep(30)"));
            }
        });
    }

    static void connections() {
        check("settings", () -> {
            try (Connection c = connect("ApplicationName", "a client", "options", "-c statement_timeout=12345", "currentSchema", "public")) {
                run(c, "set timezone = 'Asia/Tokyo'");
                c.setSchema("pg_catalog");
                return one(c, "show statement_timeout") + " " + one(c, "show timezone") + " " + one(c, "show application_name") + " " + c.getSchema();
            }
        });
        check("target server type", () -> {
            List<Object> seen = new ArrayList<>();
            for (String type : new String[] {"any", "primary"}) try (Connection c = connect("targetServerType", type)) { seen.add(one(c, "select 1")); }
            return seen;
        });
        check("valid and reconnect", () -> {
            int total = 0;
            for (int i = 0; i < 20; i++) try (Connection c = connect()) { if (c.isValid(5)) total++; }
            return total;
        });
        check("wrong password", () -> state(() -> {
            try (Connection c = DriverManager.getConnection("jdbc:postgresql://" + host + ":" + port + "/" + database + "?sslmode=disable", user, "wrong")) { return c; }
        }));
    }
}
