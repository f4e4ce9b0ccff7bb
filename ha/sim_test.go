package ha

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

type nodeID = replication.NodeID

var (
	simSeed  = flag.Uint64("seed", 0, "run this seed of the simulator alone, with a trace")
	simSeeds = flag.Int("seeds", 0, "how many seeds the simulator runs (default 2000; 100 with -short or -race)")
)

type simConfig struct {
	seed  uint64
	rules Rules
	mode  SyncMode
	loss  bool // look for lost commits alone, not for the arithmetic that leads to them (S5)
	trace func(format string, args ...any)
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x77616c67617465)) }

// simulate runs one seed: a cluster comes up, suffers, heals, and must converge. It returns the violation, or "".
func simulate(c simConfig) (failure string, s *sim) {
	s = newSim(c)
	s.after(s.between(4*time.Second, 10*time.Second), s.trouble)
	s.run(s.between(25*time.Second, 60*time.Second))
	if s.failure != "" {
		return s.failure, s
	}
	s.heal()
	limit := s.now + 90*time.Second
	for s.now < limit && s.failure == "" {
		s.run(s.now + 500*time.Millisecond)
		if _, ok := s.converged(); ok {
			s.run(s.now + 2*time.Second)
			return s.failure, s
		}
	}
	if s.failure == "" {
		why, _ := s.converged()
		var b strings.Builder
		fmt.Fprintf(&b, "L1: no convergence: %s", why)
		for _, n := range s.nodes {
			fmt.Fprintf(&b, "\n  %s: %s [%s/%s, %s, hand busy %v/%v]", n.name, n.last.Why, n.last.Lease.Kind, n.last.Postgres.Kind, n.pg.proc, n.leaseBusy, n.pgBusy)
		}
		if r := s.store.record; r != nil {
			fmt.Fprintf(&b, "\n  epoch %d %s open %v voters %v handoff %v chain %v", r.Epoch, r.Primary, r.Open, r.Sync.Voters, r.Handoff, r.Chain)
		}
		s.fail("%s", b.String())
	}
	return s.failure, s
}

func TestSimulator(t *testing.T) {
	if *simSeed != 0 {
		failure, s := simulate(simConfig{seed: *simSeed, rules: AllRules(), trace: t.Logf})
		t.Logf("mode %s quorum %d nodes %d on_crash %s", s.mode, s.quorum, len(s.nodes), s.onCrash)
		if failure != "" {
			t.Fatal(failure)
		}
		return
	}
	seeds := 2000
	if testing.Short() || raceEnabled {
		seeds = 100
	}
	if *simSeeds > 0 {
		seeds = *simSeeds
	}
	const shards = 4
	for shard := range uint64(shards) {
		t.Run(fmt.Sprintf("shard %d", shard), func(t *testing.T) {
			t.Parallel()
			for seed := shard + 1; seed <= uint64(seeds) && (!t.Failed() || *simSeeds > 0); seed += shards {
				if failure, s := simulate(simConfig{seed: seed, rules: AllRules()}); failure != "" {
					t.Errorf("seed %d (go test ./ha -run TestSimulator$ -seed %d -v; %s, %d nodes, k %d, on_crash %s): %s",
						seed, seed, s.mode, len(s.nodes), s.quorum, s.onCrash, failure)
				}
			}
		})
	}
}
