package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// unsafe lets a verb through that changes something: with the token, or without any token configured on a listener that
// only this machine reaches. There a browser must not be talked into it by a foreign page: the request may come from no
// other origin, nor name a host that is not loopback (DNS rebinding).
func (s *Server) unsafe(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.cfg.Token != "":
			if !bearer(r, s.cfg.Token) {
				w.Header().Set("WWW-Authenticate", `Bearer realm="walgate"`)
				writeProblem(w, http.StatusUnauthorized, Problem{
					Error: "this verb needs the API's token", Hint: "send Authorization: Bearer TOKEN; the verbs of walgate read it with --token-file",
				})
				return
			}
		case !loopbackListen(s.cfg.Listen):
			writeProblem(w, http.StatusForbidden, Problem{
				Error: "this verb is refused on an address that other machines reach", Hint: "set api.token_file, or api.listen to a loopback address",
			})
			return
		case !sameOrigin(r) || !loopbackName(hostOnly(r.Host)):
			writeProblem(w, http.StatusForbidden, Problem{Error: "this verb is refused for another origin or host name"})
			return
		}
		next(w, r)
	}
}

func bearer(r *http.Request, token string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	want, have := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(given))
	return subtle.ConstantTimeCompare(want[:], have[:]) == 1 && ok
}

func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return r.Header.Get("Sec-Fetch-Site") == "" || r.Header.Get("Sec-Fetch-Site") == "same-origin"
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

func hostOnly(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

func loopbackListen(listen string) bool { return loopbackName(hostOnly(listen)) }

func loopbackName(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
