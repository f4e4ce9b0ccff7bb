package app_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/walgate/walgate/cmd/walgate/app"
)

var update = flag.Bool("update", false, "rewrite golden files")

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "walgate.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadRefusesWhatItDoesNotKnow(t *testing.T) {
	cases := map[string]struct {
		yaml string
		env  []string
		want []string
	}{
		"unknown section":   {yaml: "cluster:\n  name: a\npostgress:\n  port: 1\n", want: []string{":3:", `unknown key "postgress"`, `did you mean "postgres"?`, "allowed here: cluster, node"}},
		"unknown key":       {yaml: "proxy:\n  listne: 127.0.0.1:1\n", want: []string{":2:", `unknown key "proxy.listne"`, `did you mean "listen"?`}},
		"unknown, far":      {yaml: "proxy:\n  zzzzzzzzz: 1\n", want: []string{`unknown key "proxy.zzzzzzzzz"; allowed here: id, listen`}},
		"unknown in a list": {yaml: "proxy:\n  listeners:\n    - listen: a:1\n      taget: auto\n", want: []string{":4:", `"proxy.listeners[0].taget", did you mean "target"?`}},
		"broken yaml":       {yaml: "proxy:\n  listen: [\n", want: []string{"YAML syntax"}},
		"bad indentation":   {yaml: "proxy:\n  listen: a:1\n hold_timeout: 3s\n", want: []string{":", "YAML syntax"}},
		"duplicate key":     {yaml: "log:\n  level: info\n  level: warn\n", want: []string{":3:", "YAML syntax"}},
		"duration":          {yaml: "ha:\n  ttl: 5\n", want: []string{":2:", `ha.ttl: "5" is no duration; allowed: a number with a unit`}},
		"number":            {yaml: "postgres:\n  port: many\n", want: []string{`postgres.port: "many" is no number; allowed: 1 to 65535`}},
		"bytes":             {yaml: "ha:\n  maximum_lag: 1 parsec\n", want: []string{`"1 parsec" is no amount of data`}},
		"section as value":  {yaml: "proxy: 7\n", want: []string{":1:", "proxy: keys with values are expected"}},
		"value as section":  {yaml: "proxy:\n  listen:\n    a: b\n", want: []string{":3:", "proxy.listen: a single value is expected"}},
		"list as value":     {yaml: "store:\n  endpoints: a\n", want: []string{"store.endpoints: a list is expected"}},
		"alias":             {yaml: "log: &x\n  level: info\n", want: []string{"aliases and tags are not supported"}},
		"two documents":     {yaml: "log:\n  level: info\n---\nlog:\n  level: warn\n", want: []string{"more than one YAML document"}},
		"environment":       {env: []string{"WALGATE_PROXY_LISTNE=a:1"}, want: []string{`WALGATE_PROXY_LISTNE names no key, did you mean "WALGATE_PROXY_LISTEN"?`}},
		"environment value": {env: []string{"WALGATE_HA_TTL=soon"}, want: []string{`WALGATE_HA_TTL: "soon" is no duration`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := app.Load(writeFile(t, c.yaml), c.env)
			if !errors.Is(err, app.ErrConfig) {
				t.Fatalf("Load(%q) = %v, want a configuration error", c.yaml, err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("Load(%q)\n got %q\nwant %q in it", c.yaml, err, want)
				}
			}
		})
	}
}

