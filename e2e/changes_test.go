package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestChangesUnderLoad reloads the configuration and certificates and changes the password of the role that works, while
// old and new connections go on without an error.
func TestChangesUnderLoad(t *testing.T) {
	d := StartDemo(t, 1)
	client(t, d, "pgbench", "-i", "-s", "1", "-q")
	g := newGate(t, d)
	g.certify(t, 0)
	g.configure(t, "info")
	p := g.run(t)
	g.holder(t)
	direct := dial(t, d.direct(g.facts, g.facts.Nodes[0]))
	do(t, direct, "create role worker superuser login password 'worker0'")
	worker := []string{"PGUSER=worker", "PGPASSWORD=worker0"}
	loads := []*load{
		g.startLoad(t, "reads", "127.0.0.1", worker, "-S", "-M", "prepared", "-c", "8"),
		g.startLoad(t, "writes", g.dir, worker, "-N", "-c", "4"),
		g.startLoad(t, "tls", "127.0.0.1", []string{"PGSSLMODE=require"}, "-S", "-C", "-c", "4"),
	}
	advance := func(t *testing.T) {
		t.Helper()
		for _, l := range loads {
			l.advances(t)
		}
	}
	advance(t)
	t.Run("reload", func(t *testing.T) { g.reload(t, p); advance(t) })
	t.Run("password", func(t *testing.T) { g.rotate(t, direct, advance) })
	t.Run("certificate", func(t *testing.T) {
		for i := 1; i <= 3; i++ {
			g.renew(t, p, i)
			advance(t)
		}
	})
	for _, l := range loads {
		l.end(t)
	}
	p.signal(syscall.SIGTERM)
	gone(t, p)
}

// reload changes the file and has it read, by signal and by the console in turn.
func (g *gate) reload(t *testing.T, p process) {
	t.Helper()
	f := g.facts
	f.Database = "walgate"
	console := dial(t, dsn(f, g.addr())+"&default_query_exec_mode=simple_protocol")
	for i := range 40 {
		level := []string{"info", "warn"}[i/2%2]
		g.configure(t, level)
		if i%2 == 0 {
			p.signal(syscall.SIGHUP)
		} else {
			do(t, console, "RELOAD")
		}
		await(t, sqlLimit, "log level "+level, func(ctx context.Context) error {
			rows, err := console.Query(ctx, "SHOW CONFIG")
			if err != nil {
				return err
			}
			now := ""
			for rows.Next() {
				if row := rows.RawValues(); string(row[0]) == "log.level" {
					now = string(row[1])
				}
			}
			if rows.Err() != nil || now != level {
				return fmt.Errorf("it is %s, %w", now, rows.Err())
			}
			return nil
		})
	}
	g.configure(t, "info")
	do(t, console, "RELOAD")
	closeConn(console)
}

// rotate changes the password of the role that works, past the proxy and through it.
func (g *gate) rotate(t *testing.T, direct *pgx.Conn, advance func(*testing.T)) {
	t.Helper()
	login := func(n int) error {
		f := g.facts
		f.User, f.Password = "worker", fmt.Sprint("worker", n)
		var one int
		return askOnce(t.Context(), dsn(f, g.addr()), "select 1", &one)
	}
	f := g.facts
	f.Database = "walgate"
	console, through := dial(t, dsn(f, g.addr())+"&default_query_exec_mode=simple_protocol"), dial(t, g.dsn())
	for i := 1; i <= 4; i++ {
		by := []*pgx.Conn{direct, through}[i%2]
		changed := time.Now()
		do(t, by, fmt.Sprintf("alter role worker password 'worker%d'", i))
		advance(t) // before anybody has shown the new password to the proxy
		await(t, sqlLimit, "a login with the new password", func(context.Context) error { return login(i) })
		t.Logf("password %d works", i)
		if err := login(i - 1); sqlstate(err) != "28P01" {
			t.Errorf("login with the old password: %v, want 28P01", err)
		}
		do(t, console, "RECONNECT")
		advance(t)
		await(t, sqlLimit, "server connections with the new password", func(ctx context.Context) error {
			var older int
			err := direct.QueryRow(ctx, "select count(*) from pg_stat_activity where usename = 'worker' and backend_start < $1", changed).Scan(&older)
			if err == nil && older > 0 {
				err = fmt.Errorf("%d are older", older)
			}
			return err
		})
	}
	closeConn(console)
	closeConn(through)
}

// renew replaces the certificate, has it read and sees that new connections get it.
func (g *gate) renew(t *testing.T, p process, n int) {
	t.Helper()
	g.certify(t, n)
	p.signal(syscall.SIGHUP)
	verified := func(n int) error {
		config, err := pgx.ParseConfig(fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=verify-full sslrootcert=%s",
			g.port, g.facts.User, g.facts.Password, g.facts.Database, g.file(fmt.Sprintf("tls%d.crt", n))))
		if err != nil {
			return err
		}
		conn, err := pgx.ConnectConfig(t.Context(), config)
		if err == nil {
			closeConn(conn)
		}
		return err
	}
	await(t, sqlLimit, "the new certificate", func(context.Context) error { return verified(n) })
	if err := verified(n - 1); !errors.As(err, new(x509.UnknownAuthorityError)) {
		t.Errorf("with the old certificate as authority: %v", err)
	}
}

// certify makes a certificate of its own authority, whose copy is tls<n>.crt.
func (g *gate) certify(t *testing.T, n int) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(n) + 1), Subject: pkix.Name{CommonName: fmt.Sprint("gate ", n)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, content := range map[string][]byte{
		fmt.Sprintf("tls%d.crt", n): certificate, "tls.crt": certificate,
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		fresh := g.file(name + ".new")
		if err := errors.Join(os.WriteFile(fresh, content, 0o600), os.Rename(fresh, g.file(name))); err != nil {
			t.Fatal(err)
		}
	}
}
