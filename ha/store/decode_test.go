package store

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// FuzzDecode: what another version or another program has left in etcd is understood whole, so that it survives being
// written again, or refused; and a value is believed only under the key where it belongs.
func FuzzDecode(f *testing.F) {
	f.Add("record", `{"version":1,"epoch":2,"primary":"a","timeline":3}`)
	f.Add("beat", `{"epoch":1,"holder":"a","n":7,"flush":"0/3000148"}`)
	f.Add("init", `"a"`)
	f.Add("votes/"+epochName(2)+"/a", `{"epoch":2,"node":"a","withdrawn":true}`)
	f.Add("ledger/"+epochName(1), `{"epoch":1} {}`)
	f.Add("nodes/a", `{"name":"b"}`)
	f.Add("proxies/x", `{"id":"x","unknown":1}`)
	f.Fuzz(func(t *testing.T, name, value string) {
		var s, again Snapshot
		if s.add(item{value: []byte(value), rev: 1}, name) != nil {
			return
		}
		for key, v := range stored(&s) {
			if folder, _, _ := strings.Cut(name, "/"); !strings.HasPrefix(key, folder) || key != name && folder != keyRecord && folder != keyBeat && folder != keyInit {
				t.Fatalf("a value of %q was taken under %q", key, name)
			}
			text, err := json.Marshal(v)
			if err != nil {
				t.Fatalf("%q under %q can't be written again: %v", value, name, err)
			}
			if err := again.add(item{value: text, rev: 1}, key); err != nil {
				t.Fatalf("%s is not read again: %v", text, err)
			}
			if once, twice := fmt.Sprint(stored(&s)), fmt.Sprint(stored(&again)); once != twice && !reflect.DeepEqual(stored(&s), stored(&again)) {
				second, err := json.Marshal(stored(&again)[key])
				if err != nil || string(second) != string(text) {
					t.Fatalf("%s became %s", text, second)
				}
			}
		}
	})
}

// stored is what was decoded, by the key under which it is stored.
func stored(s *Snapshot) map[string]any {
	all := map[string]any{}
	if s.Record != nil {
		all[keyRecord] = s.Record
	}
	if s.Beat != nil {
		all[keyBeat] = s.Beat
	}
	if s.InitHolder != "" {
		all[keyInit] = s.InitHolder
	}
	for _, v := range s.Votes {
		all[keyVotes+epochName(v.Epoch)+"/"+string(v.Node)] = voteValue{Vote: v.Vote}
	}
	for _, e := range s.Ledger {
		all[keyLedger+epochName(e.Epoch)] = e
	}
	for _, r := range s.Nodes {
		all[keyNodes+string(r.Name)] = r
	}
	for _, r := range s.Proxies {
		all[keyProxies+r.ID] = r
	}
	return all
}