func TestLoadFileThenEnvironment(t *testing.T) {
	path := writeFile(t, `
cluster: {name: shop}
node: {tags: {zone: a, nofailover: true}}
ha: {ttl: 10s, maximum_lag: 16MB, sync: off}
proxy:
  listen: 127.0.0.1:1
  listeners: [{listen: "127.0.0.1:2", target: replica}]
`)
	got, err := app.Load(path, []string{
		"WALGATE_PROXY_LISTEN=127.0.0.1:3", "WALGATE_STORE_ENDPOINTS=http://a:1, http://b:1",
		"WALGATE_POSTGRES_PARAMETERS=work_mem=8MB,shared_buffers=1GB", "WALGATE_API=http://x",
		"WALGATE_SERVICE_HOST=10.0.0.1", "WALGATE_PORT=tcp://10.0.0.1:6432", "PATH=/bin",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := app.Default()
	want.Cluster.Name = "shop"
	want.Node.Tags = map[string]string{"zone": "a", "nofailover": "true"}
	want.HA.TTL, want.HA.MaximumLag, want.HA.Sync = 10*time.Second, 16<<20, "off"
	want.Proxy.Listen = "127.0.0.1:3"
	want.Proxy.Listeners = []app.ListenerConfig{{Listen: "127.0.0.1:2", Target: "replica"}}
	want.Store.Endpoints = []string{"http://a:1", "http://b:1"}
	want.Postgres.Parameters = map[string]string{"work_mem": "8MB", "shared_buffers": "1GB"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Load (-want +got):\n%s", diff)
	}
}

// valid is a configuration of a node that passes.
func valid(t *testing.T) app.Config {
	c := app.Default()
	c.Node.Name, c.Node.Host, c.Node.DataDir, c.Node.StateDir, c.Node.RunDir = "node1", "127.0.0.1", "/d", "/s", "/r"
	c.Cluster.SecretFile = writeFile(t, "secret")
	c.Postgres.SuperuserPasswordFile = writeFile(t, "secret")
	c.Store.Embedded.DataDir = "/e"
	return c
}

func TestValidate(t *testing.T) {
	cases := map[string]struct {
		kind   app.Kind
		change func(*app.Config)
		want   string // empty: valid
	}{
		"valid node":          {change: func(*app.Config) {}},
		"valid proxy":         {kind: app.KindProxy, change: func(c *app.Config) { c.Store.Endpoints = []string{"http://127.0.0.1:2379"} }},
		"proxy needs a store": {kind: app.KindProxy, change: func(*app.Config) {}, want: "store.endpoints: must be set"},
		"no store":            {change: func(c *app.Config) { c.Store.Embedded.DataDir = "" }, want: "store: set embedded.data_dir"},
		"node name":           {change: func(c *app.Config) { c.Node.Name = "Node-1" }, want: `node.name: "Node-1"; allowed: lower-case`},
		"no name":             {change: func(c *app.Config) { c.Node.Name = "" }, want: `node.name: ""; allowed`},
		"no host":             {change: func(c *app.Config) { c.Node.Host = "" }, want: "node.host: must be set"},
		"relative data":       {change: func(c *app.Config) { c.Node.DataDir = "data" }, want: `node.data_dir: "data"; allowed: an absolute path`},
		"no secret":           {change: func(c *app.Config) { c.Cluster.SecretFile = "" }, want: "cluster.secret_file: must be set"},
		"state in data":       {change: func(c *app.Config) { c.Node.StateDir = "/d/state" }, want: "allowed: a directory outside data_dir"},
		"managed parameter":   {change: func(c *app.Config) { c.Postgres.Parameters = map[string]string{"wal_level": "minimal"} }, want: "wal_level"},
		"open secret":         {change: func(c *app.Config) { c.Cluster.SecretFile = openFile(t) }, want: "can be read by everybody"},
		"network":             {change: func(c *app.Config) { c.Postgres.Networks = []string{"10.0.0.1"} }, want: `postgres.networks[0]: "10.0.0.1"; allowed: a prefix`},
		"long run dir":        {change: func(c *app.Config) { c.Node.RunDir = "/" + strings.Repeat("x", 90) }, want: "at most 80 bytes"},
		"port":                {change: func(c *app.Config) { c.Postgres.Port = 70000 }, want: "postgres.port: 70000; allowed: 1 to 65535"},
		"sync":                {change: func(c *app.Config) { c.HA.Sync = "quorom" }, want: `ha.sync: "quorom", did you mean "quorum"?; allowed: quorum, strict, off`},
		"lease arithmetic":    {change: func(c *app.Config) { c.HA.TTL = 3 * time.Second }, want: "ha.ttl: 3s is too short: 2*renew + rpc_timeout + stop_margin + 1% of ttl is 4.43s"},
		"kill after stop":     {change: func(c *app.Config) { c.HA.KillAfter = 2 * time.Second }, want: "ha.kill_after: 2s; allowed: at most stop_margin"},
		"open store":          {change: func(c *app.Config) { c.Store.Embedded.PeerListen = "http://10.0.0.1:2380" }, want: "is not loopback and needs store.tls"},
		"not in the cluster":  {change: func(c *app.Config) { c.Store.Embedded.InitialCluster = map[string]string{"b": "http://127.0.0.1:1"} }, want: `does not name this member, "node1"`},
		"pool":                {change: func(c *app.Config) { c.Proxy.Pool.Max = 0 }, want: "proxy.pool.max: 0; allowed: more than 0"},
		"listener target":     {change: func(c *app.Config) { c.Proxy.Listeners = []app.ListenerConfig{{Listen: "a:1", Target: "any"}} }, want: `proxy.listeners[0].target: "any"`},
		"address":             {change: func(c *app.Config) { c.Proxy.Listen = "6432" }, want: `proxy.listen: "6432"; allowed: HOST:PORT`},
		"missing file":        {change: func(c *app.Config) { c.API.TokenFile = "/no/such/file" }, want: "api.token_file: look at /no/such/file"},
		"open profiles":       {change: func(c *app.Config) { c.API.Pprof, c.API.Listen = true, "0.0.0.0:8008" }, want: "api.pprof: profiles show"},
		"half a certificate":  {change: func(c *app.Config) { c.API.TLS.CertFile = os.Args[0] }, want: "cert_file and key_file go together"},
		"auth source":         {change: func(c *app.Config) { c.Proxy.Auth.Source = []string{"clutser"} }, want: `proxy.auth.source[0]: "clutser", did you mean "cluster"?; allowed: cluster, file, query`},
		"auth query":          {change: func(c *app.Config) { c.Proxy.Auth.Source = []string{"query"} }, want: "proxy.auth.query: must be set"},
		"auth file":           {change: func(c *app.Config) { c.Proxy.Auth.Source = []string{"file"} }, want: "proxy.auth.user_file: must be set"},
		"open user file":      {change: func(c *app.Config) { c.Proxy.Auth.UserFile = openFile(t) }, want: "proxy.auth.user_file: "},
		"fallback":            {change: func(c *app.Config) { c.Proxy.Routing.Fallback = "primray" }, want: `proxy.routing.fallback: "primray", did you mean "primary"?; allowed: primary, error`},
		"lost writes":         {change: func(c *app.Config) { c.Proxy.Routing.LostWrites = "" }, want: `proxy.routing.lost_writes: ""; allowed: notice, error`},
		"primary share":       {change: func(c *app.Config) { c.Proxy.Routing.PrimaryShare = 101 }, want: "proxy.routing.primary_share: 101; allowed: 0 to 100"},
		"wait":                {change: func(c *app.Config) { c.Proxy.Routing.Wait = -1 }, want: "proxy.routing.wait: -1ns; allowed: 0 or more"},
		"level of a listener": {change: func(c *app.Config) {
			c.Proxy.Listeners = []app.ListenerConfig{{Listen: "127.0.0.1:1", Target: "auto", Consistency: "sesion"}}
		}, want: `proxy.listeners[0].consistency: "sesion", did you mean "session"?`},
		"lag of a pool": {change: func(c *app.Config) { c.Proxy.Pools = []app.PoolRuleConfig{{MaxLag: -1}} }, want: "proxy.pools[0].max_lag: -1ns; allowed: 0 or more"},
		"log level":     {change: func(c *app.Config) { c.Log.Level = "loud" }, want: `log.level: "loud"; allowed: debug`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			config := valid(t)
			c.change(&config)
			kind := c.kind
			if kind == "" {
				kind = app.KindNode
			}
			err := config.Validate(kind)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("Validate = %v, want nil", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("Validate\n got %v\nwant %q in it", err, c.want)
			}
		})
	}
}

func TestReadAccess(t *testing.T) {
	for name, c := range map[string]struct {
		auth app.AuthConfig
		want string // empty: valid
	}{
		"nothing":     {},
		"inline":      {auth: app.AuthConfig{HBA: []string{"host all all 127.0.0.1/32 trust", "local all all peer"}}},
		"bad inline":  {auth: app.AuthConfig{HBA: []string{"local all all peer", "host all all 127.0.0.1/33 trust"}}, want: "proxy.auth.hba:2: address"},
		"bad method":  {auth: app.AuthConfig{HBAFile: writeFile(t, "local all all peer\n\nhost all all all ldap\n")}, want: `:3: method "ldap" is not served; allowed: scram-sha-256, md5, password, cert, peer, trust, reject`},
		"no file":     {auth: app.AuthConfig{HBAFile: "/no/such/file"}, want: "/no/such/file"},
		"bad map":     {auth: app.AuthConfig{IdentFile: writeFile(t, "one two\n")}, want: ":1: three fields are expected"},
		"bad users":   {auth: app.AuthConfig{UserFile: writeFile(t, "\"a\" \"b\"\n\"c\"\n")}, want: ":2: a secret in double quotes is expected"},
		"three files": {auth: app.AuthConfig{HBAFile: writeFile(t, "local all all peer map=m\n"), IdentFile: writeFile(t, "m /^(.*)$ \\1\n"), UserFile: writeFile(t, "; none\n\"a\" \"b\"\n")}},
	} {
		access, err := app.ReadAccess(c.auth)
		switch {
		case c.want == "" && (err != nil || access.Policy.Rules == nil):
			t.Errorf("%s: %+v, %v", name, access, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s\n got %v\nwant %q in it", name, err, c.want)
		}
	}
}

// openFile is a file that everybody may read.
func openFile(t *testing.T) string {
	path := writeFile(t, "secret")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func golden(t *testing.T, path, content string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), content); diff != "" {
		t.Errorf("%s is not what the code renders; run with -update (-file +code):\n%s", path, diff)
	}
}

func TestExampleIsRenderedFromDefault(t *testing.T) {
	path := filepath.Join("..", "..", "..", "deploy", "example.yaml")
	golden(t, path, app.RenderExample(app.Default()))
	got, err := app.Load(path, nil)
	if err != nil {
		t.Fatalf("the example does not load: %v", err)
	}
	want := app.Default()
	want.Node.Name, want.Node.Host, want.Node.DataDir = "node1", "127.0.0.1", "/var/lib/walgate/data"
	want.Node.StateDir, want.Cluster.SecretFile = "/var/lib/walgate/state", "/etc/walgate/secret"
	want.Postgres.SuperuserPasswordFile = "/etc/walgate/superuser-password"
	want.Store.Embedded.DataDir = "/var/lib/walgate/etcd"
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("example.yaml (-want +got):\n%s", diff)
	}
}

func TestReferenceIsRenderedFromDefault(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "configuration.md")
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "<!-- below: rendered by the test of the configuration, do not edit -->\n"
	head, _, ok := strings.Cut(string(have), mark)
	if !ok {
		t.Fatalf("%s: the mark is missing", path)
	}
	golden(t, path, head+mark+app.RenderReference(app.Default()))
}
