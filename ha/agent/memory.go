package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/walgate/walgate/ha"
	"github.com/walgate/walgate/replication"
)

// memory is what the agent must remember across its own restarts. It is written before the move that it tells of, so
// that it never claims less than what may have happened.
type memory struct {
	Lineage *ha.Lineage `json:"lineage,omitempty"`
	// Fresh: the directory comes from our initdb and no record has been seen with it.
	Fresh bool `json:"fresh,omitempty"`
	// Follows is whom primary_conninfo may name; empty: certainly nobody.
	Follows replication.NodeID `json:"follows,omitempty"`
	// RewindFailed: only a new clone helps.
	RewindFailed bool `json:"rewind_failed,omitempty"`
}

const memoryFile = "agent.json"

// readMemory returns the memory kept in dir; the zero memory when there is none.
func readMemory(dir string) (memory, error) {
	var m memory
	content, err := os.ReadFile(filepath.Join(dir, memoryFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case err != nil:
		return m, fmt.Errorf("read the agent's memory: %w", err)
	}
	if err := json.Unmarshal(content, &m); err != nil {
		return m, fmt.Errorf("read the agent's memory in %s: %w", filepath.Join(dir, memoryFile), err)
	}
	return m, nil
}

// write replaces the memory in dir, durably.
func (m memory) write(dir string) error {
	content, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the agent's memory: %w", err)
	}
	path := filepath.Join(dir, memoryFile)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write the agent's memory: %w", err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write the agent's memory: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
