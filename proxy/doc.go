// Package proxy is the server that clients connect to: its listeners, the registry of its sessions, cancel keys, who may
// have a server connection now, and the numbers about all that. What a session does is decided in proxy/session, and
// carried out by a driver (proxy/netdriver). It follows two feeds, the View and the StatusBoard, and never decides who
// is primary. The main type is Server.
package proxy
