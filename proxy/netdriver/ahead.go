package netdriver

import "net"

// aheadConn is a connection of which something has been read already: that is read again first.
type aheadConn struct {
	net.Conn
	ahead []byte
}

// Read implements net.Conn.
func (c *aheadConn) Read(b []byte) (int, error) {
	if len(c.ahead) > 0 {
		n := copy(b, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(b)
}

// whole is the client's connection for one who knows nothing of what in holds.
func (c *Client) whole() net.Conn {
	if c.in.start == c.in.end {
		return c.conn
	}
	ahead := append([]byte(nil), (*c.in.buf)[c.in.start:c.in.end]...)
	c.in.drop()
	c.in.park()
	return &aheadConn{Conn: c.conn, ahead: ahead}
}
