package bench

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// fault is an injected fault that may have to be taken back.
type fault struct {
	stopped group // processes that stand still
}

// inject does to the node what the run is about and returns when it has been done. undo must be called in any case.
func inject(ctx context.Context, cfg Config, api *api, node Node) (*fault, error) {
	f := &fault{}
	var err error
	switch cfg.Fault {
	case FaultSwitchover:
		err = api.switchover(ctx, node.Name)
	case FaultKillPostmaster:
		err = killPostmaster(node)
	case FaultKillNode:
		err = f.freeze(node, cfg.command(), true)
		if err == nil { // standing still, none can answer the death of another
			err = f.stopped.signal(syscall.SIGKILL)
		}
	case FaultFreezeNode:
		err = f.freeze(node, cfg.command(), true)
	case FaultFreezePostgres:
		err = f.freeze(node, cfg.command(), false)
	}
	if err != nil {
		return f, fmt.Errorf("%s %s: %w", cfg.Fault, node.Name, err)
	}
	return f, nil
}

func killPostmaster(node Node) error {
	p, err := openProcess(node.PostmasterPID, "postgres")
	if err != nil {
		return err
	}
	defer p.close()
	return p.signal(syscall.SIGKILL)
}

// freeze stops the postmaster and its children, after agent and guard if whole. All are found and checked before the
// first is stopped, but for children born meanwhile.
func (f *fault) freeze(node Node, program string, whole bool) error {
	var errs []error
	if whole {
		errs = append(errs, f.stopped.add(node.PID, program))
		if node.GuardPID != 0 {
			errs = append(errs, f.stopped.add(node.GuardPID, program))
		}
	}
	errs = append(errs, f.stopped.add(node.PostmasterPID, "postgres"))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for more := true; more; {
		var err error
		more, err = f.stopped.addChildren(node.PostmasterPID)
		if err == nil {
			err = f.stopped.signal(syscall.SIGSTOP)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resume lets what stands still go on, PostgreSQL first: the order that is hardest for the node.
func (f *fault) resume() error {
	var errs []error
	for i := len(f.stopped.members) - 1; i >= 0; i-- {
		errs = append(errs, f.stopped.members[i].signal(syscall.SIGCONT))
	}
	return errors.Join(errs...)
}

// undo resumes what is left, once more if need be.
func (f *fault) undo() error {
	err := f.resume()
	f.stopped.close()
	return err
}
