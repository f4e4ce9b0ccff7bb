// Package app composes walgate: it owns the configuration file and every default, wires the agent, the store, the proxy
// and the API of one node (RunNode) or of a stateless proxy (RunProxy), and manages the processes of a demo cluster. It
// is the only package that sees both proxy and ha; it decides nothing about leadership or routing itself.
package app
