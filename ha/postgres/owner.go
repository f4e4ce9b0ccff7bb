package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// ErrOwner says that PostgreSQL cannot run as the user who owns its files.
var ErrOwner = errors.New("PostgreSQL cannot run as this user")

// findOwner returns whom the server programs must run as: nil when that is who we are. Root becomes the owner of the
// data directory, or postgres when there is none yet.
func findOwner(dataDir string) (*guard.Owner, error) {
	var stat syscall.Stat_t
	err := syscall.Stat(dataDir, &stat)
	exists := err == nil
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("look at the data directory: %w", err)
	}
	if uid := os.Geteuid(); uid != 0 {
		if exists && int(stat.Uid) != uid {
			return nil, fmt.Errorf("%s belongs to user id %d and walgate runs as %d; start walgate as root or as that user: %w",
				dataDir, stat.Uid, uid, ErrOwner)
		}
		return nil, nil
	}
	if exists && stat.Uid != 0 {
		account, err := user.LookupId(strconv.Itoa(int(stat.Uid)))
		if err != nil { // a container's number without a name
			return &guard.Owner{UID: stat.Uid, GID: stat.Gid}, nil
		}
		return ownerOf(account)
	}
	if exists {
		if present, err := majorOf(dataDir); err != nil || present != 0 {
			return nil, fmt.Errorf("%s belongs to root, and PostgreSQL refuses to run as root; chown it to postgres: %w",
				dataDir, errors.Join(err, ErrOwner))
		}
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("walgate runs as root, PostgreSQL refuses to, and there is no user postgres: "+
			"create it or start walgate as an ordinary user: %w", errors.Join(err, ErrOwner))
	}
	return ownerOf(account)
}

func ownerOf(account *user.User) (*guard.Owner, error) {
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", account.Username, err)
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", account.Username, err)
	}
	owner := &guard.Owner{UID: uint32(uid), GID: uint32(gid)}
	groups, err := account.GroupIds()
	if err != nil {
		return owner, nil //nolint:nilerr // its own group is enough
	}
	for _, group := range groups {
		if id, err := strconv.ParseUint(group, 10, 32); err == nil {
			owner.Groups = append(owner.Groups, uint32(id))
		}
	}
	return owner, nil
}

// give makes path belong to the owner.
func give(owner *guard.Owner, path string) error {
	if owner == nil {
		return nil
	}
	if err := os.Lchown(path, int(owner.UID), int(owner.GID)); err != nil {
		return fmt.Errorf("give %s to its owner: %w", path, err)
	}
	return nil
}

// makeDir makes a directory that only the owner may enter.
func makeDir(owner *guard.Owner, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make parent of %s: %w", path, err)
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make directory: %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("protect directory: %w", err)
	}
	return give(owner, path)
}

// writeFile replaces a file so that a crash leaves the old or the new content, with mode 0600 and the owner's.
func writeFile(owner *guard.Owner, path string, content []byte) error {
	temporary := path + ".tmp"
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := give(owner, temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes renames in a directory durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// job is a run of a PostgreSQL program as the owner.
type job struct {
	path   string
	args   []string
	env    []string
	stdin  io.Reader
	lines  func(line string) // of stdout and stderr, as they come; may be nil
	stdout io.Writer         // gets stdout raw, instead of lines
}

// keptOutput is how much of a program's output goes into an error.
const keptOutput = 8 << 10

// run runs the job to its end; the end of ctx kills it and its children. The output is returned for errors and facts.
func (i *Instance) run(ctx context.Context, j job) (string, error) {
	// Should walgate die, its jobs must not go on beside those of the next walgate. The death signal belongs to the
	// thread that forked.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, j.path, j.args...) //nolint:gosec // programs of PostgreSQL
	command.Dir = "/"
	command.Env = append(baseEnv(), j.env...)
	command.Stdin = j.stdin
	output := &tail{lines: j.lines}
	command.Stdout, command.Stderr = output, output
	if j.stdout != nil {
		command.Stdout = j.stdout
	}
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if owner != nil {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: owner.UID, Gid: owner.GID, Groups: owner.Groups}
	}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 5 * time.Second
	err = command.Run()
	output.flush()
	if ctx.Err() != nil {
		return output.String(), fmt.Errorf("run %s: %w", filepath.Base(j.path), context.Cause(ctx))
	}
	if err != nil {
		return output.String(), fmt.Errorf("run %s: %w: %s", filepath.Base(j.path), err, strings.TrimSpace(output.String()))
	}
	return output.String(), nil
}

// baseEnv is the environment of PostgreSQL's programs: nothing of ours leaks into it, and they speak English.
func baseEnv() []string {
	env := []string{"LC_ALL=C", "PATH=/usr/local/bin:/usr/bin:/bin"}
	if zone := os.Getenv("TZ"); zone != "" {
		env = append(env, "TZ="+zone)
	}
	return env
}

// tail keeps the end of what is written and hands on the lines.
type tail struct {
	kept    []byte
	partial []byte
	lines   func(string)
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if extra := len(t.kept) - keptOutput; extra > 0 {
		t.kept = t.kept[extra:]
	}
	if t.lines == nil {
		return len(p), nil
	}
	t.partial = append(t.partial, p...)
	for {
		end := bytes.IndexAny(t.partial, "\r\n")
		if end < 0 {
			break
		}
		t.lines(string(t.partial[:end]))
		t.partial = t.partial[end+1:]
	}
	if len(t.partial) > keptOutput {
		t.partial = t.partial[:0]
	}
	return len(p), nil
}

func (t *tail) flush() {
	if t.lines != nil && len(t.partial) > 0 {
		t.lines(string(t.partial))
		t.partial = nil
	}
}

// String returns what was kept.
func (t *tail) String() string { return string(t.kept) }
