package loop

import (
	"container/heap"

	"github.com/walgate/walgate/replication"
)

// timers is the clients that have armed one, the earliest first. The zero value is empty.
type timers struct{ queue timerQueue }

// timerQueue implements heap.Interface. A client knows its place, plus 1; 0 is none.
type timerQueue []*client

func (q timerQueue) Len() int           { return len(q) }
func (q timerQueue) Less(i, j int) bool { return q[i].deadline < q[j].deadline }
func (q timerQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].timer, q[j].timer = int32(i+1), int32(j+1)
}

func (q *timerQueue) Push(x any) {
	c := x.(*client)
	*q = append(*q, c)
	c.timer = int32(len(*q))
}

func (q *timerQueue) Pop() any {
	old := *q
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	c.timer = 0
	return c
}

// arm sets the client's only timer; at 0 disarms it.
func (t *timers) arm(c *client, at replication.Instant) {
	c.deadline = at
	switch {
	case at == 0 && c.timer > 0:
		heap.Remove(&t.queue, int(c.timer-1))
	case at == 0:
	case c.timer > 0:
		heap.Fix(&t.queue, int(c.timer-1))
	default:
		heap.Push(&t.queue, c)
	}
}

// next is when the first timer ends, 0 when there is none.
func (t *timers) next() replication.Instant {
	if len(t.queue) == 0 {
		return 0
	}
	return t.queue[0].deadline
}

// due takes a client whose timer has ended; nil when there is none.
func (t *timers) due(now replication.Instant) *client {
	if len(t.queue) == 0 || t.queue[0].deadline > now {
		return nil
	}
	return heap.Pop(&t.queue).(*client)
}
