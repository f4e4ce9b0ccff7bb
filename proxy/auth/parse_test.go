package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzUsers: a user file that is read can be written and read again, and every refusal names its line.
func FuzzUsers(f *testing.F) {
	f.Add(`"a" "b"` + "\n;x\n\n" + `"q""q" "md5a3556571e93b0d20722ba62be61e8c2d" ignored`)
	f.Add(`"u" "SCRAM-SHA-256$4096:c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="`)
	f.Add(`"a" "b` + "\n" + `"a" ""`)
	f.Fuzz(func(t *testing.T, content string) {
		users, err := ParseUsers("f", []byte(content))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") || users != nil {
				t.Fatalf("%v, %d users", err, len(users))
			}
			return
		}
		var b strings.Builder
		for name, c := range users {
			if name == "" || len(name) > maxSecretText || len(c.Text) > maxSecretText || c.Kind == NoCredential && c.Text != "" {
				t.Fatalf("%q: %+v", name, c)
			}
			quote := func(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
			fmt.Fprintf(&b, "%s %s\n", quote(name), quote(c.Text))
		}
		again, err := ParseUsers("f", []byte(b.String()))
		if err != nil || !cmp.Equal(again, users) {
			t.Fatalf("read again: %v\n%s", err, cmp.Diff(users, again))
		}
	})
}

// FuzzVerifier: a verifier that is read keeps its meaning when it is written.
func FuzzVerifier(f *testing.F) {
	v, err := NewVerifier("pencil", []byte("salt"), 4096)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(v.String())
	f.Add("SCRAM-SHA-256$-1:$:")
	f.Add("md5a3556571e93b0d20722ba62be61e8c2d")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseVerifier(text)
		if c := ParseCredential(text); (c.Kind == SCRAMCredential) != (err == nil) || c.Kind == PlainCredential {
			t.Fatalf("credential %+v of a verifier with error %v", c, err)
		}
		if err != nil {
			return
		}
		again, err := ParseVerifier(v.String())
		if err != nil || !cmp.Equal(again, v) {
			t.Fatalf("read again: %v, %v", again, err)
		}
	})
}

// FuzzServerMessages: our side of a SCRAM conversation believes no server that does not know the role's verifier.
func FuzzServerMessages(f *testing.F) {
	f.Add("", ",s=c2FsdA==,i=4096", "v=AAAA")
	f.Add("x", "yyy,s=,i=1", "v=")
	f.Add("m=x", ",s=c2FsdA==,i=1,x=y", "e=other-error")
	f.Fuzz(func(t *testing.T, before, after, final string) {
		// Keys that are known already, so that none has to be derived.
		c := NewClient(Secret{Keys: []SaltedKeys{{Salt: "salt", Iterations: 4096}, {Salt: "salt", Iterations: 1}}})
		if err := c.Verify([]byte(final)); err == nil {
			t.Fatal("believed before it has spoken")
		}
		c.First()
		answer, err := c.Final([]byte("r=" + c.nonce + before + after))
		if err == nil && len(answer) == 0 {
			t.Fatal("no answer and no error")
		}
		if c.Verify([]byte(final)) == nil {
			t.Fatalf("believed %q", final)
		}
	})
}
