package proxy_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walgate/walgate/replication"
)

// saboteur sits between the proxy and PostgreSQL and spoils what passes. toServer and toClient may change a message, and
// drop it by returning nil; they are called by one goroutine at a time.
type saboteur struct {
	mu       sync.Mutex
	toServer func(m []byte) []byte
	toClient func(conn int, m []byte) []byte
}

// become spoils as other does, from now on.
func (s *saboteur) become(other *saboteur) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.toServer, s.toClient = other.toServer, other.toClient
}

// listen relays connections to target until the test ends, and returns its port.
func (s *saboteur) listen(t *testing.T, target string) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	ended := make(chan struct{})
	t.Cleanup(func() {
		close(ended)
		_ = l.Close()
		work.Wait()
	})
	work.Go(func() { // ends with the listener, and what it started with the connections
		for n := 0; ; n++ {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", target)
			if err != nil {
				_ = client.Close()
				continue
			}
			work.Go(func() { // ends with the test
				<-ended
				_ = client.Close()
				_ = server.Close()
			})
			work.Go(func() { s.relay(client, server, true, func(m []byte) []byte { return s.toServer(m) }) })
			work.Go(func() { s.relay(server, client, false, func(m []byte) []byte { return s.toClient(n, m) }) })
		}
	})
	return l.Addr().(*net.TCPAddr).Port
}

// relay passes messages on, one by one, until either side ends.
func (s *saboteur) relay(from, to net.Conn, startup bool, spoil func([]byte) []byte) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
	}()
	for {
		header := make([]byte, 5)
		if startup {
			header = header[:4] // the first packet has no type
		}
		if _, err := io.ReadFull(from, header); err != nil {
			return
		}
		m := append(header, make([]byte, binary.BigEndian.Uint32(header[len(header)-4:])-4)...)
		if _, err := io.ReadFull(from, m[len(header):]); err != nil {
			return
		}
		if !startup {
			s.mu.Lock()
			m = spoil(m)
			s.mu.Unlock()
		}
		startup = false
		if _, err := to.Write(m); err != nil {
			return
		}
	}
}

// rewritten is the message with another body.
func rewritten(m []byte, body string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{m[0]}, uint32(len(body)+4)), body...)
}

func untouched(m []byte) []byte { return m }

func heardAs(_ int, m []byte) []byte { return m }

// sabotages break one thing each that keeps sessions apart.
func sabotages() map[string]*saboteur {
	type said struct {
		conn int
		m    []byte
	}
	last := map[byte]said{}
	// another returns what another connection said last of that kind, now and then.
	another := func(typ byte) func(int, []byte) []byte {
		n := 0
		return func(conn int, m []byte) []byte {
			if m[0] != typ {
				return m
			}
			was := last[typ]
			last[typ] = said{conn, m}
			if n++; n%20 == 0 && was.m != nil && was.conn != conn && len(was.m) == len(m) && !bytes.Equal(was.m, m) {
				return was.m
			}
			return m
		}
	}
	lost := func(typ byte) func(int, []byte) []byte {
		return func(_ int, m []byte) []byte {
			if m[0] == typ {
				return nil
			}
			return m
		}
	}
	// query spoils what the proxy itself says: it says it in capitals.
	query := func(prefix, instead string) func([]byte) []byte {
		return func(m []byte) []byte {
			if m[0] == 'Q' && strings.HasPrefix(string(m[5:]), prefix) {
				return rewritten(m, instead+"\x00")
			}
			return m
		}
	}
	return map[string]*saboteur{
		"settings are not restored":         {toServer: query("SELECT pg_catalog.set_config(", "SELECT 1"), toClient: heardAs},
		"settings of others are kept":       {toServer: query("RESET ", "SELECT 1"), toClient: heardAs},
		"what a session left is not reset":  {toServer: query("DISCARD ALL", "DISCARD SEQUENCES"), toClient: heardAs},
		"transactions are not rolled back":  {toServer: query("ROLLBACK", "COMMIT"), toClient: heardAs},
		"rows of another session":           {toServer: untouched, toClient: another('D')},
		"notices of another session":        {toServer: untouched, toClient: another('N')},
		"notices are lost":                  {toServer: untouched, toClient: lost('N')},
		"notifications are lost":            {toServer: untouched, toClient: lost('A')},
		"changed parameters are not told":   {toServer: untouched, toClient: lost('S')},
		"statements are prepared as others": {toServer: swapParses(), toClient: heardAs},
	}
}

// swapParses gives now and then a statement the text of the one before.
func swapParses() func([]byte) []byte {
	var before []byte
	n := 0
	return func(m []byte) []byte {
		name, text, ok := bytes.Cut(m[min(5, len(m)):], []byte{0})
		if m[0] != 'P' || !ok || !bytes.HasPrefix(name, []byte("wg_")) || !bytes.Contains(text, []byte("$1::int")) {
			return m
		}
		was := before
		before = text
		if n++; n%5 == 0 && was != nil && !bytes.Equal(was, text) {
			return rewritten(m, string(name)+"\x00"+string(was))
		}
		return m
	}
}

// TestLeaksAreSeen breaks what keeps sessions apart, one thing at a time: TestNothingLeaks would find each.
func TestLeaksAreSeen(t *testing.T) {
	w := newLeakWorld(t, leakPools)
	w.patience = 5 * time.Second
	seed := leakSeedOf(t)
	relay := new(saboteur)
	port := relay.listen(t, net.JoinHostPort(w.pg.host, strconv.Itoa(w.pg.port)))
	epoch := replication.Epoch(1)
	left := 3 * *leakRounds // in the order of a map, which is any
	for name, s := range sabotages() {
		if left--; left < 0 {
			break
		}
		t.Run(name, func(t *testing.T) {
			relay.become(s)
			epoch++ // so that all server connections are new ones, through the relay
			w.allow(epoch)
			view := w.writable(epoch)
			view.Members[0].Port = port
			w.view.Publish(view)
			eventually(t, "the view to be seen", func() bool { return w.server.Report().Epoch == epoch })
			err := w.run(t, seed, 6, time.Minute)
			if err == nil {
				t.Fatal("nothing was noticed")
			}
			lines := strings.Split(err.Error(), "\n")
			t.Logf("noticed: %s", strings.Join(lines[max(0, len(lines)-4):], "\n"))
		})
	}
}
