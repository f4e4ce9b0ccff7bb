package login

import (
	"context"
	"crypto/x509"
	"fmt"
	"os/user"
	"strconv"

	"github.com/walgate/walgate/proxy/auth/hba"
	"github.com/walgate/walgate/proxy/session"
)

// checkCertificate checks what the rule demands of the client's certificate; nil: it is met.
func (c *Conversation) checkCertificate() *session.Failure {
	if c.rule.ClientCert == hba.CertOptional || c.rule.Method == hba.Reject {
		return nil
	}
	certificate := c.certificate()
	if certificate == nil {
		return &session.Failure{
			SQLSTATE: "28000", Message: "connection requires a valid client certificate",
			Detail: "The client has sent none that a certificate of proxy.tls.ca_file has signed.",
			Hint:   "Give the client a certificate (sslcert and sslkey).",
		}
	}
	if c.rule.ClientCert != hba.CertVerifyFull {
		return nil
	}
	name := certificate.Subject.CommonName
	if c.rule.DN {
		name = certificate.Subject.String() // RFC 2253
	}
	if name != "" && c.policy.Maps.Allow(c.rule.Map, name, c.request.User) {
		return nil
	}
	return &session.Failure{
		SQLSTATE: "28000", Message: fmt.Sprintf("certificate authentication failed for user %q", c.request.User),
		Detail: "The name in the client's certificate is neither the user's nor mapped to it.",
		Hint:   "Names are mapped in the file of proxy.auth.ident_file, and the rule chooses the map with map=NAME.",
	}
}

// certificate is the client's, if TLS has verified it.
func (c *Conversation) certificate() *x509.Certificate {
	if c.peer.TLS == nil || len(c.peer.TLS.VerifiedChains) == 0 || len(c.peer.TLS.PeerCertificates) == 0 {
		return nil
	}
	return c.peer.TLS.PeerCertificates[0]
}

// checkPeer asks the operating system for the name of the user at the other end of the unix socket. It may read files.
func (c *Conversation) checkPeer(context.Context) Step {
	if c.peer.UID >= 0 {
		known, err := user.LookupId(strconv.Itoa(c.peer.UID))
		if err == nil && c.policy.Maps.Allow(c.rule.Map, known.Username, c.request.User) {
			return c.admit(nil)
		}
	}
	return c.refuse("28000", fmt.Sprintf("peer authentication failed for user %q", c.request.User),
		"The operating system's user at the other end of the socket is neither this user nor mapped to it.",
		"Names are mapped in the file of proxy.auth.ident_file, and the rule chooses the map with map=NAME.")
}
