package app

import (
	"fmt"

	"github.com/walgate/walgate/proxy/secure"
)

// leg is what proxy.tls means; Validate has checked the names.
func (t ProxyTLSConfig) leg() secure.ClientConfig {
	mode, _ := secure.ParseMode(t.Mode)
	version, _ := secure.ParseVersion(t.MinVersion)
	return secure.ClientConfig{
		Mode: mode, MinVersion: version,
		Files: secure.Files{CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile},
	}
}

// leg is what proxy.server_tls means; Validate has checked the names.
func (t ServerTLSConfig) leg() secure.ServerConfig {
	mode, _ := secure.ParseMode(t.Mode)
	version, _ := secure.ParseVersion(t.MinVersion)
	return secure.ServerConfig{
		Mode: mode, MinVersion: version, Direct: t.Negotiation == "direct",
		Files: secure.Files{CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile},
	}
}

// listenerTLS is the mode of one listener; nil: that of all.
func listenerTLS(name string) *secure.Mode {
	if name == "" {
		return nil
	}
	mode, _ := secure.ParseMode(name)
	return &mode
}

// proxyTLS checks both legs.
func (k *check) proxyTLS(p ProxyConfig) {
	modes := []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}
	before := len(k.problems)
	for key, t := range map[string]struct{ mode, version string }{
		"proxy.tls": {p.TLS.Mode, p.TLS.MinVersion}, "proxy.server_tls": {p.ServerTLS.Mode, p.ServerTLS.MinVersion},
	} {
		k.oneOf(key+".mode", t.mode, modes...)
		k.oneOf(key+".min_version", t.version, "1.2", "1.3")
	}
	k.oneOf("proxy.server_tls.negotiation", p.ServerTLS.Negotiation, "postgres", "direct")
	k.tls("proxy.tls", TLSConfig{CAFile: p.TLS.CAFile, CertFile: p.TLS.CertFile, KeyFile: p.TLS.KeyFile})
	k.tls("proxy.server_tls", TLSConfig{CAFile: p.ServerTLS.CAFile, CertFile: p.ServerTLS.CertFile, KeyFile: p.ServerTLS.KeyFile})
	for i, l := range p.Listeners {
		key := fmt.Sprintf("proxy.listeners[%d].tls", i)
		k.oneOf(key, l.TLS, append(modes, "")...)
		if l.TLS != "" && len(k.problems) == before {
			own := p.TLS
			own.Mode = l.TLS
			k.leg(key, own.leg().Validate())
		}
	}
	if len(k.problems) == before {
		k.leg("proxy.tls", p.TLS.leg().Validate())
		k.leg("proxy.server_tls", p.ServerTLS.leg().Validate())
	}
}

func (k *check) leg(key string, err error) {
	if err != nil {
		k.failf(key, "%v", err)
	}
}
