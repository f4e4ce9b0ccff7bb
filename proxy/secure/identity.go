package secure

import (
	"crypto"
	_ "crypto/sha256" // for binding
	_ "crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Protocol is PostgreSQL's name in ALPN.
const Protocol = "postgresql"

// Files names an identity and what the other side is checked against. Empty names mean none.
type Files struct {
	CertFile string
	KeyFile  string
	CAFile   string
}

// identity is what Files contain.
type identity struct {
	certificates []tls.Certificate // at most one
	roots        *x509.CertPool    // nil: none
	binding      []byte
}

// read loads all files.
func (f Files) read() (*identity, error) {
	id := &identity{}
	if (f.CertFile == "") != (f.KeyFile == "") {
		return nil, errors.New("cert_file and key_file go together")
	}
	if f.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(f.CertFile, f.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load certificate: %w", err)
		}
		id.certificates = []tls.Certificate{certificate}
		id.binding = binding(certificate.Leaf)
	}
	if f.CAFile != "" {
		content, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, fmt.Errorf("load CA: %w", err)
		}
		id.roots = x509.NewCertPool()
		if !id.roots.AppendCertsFromPEM(content) {
			return nil, fmt.Errorf("load CA: no certificate in %s", f.CAFile)
		}
	}
	return id, nil
}

// binding is the channel binding tls-server-end-point of RFC 5929: the hash of the certificate by the hash of its
// signature, at least SHA-256. nil: the signature has no single hash.
func binding(certificate *x509.Certificate) []byte {
	if certificate == nil {
		return nil
	}
	var hash crypto.Hash
	switch certificate.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.SHA256WithRSA, x509.ECDSAWithSHA256,
		x509.SHA256WithRSAPSS:
		hash = crypto.SHA256
	case x509.SHA384WithRSA, x509.ECDSAWithSHA384, x509.SHA384WithRSAPSS:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.ECDSAWithSHA512, x509.SHA512WithRSAPSS:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(certificate.Raw)
	return h.Sum(nil)
}
