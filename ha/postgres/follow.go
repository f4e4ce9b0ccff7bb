package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walgate/walgate/ha/postgres/guard"
)

// step is the pause between two looks at something that PostgreSQL does not announce.
const step = 5 * time.Millisecond

// pause waits for a step.
func pause(ctx context.Context) error {
	t := time.NewTimer(step)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Follow makes the standby stream from up (the zero Upstream: from nobody) without a restart.
func (i *Instance) Follow(ctx context.Context, up Upstream) error {
	defer i.exclusive()()
	if err := i.follow(ctx, up); err != nil {
		return fmt.Errorf("follow %s: %w", up.Node, err)
	}
	return nil
}

func (i *Instance) follow(ctx context.Context, up Upstream) error {
	owner, err := findOwner(i.cfg.DataDir)
	if err != nil {
		return err
	}
	if err := i.writeFollow(owner, up); err != nil {
		return err
	}
	return i.reload(ctx)
}

// writeFollow writes whom to follow. Reads that conflict with replay are cancelled at once while nobody is followed:
// what a promotion waits for must not wait for them.
func (i *Instance) writeFollow(owner *guard.Owner, up Upstream) error {
	content := "primary_conninfo = ''\nprimary_slot_name = ''\nmax_standby_streaming_delay = 0\nmax_standby_archive_delay = 0\n"
	if up != (Upstream{}) {
		content = fmt.Sprintf("primary_conninfo = %s\nprimary_slot_name = %s\n",
			quoteConf(i.conninfo(up)), quoteConf(SlotName(i.cfg.Node)))
	}
	name, err := json.Marshal(up)
	if err != nil {
		return fmt.Errorf("word whom to follow: %w", err)
	}
	return writeFile(owner, i.statePath(followConf), []byte(followMark+string(name)+"\n"+content))
}

// followMark begins the first line of followConf, which names the upstream for the next agent.
const followMark = "# Written by walgate. Follows "

// followed returns whom followConf names.
func (i *Instance) followed() Upstream {
	content, err := os.ReadFile(i.statePath(followConf))
	if err != nil {
		return Upstream{}
	}
	line, _, _ := strings.Cut(string(content), "\n")
	var up Upstream
	if err := json.Unmarshal([]byte(strings.TrimPrefix(line, followMark)), &up); err != nil {
		return Upstream{}
	}
	return up
}

// conninfo is what the WAL receiver connects with. The password is in the passfile.
func (i *Instance) conninfo(up Upstream) string {
	settings := [][2]string{
		{"host", up.Host}, {"port", strconv.Itoa(up.Port)}, {"user", RoleReplicator}, {"dbname", Superuser},
		{"application_name", string(i.cfg.Node)}, {"passfile", i.statePath("passfile")}, {"connect_timeout", "2"},
		{"keepalives_idle", "3"}, {"keepalives_interval", "1"}, {"keepalives_count", "3"},
		{"tcp_user_timeout", "5000"}, {"sslmode", "prefer"}, {"target_session_attrs", "any"},
	}
	words := make([]string, 0, len(settings))
	for _, s := range settings {
		words = append(words, s[0]+"="+quoteConninfo(s[1]))
	}
	return strings.Join(words, " ")
}

// Freeze stops the WAL receiver, waits until it is gone, and returns the flushed position, which is final until Follow.
func (i *Instance) Freeze(ctx context.Context) (Position, error) {
	defer i.exclusive()()
	position, err := i.freeze(ctx)
	if err != nil {
		return Position{}, fmt.Errorf("freeze: %w", err)
	}
	return position, nil
}

func (i *Instance) freeze(ctx context.Context) (Position, error) {
	if err := i.follow(ctx, Upstream{}); err != nil {
		return Position{}, err
	}
	if err := i.inForce(ctx, "primary_conninfo", ""); err != nil {
		return Position{}, err
	}
	// From here on the startup process asks for no new receiver: the signal to reload reached it before any session
	// could see the new value. Two looks in a row must find none.
	for none := 0; none < 2; {
		if i.life.Load().Postmaster == 0 {
			return Position{}, ErrNotRunning
		}
		receivers, unnamed, err := i.receivers()
		if err != nil {
			return Position{}, err
		}
		if len(receivers) == 0 && unnamed == 0 {
			none++
		} else {
			none = 0
			// It ends by itself once the startup process looks, which can be busy replaying. Told to end, the
			// receiver flushes what it has first.
			for _, pid := range receivers {
				if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
					return Position{}, fmt.Errorf("end WAL receiver: %w", err)
				}
			}
		}
		if err := pause(ctx); err != nil {
			return Position{}, err
		}
	}
	facts, err := i.Status(ctx)
	if err != nil {
		return Position{}, err
	}
	return Position{Timeline: facts.Timeline, LSN: facts.Position}, nil
}

// receivers returns the pids of living WAL receivers, and how many children of the postmaster have no name yet: each of
// those may become one.
func (i *Instance) receivers() (pids []int, unnamed int, err error) {
	named, unnamed, err := i.children()
	for pid, title := range named {
		if title == "walreceiver" || strings.HasPrefix(title, "walreceiver ") {
			pids = append(pids, pid)
		}
	}
	return pids, unnamed, err
}

// children returns what the living children of the postmaster call themselves in their titles, without the prefix
// "postgres: " and the cluster's name (src/backend/utils/misc/ps_status.c), and how many have not said yet.
func (i *Instance) children() (named map[int]string, unnamed int, err error) {
	postmaster := i.life.Load().Postmaster
	if postmaster == 0 {
		return nil, 0, ErrNotRunning
	}
	named = make(map[int]string)
	for _, pid := range guard.Children(postmaster) {
		title, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
		text := strings.TrimRight(string(title), "\x00 ")
		if err != nil || text == "" {
			continue // it has ended
		}
		if rest, ok := strings.CutPrefix(text, "postgres: "); ok {
			named[pid] = strings.TrimPrefix(rest, i.cfg.Cluster+": ")
		} else if p, err := guard.ReadProcess(pid); err == nil && p.Name == "postgres" {
			unnamed++ // still under its parent's title; archive commands and the like have other names
		}
	}
	return named, unnamed, nil
}

// inForce waits until a fresh session sees the value of a setting: then the postmaster has read its files and has told
// all its children.
func (i *Instance) inForce(ctx context.Context, name, value string) error {
	for {
		var got string
		err := i.with(ctx, func(conn *pgconn.PgConn) error {
			var err error
			got, err = one(ctx, conn, "SELECT current_setting($1)", name)
			return err
		})
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if got == value {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("%s is not in force: %w", name, err)
		}
	}
}
