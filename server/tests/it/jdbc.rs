//! What JDBC's `DatabaseMetaData` and the trees of DBeaver and DataGrip ask of `pg_catalog`, in the forms that their drivers use, through the
//! extended protocol. A driver that gets an error here shows an empty tree.

use tokio_postgres::{NoTls, Row};

use crate::http::{Running, config_with};

/// A name, what is asked, and what a first row's columns must be; none: no row is right.
type Question = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const QUESTIONS: &[Question] = &[
    (
        "catalogs",
        "SELECT datname AS \"TABLE_CAT\" FROM pg_catalog.pg_database WHERE datallowconn = true AND datname = 'millstream' ORDER BY datname",
        &[("TABLE_CAT", "millstream")],
    ),
    (
        "schemas",
        "SELECT nspname AS TABLE_SCHEM, current_database() AS TABLE_CATALOG FROM pg_catalog.pg_namespace \
       WHERE nspname <> 'pg_toast' AND (nspname !~ '^pg_temp_' OR nspname = (pg_catalog.current_schemas(true))[1]) AND nspname = 'public' ORDER BY TABLE_SCHEM",
        &[("table_schem", "public"), ("table_catalog", "millstream")],
    ),
    (
        "tables",
        "SELECT current_database() AS \"TABLE_CAT\", n.nspname AS \"TABLE_SCHEM\", c.relname AS \"TABLE_NAME\", \
       CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN 'SYSTEM TABLE' \
         WHEN false THEN CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END ELSE NULL END AS \"TABLE_TYPE\", \
       d.description AS \"REMARKS\" \
       FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c \
       LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass) \
       WHERE c.relnamespace = n.oid AND n.nspname LIKE 'public' AND c.relname LIKE 'raw\\_ide\\_events' \
       AND (false OR (c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')) ORDER BY \"TABLE_TYPE\", \"TABLE_SCHEM\", \"TABLE_NAME\"",
        &[("TABLE_CAT", "millstream"), ("TABLE_NAME", "raw_ide_events"), ("TABLE_TYPE", "TABLE")],
    ),
    (
        "views",
        "SELECT c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON c.relnamespace = n.oid \
       WHERE n.nspname = 'public' AND c.relkind = 'v' AND c.relname = 'identities'",
        &[("relname", "identities")],
    ),
    (
        "columns",
        "SELECT * FROM (SELECT n.nspname, c.relname, a.attname, a.atttypid, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull, \
       a.atttypmod, a.attlen, t.typtypmod, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, nullif(a.attidentity, '') AS attidentity, \
       nullif(a.attgenerated, '') AS attgenerated, pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc, dsc.description, t.typbasetype, t.typtype \
       FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid) JOIN pg_catalog.pg_attribute a ON (a.attrelid = c.oid) \
       JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid = def.adrelid AND a.attnum = def.adnum) \
       LEFT JOIN pg_catalog.pg_description dsc ON (c.oid = dsc.objoid AND a.attnum = dsc.objsubid) \
       WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND n.nspname LIKE 'public' AND c.relname LIKE 'raw_ide_events') c \
       WHERE true AND attname LIKE '%' ORDER BY nspname, c.relname, attnum",
        &[("attname", "event_id")],
    ),
    (
        "columns of a view",
        "SELECT a.attname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
       WHERE c.relname = 'identities' AND a.attnum > 0 ORDER BY a.attnum",
        &[("attname", "anonymous_id")],
    ),
    (
        "primary keys",
        "SELECT r.TABLE_CAT, r.TABLE_NAME, r.COLUMN_NAME, r.KEY_SEQ FROM (SELECT NULL AS TABLE_CAT, ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, \
       (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM \
       FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) \
       WHERE ct.relname = 'raw_ide_events' AND i.indisprimary) r WHERE r.A_ATTNUM = (r.KEYS).x ORDER BY r.table_name, r.key_seq",
        &[],
    ),
    (
        "imported keys",
        "SELECT pkc.relname AS PKTABLE_NAME, pos.n AS KEY_SEQ, con.conname AS FK_NAME FROM pg_catalog.pg_class pkc, pg_catalog.pg_constraint con, \
       pg_catalog.generate_series(1, 32) pos(n) WHERE pkc.oid = con.confrelid AND con.contype = 'f'",
        &[],
    ),
    (
        "most columns of an index",
        "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'",
        &[("setting", "32")],
    ),
    (
        "types",
        "SELECT t.typname, t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON (t.typnamespace = n.oid) WHERE n.nspname <> 'pg_toast' \
       AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid)) AND t.typname = 'text'",
        &[("typname", "text")],
    ),
    (
        "arrays among the types",
        "SELECT typinput = 'pg_catalog.array_in'::regproc AS is_array, typtype, typname, pg_type.oid FROM pg_catalog.pg_type \
       LEFT JOIN (SELECT ns.oid AS nspoid, ns.nspname, r.r FROM pg_namespace AS ns JOIN (SELECT s.r, (current_schemas(false))[s.r] AS nspname \
         FROM generate_series(1, array_upper(current_schemas(false), 1)) AS s(r)) AS r USING (nspname)) AS sp ON sp.nspoid = typnamespace \
       WHERE typname = '_text'",
        &[("typname", "_text")],
    ),
    (
        "procedures",
        "SELECT NULL AS PROCEDURE_CAT, n.nspname AS PROCEDURE_SCHEM, p.proname AS PROCEDURE_NAME, NULL, NULL, NULL FROM pg_catalog.pg_namespace n, \
       pg_catalog.pg_proc p WHERE p.pronamespace = n.oid AND p.prokind = 'p' AND p.proname = 'nope'",
        &[],
    ),
    (
        "the tree's schemas",
        "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n \
       LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass \
       WHERE nspname = 'public' ORDER BY nspname",
        &[("nspname", "public")],
    ),
    (
        "the tree's tables",
        "SELECT c.oid, c.relname, c.relkind, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr, \
       pg_catalog.pg_get_partkeydef(c.oid) AS partition_key FROM pg_catalog.pg_class c \
       LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass \
       WHERE c.relname = 'raw_ide_events' AND c.relkind NOT IN ('i', 'I', 'c')",
        &[("relname", "raw_ide_events")],
    ),
    (
        "the tree's roles",
        "SELECT a.oid, a.* FROM pg_catalog.pg_roles a ORDER BY a.rolname LIMIT 1",
        &[("rolname", "postgres")],
    ),
    (
        "privileges",
        "SELECT n.nspname, c.relname, r.rolname, c.relacl FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c, pg_catalog.pg_roles r \
       WHERE c.relnamespace = n.oid AND c.relowner = r.oid AND c.relkind = 'r' AND c.relname = 'raw_ide_events'",
        &[("relname", "raw_ide_events"), ("relacl", "")],
    ),
    (
        "where a column comes from",
        "SELECT c.oid, a.attnum, a.attname, c.relname, n.nspname, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS strict, \
       a.attidentity != '' OR pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%' AS counts FROM pg_catalog.pg_class c \
       JOIN pg_catalog.pg_namespace n ON (c.relnamespace = n.oid) JOIN pg_catalog.pg_attribute a ON (c.oid = a.attrelid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) \
       LEFT JOIN pg_catalog.pg_attrdef d ON (d.adrelid = a.attrelid AND d.adnum = a.attnum) \
       JOIN (SELECT 1 AS oid, 1 AS attnum UNION ALL SELECT 2, 2) vals ON (c.oid = vals.oid AND a.attnum = vals.attnum)",
        &[],
    ),
];

