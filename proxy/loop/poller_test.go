package loop

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walgate/walgate/replication"
)

// gcLimit is far more than a collection takes on a machine that stalls, and far less than for ever.
const gcLimit = time.Minute

// TestLoopsLetTheWorldStop: the raw wait is unknown to the Go runtime, so a loop that repeated it without yielding would
// keep a collection from ever beginning. Half of the pollers are idle; the others find something at every wait.
func TestLoopsLetTheWorldStop(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(6))
	var loops sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		p, err := newPoller()
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		if i%2 == 0 { // an eventfd that is always readable
			fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}); err != nil {
				t.Fatal(err)
			}
		}
		loops.Go(func() { // ends with stop
			for {
				select {
				case <-stop:
					return
				default:
					p.wait(10 * time.Millisecond)
				}
			}
		})
	}
	collected := make(chan struct{})
	go func() { // ends with the collections
		for range 50 {
			runtime.GC()
		}
		close(collected)
	}()
	select {
	case <-collected:
	case <-time.After(gcLimit):
		t.Error("the world can't be stopped while loops wait")
	}
	close(stop)
	loops.Wait()
}

func TestWakeEndsWait(t *testing.T) {
	p, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	for range 3 {
		done := make(chan int)
		go func() { // ends with the wake-up
			n := 0
			for n == 0 {
				n = p.wait(gcLimit)
			}
			done <- n
		}()
		p.wake()
		select {
		case <-done:
		case <-time.After(gcLimit):
			t.Fatal("a wake-up was not noticed")
		}
	}
}

// The heap of timers against a plain list.
func TestTimers(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var timers timers
	clients := make([]*client, 50)
	for i := range clients {
		clients[i] = new(client)
	}
	armed := map[*client]replication.Instant{}
	var now replication.Instant
	for range 5000 {
		c := clients[random.IntN(len(clients))]
		switch random.IntN(4) {
		case 0:
			timers.arm(c, 0)
			delete(armed, c)
		case 1, 2:
			at := now + 1 + replication.Instant(random.IntN(100))
			timers.arm(c, at)
			armed[c] = at
		default:
			now += replication.Instant(random.IntN(30))
			for c := timers.due(now); c != nil; c = timers.due(now) {
				if at, ok := armed[c]; !ok || at > now {
					t.Fatalf("a timer of %d is due at %d (armed: %v)", at, now, ok)
				}
				delete(armed, c)
			}
		}
		var first replication.Instant
		for _, at := range armed {
			if at <= now {
				t.Fatalf("a timer of %d was missed at %d", at, now)
			}
			if first == 0 || at < first {
				first = at
			}
		}
		if timers.next() != first {
			t.Fatalf("next = %d, want %d", timers.next(), first)
		}
		if len(timers.queue) != len(armed) || slices.Contains(timers.queue, nil) {
			t.Fatalf("%d in the heap, %d armed", len(timers.queue), len(armed))
		}
	}
}
