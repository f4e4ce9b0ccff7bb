package readtest

import (
	"time"

	"github.com/anishathalye/porcupine"
)

// Operation is one read or write of a row, for the checker of histories.
type Operation struct {
	Row          int
	Write        bool
	Value        int64
	Began, Ended time.Duration
	Unknown      bool // a write without an answer
}

// A standby may show a commit before it is acknowledged. So a write is two points in time: begin, from which on it may be
// seen, and end, from which on it must be. Between two reads of a value that is in between nothing is promised here:
// that is what monotonic reads are about, which the Report counts itself.
type (
	part  uint8
	input struct {
		row   int
		part  part
		value int64
	}
	register struct{ must, may int64 }
)

const (
	partRead part = iota
	partBegin
	partEnd
)

// strongModel is a register for each row: a read shows at least what was acknowledged before it began, and at most what
// was sent before it ended.
var strongModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		rows := map[int][]porcupine.Operation{}
		for _, op := range history {
			row := op.Input.(input).row
			rows[row] = append(rows[row], op)
		}
		var all [][]porcupine.Operation
		for _, ops := range rows {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return register{} },
	Step: func(state, in, out any) (bool, any) {
		now, op := state.(register), in.(input)
		switch op.part {
		case partBegin:
			now.may = max(now.may, op.value)
		case partEnd:
			now.must = max(now.must, op.value)
		default:
			shown := out.(int64)
			return now.must <= shown && shown <= now.may, now
		}
		return true, now
	},
}

// Strong reports whether the history is one of a register whose reads miss nothing that was acknowledged before they
// began. It gives up, with an answer of false, after limit.
func Strong(history []Operation, limit time.Duration) (ok bool, why string) {
	var ops []porcupine.Operation
	for i, op := range history {
		if !op.Write {
			ops = append(ops, porcupine.Operation{ClientId: i, Input: input{row: op.Row}, Output: op.Value, Call: int64(op.Began), Return: int64(op.Ended)})
			continue
		}
		at := int64(op.Began)
		ops = append(ops, porcupine.Operation{ClientId: i, Input: input{op.Row, partBegin, op.Value}, Call: at, Return: at})
		if !op.Unknown {
			at = int64(op.Ended)
			ops = append(ops, porcupine.Operation{ClientId: i, Input: input{op.Row, partEnd, op.Value}, Call: at, Return: at})
		}
	}
	result := porcupine.CheckOperationsTimeout(strongModel, ops, limit)
	return result == porcupine.Ok, string(result)
}
