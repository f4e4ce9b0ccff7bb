package throughput

import (
	"fmt"
	"runtime"
	"strconv"
)

// workload is what clients do.
type workload struct {
	name    string
	clients int      // when the user names none; 0: those of the configuration
	args    []string // of pgbench
	// Named statements reach the server in transaction mode only through a proxy that knows them.
	prepared bool
	writes   bool
	rated    bool     // at a fixed rate
	result   bool     // one result of Config.Megabytes per transaction
	scripts  []string // of pgbench, files of writeScripts with their weights
	copying  string   // "in" or "out": COPY of Config.Megabytes per transaction, which pgbench can't do
}

// workloads are all that are known. Those whose cost is by the megabyte, or by the connection, have a number of clients
// of their own.
var workloads = []workload{
	{name: "select-simple", args: []string{"-S", "-M", "simple"}},
	{name: "select-extended", args: []string{"-S", "-M", "extended"}},
	{name: "select-prepared", args: []string{"-S", "-M", "prepared"}, prepared: true},
	{name: "select-rate", args: []string{"-S", "-M", "simple"}, rated: true},
	{name: "select-prepared-rate", args: []string{"-S", "-M", "prepared"}, prepared: true, rated: true},
	{name: "tpcb", args: []string{"-M", "simple"}, writes: true},
	{name: "tpcb-n", args: []string{"-N", "-M", "simple"}, writes: true},
	{name: "tpcb-n-prepared", args: []string{"-N", "-M", "prepared"}, prepared: true, writes: true},
	{name: "result", clients: 4, result: true},
	{name: "copy-out", clients: 4, copying: "out"},
	{name: "copy-in", clients: 4, copying: "in"},
	{name: "update", args: []string{"-M", "simple"}, scripts: []string{scriptUpdate + "@1"}, writes: true},
	{name: "mix-95", args: []string{"-M", "simple"}, scripts: []string{scriptRead + "@95", scriptUpdate + "@5"}, writes: true},
	{name: "mix-95-prepared", args: []string{"-M", "prepared"}, scripts: []string{scriptRead + "@95", scriptUpdate + "@5"}, prepared: true, writes: true},
	{name: "mix-90", args: []string{"-M", "simple"}, scripts: []string{scriptRead + "@90", scriptTransaction + "@10"}, writes: true},
	{name: "mix-90-prepared", args: []string{"-M", "prepared"}, scripts: []string{scriptRead + "@90", scriptTransaction + "@10"}, prepared: true, writes: true},
	{name: "connect", clients: 8, args: []string{"-S", "-M", "simple", "-C"}},
}

// Workloads lists their names.
func Workloads() []string {
	names := make([]string, len(workloads))
	for i, w := range workloads {
		names[i] = w.name
	}
	return names
}

func findWorkload(name string) (workload, bool) {
	for _, w := range workloads {
		if w.name == name {
			return w, true
		}
	}
	return workload{}, false
}

// bulk tells whether costs are counted by the megabyte.
func (w workload) bulk() bool { return w.result || w.copying != "" }

// threads is how many pgbench uses. Its clients prepare statements with a call that blocks the whole thread: when all
// servers are held by clients of blocked threads, none of them ever goes on. Then each client gets a thread of its own.
func (c cell) threads(pool int) int {
	if c.work.prepared && c.work.writes && c.clients > pool {
		return c.clients
	}
	return min(c.clients, runtime.NumCPU())
}

// pgbenchArgs returns the arguments of one run but for the database.
func (c cell) pgbenchArgs(cfg Config, seconds int, path func(name string) string) []string {
	args := append([]string{"-n", "-c", strconv.Itoa(c.clients), "-j", strconv.Itoa(c.threads(cfg.Pool)), "-T", strconv.Itoa(seconds), "-l"},
		c.work.args...)
	if c.work.rated {
		args = append(args, "-R", strconv.Itoa(cfg.Rate))
	}
	if c.work.result {
		args = append(args, "-f", path(scriptResult))
	}
	for _, script := range c.work.scripts {
		args = append(args, "-f", path(script))
	}
	return args
}

// largeResult is a query whose rows hold a kilobyte each.
func largeResult(megabytes int) string {
	return fmt.Sprintf("select repeat('x', 1024) from generate_series(1, %d)", megabytes*1024)
}

// The scripts of pgbench that are not built in.
const (
	scriptResult      = "result.sql"
	scriptRead        = "read.sql"
	scriptUpdate      = "update.sql"
	scriptTransaction = "transaction.sql"
)

// mixScripts are those of reads among writes. No read is within a transaction that writes, so that each may run anywhere.
func mixScripts(scale int) map[string]string {
	account := fmt.Sprintf("\\set aid random(1, %d)\n", 100_000*scale)
	change := account + "\\set delta random(-5000, 5000)\n"
	const update = "UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;\n"
	return map[string]string{
		scriptRead:   account + countedRead + " WHERE aid = :aid;\n",
		scriptUpdate: change + update,
		scriptTransaction: change + "BEGIN;\n" + update +
			"INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, :delta, CURRENT_TIMESTAMP);\nEND;\n",
	}
}
