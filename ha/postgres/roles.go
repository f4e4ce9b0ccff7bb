package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// schemaVersion is the comment on the schema walgate; raise it when schemaSQL changes.
const schemaVersion = "walgate 1"

// schemaSQL makes functions and grants. The function gives an authenticator the verifier of every role but walgate's
// own: superusers too, since they log in through the proxy like everyone. Its search_path holds nothing that others can
// write to.
const schemaSQL = `
CREATE SCHEMA IF NOT EXISTS walgate AUTHORIZATION walgate;
REVOKE ALL ON SCHEMA walgate FROM PUBLIC;
GRANT USAGE ON SCHEMA walgate TO walgate_monitor;
CREATE OR REPLACE FUNCTION walgate.verifier(name text) RETURNS text
 LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
 AS $body$ SELECT a.rolpassword FROM pg_catalog.pg_authid a
  WHERE a.rolname = $1 AND a.rolcanlogin AND a.rolname <> 'walgate' AND a.rolname NOT LIKE 'walgate\_%'
  AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil > pg_catalog.now()) $body$;
ALTER FUNCTION walgate.verifier(text) OWNER TO walgate;
REVOKE ALL ON FUNCTION walgate.verifier(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION walgate.verifier(text) TO walgate_monitor;
GRANT pg_monitor TO walgate_monitor;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean) TO walgate_rewind;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_stat_file(text, boolean) TO walgate_rewind;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text) TO walgate_rewind;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO walgate_rewind;
COMMENT ON SCHEMA walgate IS '` + schemaVersion + `';
`

// roleOptions are the attributes of walgate's roles.
var roleOptions = [][2]string{
	{RoleWalgate, "SUPERUSER LOGIN"},
	{RoleReplicator, "REPLICATION LOGIN"},
	{RoleRewind, "LOGIN"},
	{RoleMonitor, "LOGIN"},
}

// EnsureRoles makes walgate's roles, functions and grants on a primary, in the database postgres. It writes nothing when
// they are as they should be, and does not wait for synchronous standbys.
func (i *Instance) EnsureRoles(ctx context.Context) error {
	defer i.exclusive()()
	err := i.with(ctx, func(conn *pgconn.PgConn) error {
		for _, role := range roleOptions {
			if err := ensureRole(ctx, conn, role[0], role[1], i.cfg.Secret.Password(role[0])); err != nil {
				return fmt.Errorf("role %s: %w", role[0], err)
			}
		}
		version, err := one(ctx, conn, "SELECT coalesce((SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'walgate'), '')")
		if err != nil || version == schemaVersion {
			return err
		}
		return execute(ctx, conn, schemaSQL)
	})
	if err != nil {
		return fmt.Errorf("ensure roles: %w", err)
	}
	return nil
}

// ensureRole makes the role, or mends its password.
func ensureRole(ctx context.Context, conn *pgconn.PgConn, role, options, password string) error {
	found, err := rows(ctx, conn, "SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = $1", role)
	if err != nil {
		return err
	}
	verb := "CREATE"
	if len(found) > 0 {
		if matches(found[0][0], password) {
			return nil
		}
		verb = "ALTER"
	}
	verifier, err := newVerifier(password)
	if err != nil {
		return err
	}
	// Neither name nor verifier has a character to be quoted.
	return execute(ctx, conn, strings.Join([]string{verb, "ROLE", role, options, "PASSWORD '" + verifier + "'"}, " "))
}
