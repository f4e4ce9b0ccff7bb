package auth

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/xdg-go/scram"
)

// The exchange of RFC 7677, section 3.
const (
	rfcClientNonce = "rOprNGfwEbeRWgbNEkqO"
	rfcServerNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
)

func rfcVerifier(t *testing.T) Verifier {
	t.Helper()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVerifier("pencil", salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func rfcExchange(t *testing.T, known bool) *Exchange {
	t.Helper()
	e := newExchange(rfcVerifier(t), known, nil)
	e.nonce = rfcServerNonce
	return e
}

func TestExchangeRFC7677(t *testing.T) {
	e := rfcExchange(t, true)
	first, err := e.First(Mechanism, []byte("n,,n=user,r="+rfcClientNonce))
	if err != nil || string(first) != rfcServerFirst {
		t.Fatalf("First = %q, %v; want %q", first, err, rfcServerFirst)
	}
	final, keys, err := e.Final([]byte(rfcClientFinal))
	if err != nil || string(final) != rfcServerFinal {
		t.Fatalf("Final = %q, %v; want %q", final, err, rfcServerFinal)
	}
	want, err := deriveKeys("pencil", e.verifier.Salt, 4096)
	if err != nil || keys != want {
		t.Errorf("recovered keys = %x, want %x (%v)", keys, want, err)
	}
}

func TestClientRFC7677(t *testing.T) {
	keys, err := deriveKeys("pencil", rfcVerifier(t).Salt, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for name, secret := range map[string]Secret{
		"password": {Password: "pencil"},
		"keys":     {Keys: []SaltedKeys{{Keys: keys, Salt: string(rfcVerifier(t).Salt), Iterations: 4096}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClient(secret)
			c.nonce, c.clientBare = rfcClientNonce, []byte("n=user,r="+rfcClientNonce)
			final, err := c.Final([]byte(rfcServerFirst))
			if err != nil || string(final) != rfcClientFinal {
				t.Fatalf("Final = %q, %v; want %q", final, err, rfcClientFinal)
			}
			if err := c.Verify([]byte(rfcServerFinal)); err != nil {
				t.Errorf("Verify: %v", err)
			}
			if err := c.Verify([]byte("v=" + strings.Repeat("A", 43) + "=")); !errors.Is(err, ErrServerProof) {
				t.Errorf("Verify of a wrong proof: %v, want ErrServerProof", err)
			}
		})
	}
}

// Against an independent implementation, in both directions.
func TestAgainstXDG(t *testing.T) {
	verifier := rfcVerifier(t)
	client, err := scram.SHA256.NewClient("user", "pencil", "")
	if err != nil {
		t.Fatal(err)
	}
	conversation := client.NewConversation()
	message, err := conversation.Step("")
	if err != nil {
		t.Fatal(err)
	}
	e := newExchange(verifier, true, nil)
	first, err := e.First(Mechanism, []byte(message))
	if err != nil {
		t.Fatal(err)
	}
	if message, err = conversation.Step(string(first)); err != nil {
		t.Fatal(err)
	}
	final, keys, err := e.Final([]byte(message))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conversation.Step(string(final)); err != nil || !conversation.Valid() {
		t.Fatalf("the other client does not accept us: %v", err)
	}

	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) {
		return scram.StoredCredentials{
			KeyFactors: scram.KeyFactors{Salt: string(verifier.Salt), Iters: verifier.Iterations},
			StoredKey:  verifier.StoredKey[:], ServerKey: verifier.ServerKey[:],
		}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	theirs := server.NewConversation()
	ours := NewClient(Secret{Keys: []SaltedKeys{{Keys: keys, Salt: string(verifier.Salt), Iterations: verifier.Iterations}}})
	challenge, err := theirs.Step(string(ours.First()))
	if err != nil {
		t.Fatal(err)
	}
	proof, err := ours.Final([]byte(challenge))
	if err != nil {
		t.Fatal(err)
	}
	outcome, err := theirs.Step(string(proof))
	if err != nil || !theirs.Valid() {
		t.Fatalf("the other server does not accept the recovered keys: %v", err)
	}
	if err := ours.Verify([]byte(outcome)); err != nil {
		t.Error(err)
	}
}

func TestExchangeRefuses(t *testing.T) {
	const first = "n,,n=user,r=" + rfcClientNonce
	tests := []struct {
		name, first, final string
		unknown            bool
		want               error
	}{
		{"unknown role, right proof", first, rfcClientFinal, true, ErrDenied},
		{"wrong proof", first, strings.Replace(rfcClientFinal, "p=dHz", "p=dHa", 1), false, ErrDenied},
		{"short proof", first, strings.Replace(rfcClientFinal, "p=dHzb", "p=", 1), false, ErrMalformed},
		{"no proof", first, rfcClientFinal[:len(rfcClientFinal)-47], false, ErrMalformed},
		{"other nonce", first, strings.Replace(rfcClientFinal, "rOprN", "rOprM", 1), false, ErrMalformed},
		{"downgraded binding", first, strings.Replace(rfcClientFinal, "c=biws", "c=eSws", 1), false, ErrMalformed},
		{"channel binding", "p=tls-unique,,n=user,r=abc", "", false, ErrMalformed},
		{"authzid", "n,a=root,n=user,r=abc", "", false, ErrMalformed},
		{"mandatory extension", "n,,m=x,n=user,r=abc", "", false, ErrMalformed},
		{"empty nonce", "n,,n=user,r=", "", false, ErrMalformed},
		{"unprintable nonce", "n,,n=user,r=a\tb", "", false, ErrMalformed},
		{"zero byte", "n,,n=user,r=a\x00b", "", false, ErrMalformed},
		{"too long", "n,,n=user,r=" + strings.Repeat("a", maxSCRAMMessage), "", false, ErrMalformed},
		{"empty", "", "", false, ErrMalformed},
		{"second first", first, "n,,n=user,r=abc", false, ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := rfcExchange(t, !tt.unknown)
			_, err := e.First(Mechanism, []byte(tt.first))
			if tt.final != "" {
				if err != nil {
					t.Fatalf("First: %v", err)
				}
				var keys Keys
				if _, keys, err = e.Final([]byte(tt.final)); keys != (Keys{}) {
					t.Errorf("keys of a refused exchange: %x", keys)
				}
			}
			if !errors.Is(err, tt.want) {
				t.Errorf("error = %v, want %v", err, tt.want)
			}
		})
	}
}

// A client that knows about channel binding but is offered none says y.
func TestExchangeY(t *testing.T) {
	e := newExchange(rfcVerifier(t), true, nil)
	c := NewClient(Secret{Password: "pencil"})
	message := append([]byte("y,,"), c.First()[3:]...)
	first, err := e.First(Mechanism, message)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Final([]byte("c=eSws,r=" + string(e.fullNonce) + ",p=" + strings.Repeat("A", 43) + "=")); !errors.Is(err, ErrDenied) {
		t.Errorf("after %q: %v, want ErrDenied (the form is right)", first, err)
	}
}

func TestVerifier(t *testing.T) {
	v := rfcVerifier(t)
	parsed, err := ParseVerifier(v.String())
	if err != nil || !cmp.Equal(parsed, v) {
		t.Errorf("ParseVerifier(String()) = %v, %v; want %v", parsed, err, v)
	}
	text := v.String()
	for name, bad := range map[string]string{
		"empty": "", "md5": "md5a3556571e93b0d20722ba62be61e8c2d", "no keys": text[:40],
		"short stored key": strings.Replace(text, text[44:50], "", 1), "no iterations": strings.Replace(text, "4096", "", 1),
		"negative iterations": strings.Replace(text, "4096", "-1", 1), "huge iterations": strings.Replace(text, "4096", "99999999999", 1),
		"no salt": strings.Replace(text, "W22ZaJ0SNY7soEsUEjb6gQ==", "", 1),
	} {
		if _, err := ParseVerifier(bad); !errors.Is(err, ErrVerifier) {
			t.Errorf("%s: error = %v, want ErrVerifier", name, err)
		}
	}
}

func TestInitialResponse(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		ok   bool
	}{
		"good":           {"SCRAM-SHA-256\x00\x00\x00\x00\x03n,,", true},
		"long mechanism": {"SCRAM-SHA-256-PLUS-PLUS\x00\x00\x00\x00\x03n,,", false},
		"none":           {"SCRAM-SHA-256\x00\xff\xff\xff\xff", false},
		"too long":       {"SCRAM-SHA-256\x00\x00\x00\x00\x04n,,", false},
		"huge":           {"SCRAM-SHA-256\x00\x7f\xff\xff\xffn,,", false},
		"no zero":        {"SCRAM-SHA-256", false},
		"no length":      {"SCRAM-SHA-256\x00\x00\x00", false},
	} {
		_, data, err := InitialResponse([]byte(tt.body))
		if (err == nil) != tt.ok || tt.ok && string(data) != "n,," {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestMD5Response(t *testing.T) {
	want := "md5911f527656472583a006e7727877b33e" // select 'md5' || md5(md5('secretapp')::bytea || '\\x01020304')
	if got := MD5Response(MD5Hash("app", "secret"), [4]byte{1, 2, 3, 4}); got != want {
		t.Errorf("MD5Response = %q, want %q", got, want)
	}
}

func FuzzExchange(f *testing.F) {
	f.Add("n,,n=user,r="+rfcClientNonce, rfcClientFinal)
	f.Add("y,,n=,r=a,x=1", "c=eSws,r=a,p=")
	f.Fuzz(func(t *testing.T, first, final string) {
		e := newExchange(Verifier{Iterations: 1, Salt: []byte("salt")}, true, nil)
		if _, err := e.First(Mechanism, []byte(first)); err != nil {
			return
		}
		if _, _, err := e.Final([]byte(final)); err == nil {
			t.Errorf("a proof of nothing was accepted: %q %q", first, final)
		}
	})
}
