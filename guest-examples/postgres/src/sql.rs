//! What the server is told. Names and passwords are letters, digits and underscores: nothing in them needs quoting.

/// By default every role may enter every database: the server's own are for the superuser.
pub const CLOSE: &str = "REVOKE ALL ON DATABASE postgres, template1 FROM PUBLIC;\n";

/// Fails where the server does not take what apps write.
pub const WRITES: &str = "DO $$ BEGIN
    IF current_setting('transaction_read_only')::bool THEN RAISE EXCEPTION 'the server takes no writes'; END IF;
END $$;\n";

/// Makes a role and a database of its own that only it may enter. What is there stays, with this password.
///
/// A database cannot be made in a transaction. Interrupted anywhere, the same again finishes it. No app may take all of the
/// server's connections, of which there are 100.
pub fn make(name: &str, password: &str) -> String {
    format!(
        "-- A statement that fails is written to the server's log, this one with its password.
        SET log_min_error_statement = panic;
        SELECT 'CREATE ROLE {name}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec
        ALTER ROLE {name} LOGIN CONNECTION LIMIT 20 PASSWORD '{password}';
        SELECT 'CREATE DATABASE {name} OWNER {name}'
            WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec
        REVOKE ALL ON DATABASE {name} FROM PUBLIC;
        "
    )
}

/// Lets the role in no more, and sends it away where it is. Its database keeps it from being dropped.
pub fn close(name: &str) -> String {
    format!(
        "ALTER ROLE {name} NOLOGIN;
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{name}';
        "
    )
}

pub fn open(name: &str) -> String {
    format!("ALTER ROLE {name} LOGIN;\n")
}

/// Two numbers.
pub fn used(name: &str) -> String {
    format!("SELECT pg_database_size('{name}') / 1048576.0, count(*) FROM pg_stat_activity WHERE datname = '{name}';\n")
}

/// Makes an empty database beside the app's, for what is restored. What a restore that was cut off has left goes.
pub fn stage(name: &str) -> String {
    format!(
        "{}
        CREATE DATABASE {name}_new OWNER {name};
        REVOKE ALL ON DATABASE {name}_new FROM PUBLIC;
        ",
        unstage(name)
    )
}

/// Opens the app's database again, where it was closed, and drops what is beside it.
pub fn unstage(name: &str) -> String {
    format!(
        "SELECT 'ALTER DATABASE {name} ALLOW_CONNECTIONS true'
            WHERE EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec
        DROP DATABASE IF EXISTS {name}_new WITH (FORCE);
        DROP DATABASE IF EXISTS {name}_old WITH (FORCE);
        "
    )
}

/// Puts the staged database in the place of the app's. A database can only be renamed while nobody is connected: whoever is
/// is sent away, and nobody let in. They are sent away by what is selected: as a condition it might be asked of others first.
pub fn swap(name: &str) -> String {
    format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS false;
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}';
        BEGIN;
        ALTER DATABASE {name} RENAME TO {name}_old;
        ALTER DATABASE {name}_new RENAME TO {name};
        COMMIT;
        DROP DATABASE {name}_old WITH (FORCE);
        "
    )
}

/// Ends the role's connections and drops its database and itself.
///
/// A role that another app has granted something in its own database cannot be dropped yet. It stays without a login, and
/// goes with the first database dropped after that one: every time, all that nothing depends on go.
pub fn unmake(name: &str) -> String {
    format!(
        "SELECT 'ALTER ROLE {name} NOLOGIN', 'DROP OWNED BY {name}'
            WHERE EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \\gexec
        {}
        DROP DATABASE IF EXISTS {name} WITH (FORCE);
        SELECT format('DROP ROLE %I', rolname) FROM pg_roles
            WHERE rolname LIKE 'app\\_%' AND NOT rolcanlogin AND NOT EXISTS (
                SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = pg_roles.oid) \\gexec
        ",
        unstage(name)
    )
}
