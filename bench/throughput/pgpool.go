package throughput

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// startPgpool starts pgpool-II with the settings that its manual gives for streaming replication: load balancing by
// session, the delay of standbys and the health of all nodes looked at. Reads go to the standbys alone, as with walgate.
// It has a process for each client, which keeps a connection to every node.
func (g *ground) startPgpool(ctx context.Context, e *endpoint, control string) error {
	path, err := program("pgpool")
	if err != nil {
		return fmt.Errorf("%w: %w", errAbsent, err)
	}
	e.version, e.family = versionOf(ctx, path, "--version"), true
	host, port, _ := net.SplitHostPort(e.address) // made by this package
	_, controlPort, _ := net.SplitHostPort(control)
	dir := g.path(e.name)
	config := fmt.Sprintf(`backend_clustering_mode = 'streaming_replication'
listen_addresses = '%s'
port = %s
socket_dir = '%s'
pcp_listen_addresses = '%[1]s'
pcp_port = %[4]s
pcp_socket_dir = '%[3]s'
pid_file_name = '%[3]s/pid'
logdir = '%[3]s'
num_init_children = %[5]d
max_pool = 1
enable_pool_hba = on
pool_passwd = 'pool_passwd'
load_balance_mode = on
disable_load_balance_on_write = 'transaction'
sr_check_period = 10
sr_check_user = 'postgres'
sr_check_password = '%[6]s'
sr_check_database = 'postgres'
delay_threshold = 10000000
health_check_period = 5
health_check_timeout = 30
health_check_user = 'postgres'
health_check_password = '%[6]s'
health_check_database = 'postgres'
health_check_max_retries = 3
`, host, port, dir, controlPort, g.cfg.mostClients()+8, g.password)
	for number := 1; number <= g.cfg.Nodes; number++ {
		weight := 1
		if number == 1 && g.cfg.Nodes > 1 {
			weight = 0
		}
		config += fmt.Sprintf(`backend_hostname%[1]d = '127.0.0.1'
backend_port%[1]d = %[2]d
backend_weight%[1]d = %[3]d
backend_flag%[1]d = 'DISALLOW_TO_FAILOVER'
backend_application_name%[1]d = '%[4]s'
`, number-1, g.cfg.Port+(number-1)*portsOfNode+portPostgres, weight, nodeName(number))
	}
	if err := g.writePgpool(e.name, config); err != nil {
		return err
	}
	e.process, err = spawn(g.dir, start{name: e.name + ".out", program: path, as: g.as, stop: syscall.SIGINT, args: []string{
		"-n", "-D", "-f", dir + "/pgpool.conf", "-F", dir + "/pcp.conf", "-a", dir + "/pool_hba.conf", "-k", dir + "/none"}})
	if err != nil {
		return err
	}
	return until(ctx, startLimit, e.process, func(ctx context.Context) error { return g.askPgpool(ctx, e) })
}

// writePgpool writes its files into a folder that is its own.
func (g *ground) writePgpool(name, config string) error {
	err := os.Mkdir(g.path(name), 0o700)
	if errors.Is(err, os.ErrExist) { // it is started again
		err = nil
	}
	if err == nil && g.as != nil {
		err = os.Chown(g.path(name), int(g.as.Uid), int(g.as.Gid))
	}
	if err != nil {
		return fmt.Errorf("make a folder for pgpool-II: %w", err)
	}
	for file, content := range map[string]string{
		"pgpool.conf": config, "pcp.conf": "", "pool_hba.conf": "host all all 127.0.0.1/32 scram-sha-256\n",
		"pool_passwd": fmt.Sprintf("%s:TEXT%s\npostgres:TEXT%[2]s\n", benchUser, g.password),
	} {
		if err := g.writeFor(name+"/"+file, content); err != nil {
			return err
		}
	}
	return nil
}

// askPgpool tells whether it knows the primary and sees every node up.
func (g *ground) askPgpool(ctx context.Context, e *endpoint) error {
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, g.url(e.address, benchUser, benchDatabase))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.PgConn().Exec(ctx, "show pool_nodes").ReadAll()
	if err != nil {
		return err
	}
	up, primaries := 0, 0
	for _, result := range rows {
		for _, row := range result.Rows {
			for i, field := range result.FieldDescriptions {
				switch value := strings.TrimSpace(string(row[i])); {
				case field.Name == "status" && value == "up":
					up++
				case field.Name == "role" && value == "primary":
					primaries++
				}
			}
		}
	}
	if up != g.cfg.Nodes || primaries != 1 {
		return fmt.Errorf("pgpool-II sees %d nodes up and %d primaries", up, primaries)
	}
	return nil
}