fn text(row: &Row, column: &str) -> String {
    row.try_get::<_, Option<String>>(column).unwrap_or_else(|e| panic!("{column}: {e}")).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_drivers_ask_of_the_catalogue_has_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let running = Running::start_with(config_with(dir.path(), "[postgres]\nlisten = '127.0.0.1:0'\n")).await;
    for table in ["ide_events", "identity_events"] {
        let event = r#"{"event_id":"1","event_time":"2026-11-23T09:00:00Z","user_id":"ada","anonymous_id":"a"}"#;
        let answer = running.ingest(&format!("/api/v1/ingest/{table}"), event).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    running.server.engine.flush().await.unwrap();
    let port = running.server.postgres_address.unwrap().port();
    let login = format!("host=127.0.0.1 port={port} user=me dbname=millstream password={}", running.analyst);
    let (client, connection) = tokio_postgres::connect(&login, NoTls).await.unwrap();
    tokio::spawn(connection);
    for (what, sql, expected) in QUESTIONS {
        let rows = client.query(*sql, &[]).await.unwrap_or_else(|e| panic!("{what}: {e:?}\n{sql}"));
        if expected.is_empty() {
            assert!(rows.is_empty(), "{what}: {} rows", rows.len());
            continue;
        }
        let row = rows.first().unwrap_or_else(|| panic!("{what}: no row"));
        for (column, value) in *expected {
            assert_eq!(text(row, column), *value, "{what}: {column}");
        }
    }
    running.server.stop().await.unwrap();
}
