package app

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The offsets of a demo's ports from --port: a contract, see DESIGN 3.1. Nodes count from 1.
const (
	offsetSidecarAPI = 8
	offsetNodeAPI    = 8
	offsetPostgres   = 20
	offsetClient     = 40
	offsetPeer       = 50
)

func (d *Demo) address(offset int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(d.options.Port+offset))
}

// runDir is short: names of unix sockets are limited.
func (d *Demo) runDir(node string) string {
	if dir := filepath.Join(d.dir, node, "run"); len(dir) <= 80 {
		return dir
	}
	sum := sha256.Sum256([]byte(d.dir))
	return filepath.Join(os.TempDir(), "walgate-"+hex.EncodeToString(sum[:6]), node)
}

// layout makes what belongs into the demo's directory: more directories, secrets, configuration files. It can be repeated.
func (d *Demo) layout() error {
	for _, sub := range append(d.names(), "sidecar") {
		for _, dir := range []string{filepath.Join(d.dir, sub), d.runDir(sub)} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("%w: %w", ErrMachine, err)
			}
		}
	}
	if _, err := secretFile(filepath.Join(d.dir, "secret")); err != nil {
		return err
	}
	password, err := secretFile(filepath.Join(d.dir, "password"))
	if err != nil {
		return err
	}
	for i, name := range d.names() {
		if err := d.writeConfig(name, d.nodeConfig(i+1)); err != nil {
			return err
		}
	}
	if err := d.writeConfig("sidecar", d.sidecarConfig()); err != nil {
		return err
	}
	if err := d.writeFirstFacts(password); err != nil {
		return err
	}
	options := map[string]any{"port": d.options.Port, "nodes": d.options.Nodes, "sync": d.options.Sync}
	if err := writeJSONFile(filepath.Join(d.dir, "options.json"), options, 0o644); err != nil {
		return err
	}
	d.known = true
	return nil
}

func (d *Demo) writeConfig(name string, c Config) error {
	path := d.configPath(name)
	if err := os.WriteFile(path, []byte("# written by walgate demo\n"+RenderChanged(c)), 0o644); err != nil {
		return fmt.Errorf("write configuration of %s: %w", name, err)
	}
	return nil
}

func (d *Demo) configPath(name string) string { return filepath.Join(d.dir, name+".yaml") }

// writeFirstFacts writes demo.json with no process alive, unless there is one.
func (d *Demo) writeFirstFacts(password string) error {
	return lockedDemo(d.dir, func() error {
		if _, err := os.Stat(d.factsPath()); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		facts := DemoFacts{
			User: "postgres", Password: password, Database: "postgres",
			Sidecar: DemoSidecar{Addr: d.address(0), API: "http://" + d.address(offsetSidecarAPI)}, Nodes: []DemoNode{},
		}
		for i, name := range d.names() {
			facts.Nodes = append(facts.Nodes, DemoNode{
				Name: name, Proxy: d.address(i + 1), Postgres: d.address(offsetPostgres + i + 1),
				API: "http://" + d.address(offsetNodeAPI+i+1), DataDir: filepath.Join(d.dir, name, "data"),
			})
		}
		return writeJSONFile(d.factsPath(), facts, 0o600)
	})
}

// base is what all processes of the demo have in common.
func (d *Demo) base() Config {
	c := Default()
	c.Cluster = ClusterConfig{Name: "demo", SecretFile: filepath.Join(d.dir, "secret")}
	for i := range d.names() {
		c.Store.Endpoints = append(c.Store.Endpoints, "http://"+d.address(offsetClient+i+1))
	}
	return c
}

func (d *Demo) nodeConfig(i int) Config {
	c, name := d.base(), fmt.Sprintf("node%d", i)
	dir := filepath.Join(d.dir, name)
	c.Node.Name, c.Node.Host, c.Node.DataDir = name, "127.0.0.1", filepath.Join(dir, "data")
	c.Node.StateDir, c.Node.RunDir, c.Node.LogFile = filepath.Join(dir, "state"), d.runDir(name), filepath.Join(dir, "postgres.log")
	c.Postgres.Port, c.Postgres.Listen = d.options.Port+offsetPostgres+i, "127.0.0.1"
	c.Postgres.SuperuserPasswordFile = filepath.Join(d.dir, "password")
	c.Store.Embedded.DataDir = filepath.Join(dir, "etcd")
	c.Store.Embedded.ClientListen = "http://" + d.address(offsetClient+i)
	c.Store.Embedded.PeerListen = "http://" + d.address(offsetPeer+i)
	c.Store.Embedded.InitialCluster = map[string]string{}
	for j, peer := range d.names() {
		c.Store.Embedded.InitialCluster[peer] = "http://" + d.address(offsetPeer+j+1)
	}
	c.HA.Sync = d.options.Sync
	c.Proxy.Listen, c.API.Listen = d.address(i), d.address(offsetNodeAPI+i)
	return c
}

func (d *Demo) sidecarConfig() Config {
	c := d.base()
	c.Proxy.ID, c.Proxy.Listen, c.API.Listen = "sidecar", d.address(0), d.address(offsetSidecarAPI)
	c.Proxy.Takeover.Socket = d.takeoverSocket()
	return c
}

// ports are those that a part of the demo needs, with what they are for.
func (d *Demo) ports(name string) map[string]string {
	if name == "sidecar" {
		return map[string]string{d.address(0): "the sidecar's proxy", d.address(offsetSidecarAPI): "the sidecar's API"}
	}
	i, _ := strconv.Atoi(strings.TrimPrefix(name, "node")) // names are made by names
	return map[string]string{
		d.address(i): name + "'s proxy", d.address(offsetNodeAPI + i): name + "'s API", d.address(offsetPostgres + i): name + "'s PostgreSQL",
		d.address(offsetClient + i): name + "'s store", d.address(offsetPeer + i): name + "'s store, for its peers",
	}
}

// traversable checks that another user may enter every directory on the way: as root, PostgreSQL runs as postgres.
func traversable(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMachine, err)
		}
		if info.Mode().Perm()&0o001 == 0 {
			return fmt.Errorf("%w: PostgreSQL runs as user postgres, who may not enter %s; use another --dir, or chmod o+x it", ErrMachine, dir)
		}
	}
	return nil
}

func (d *Demo) takeoverSocket() string { return filepath.Join(d.runDir("sidecar"), "takeover.sock") }
