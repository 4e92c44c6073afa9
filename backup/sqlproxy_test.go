package backup_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgtest"
	"github.com/stretchr/testify/require"
)

// proxy passes TCP connections on to a server's socket.
type proxy struct {
	listener net.Listener
	target   string
	delay    time.Duration // of what the server sends

	mu       sync.Mutex
	rand     *rand.Rand
	lifetime int // bytes after which a connection is cut, at random up to twice as many; 0: none is
	spared   int // connections, of the next, that are not cut
	refuse   bool
	accepted int
	conns    []net.Conn
}

// newProxy makes a proxy for a cluster. The first connection, which is the one that holds a backup, is never cut.
func newProxy(t *testing.T, c *pgtest.Cluster, delay time.Duration, lifetime int) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{
		listener: l, target: fmt.Sprintf("%s/.s.PGSQL.%d", c.Socket, c.Port), delay: delay,
		rand: rand.New(rand.NewPCG(1, 2)), lifetime: lifetime, spared: 1,
	}
	var passing sync.WaitGroup
	passing.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			passing.Go(func() { p.pass(client) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.cut()
		passing.Wait()
	})
	return p
}

// dsn is a connection string by way of the proxy.
func (p *proxy) dsn() string {
	_, port, _ := net.SplitHostPort(p.listener.Addr().String())
	return "host=127.0.0.1 port=" + port + " user=postgres dbname=postgres sslmode=disable"
}

// admit decides how many bytes the server may send on a connection; less than 0: any number.
func (p *proxy) admit(conns ...net.Conn) (bytes int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse {
		return 0, false
	}
	p.accepted++
	p.conns = append(p.conns, conns...)
	if p.lifetime == 0 || p.spared > 0 {
		p.spared--
		return -1, true
	}
	return p.rand.IntN(2 * p.lifetime), true
}

func (p *proxy) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.target)
	if err != nil {
		return
	}
	defer server.Close()
	lifetime, ok := p.admit(client, server)
	if !ok {
		return
	}
	var both sync.WaitGroup
	defer both.Wait()
	both.Go(func() {
		io.Copy(server, client)
		server.Close()
	})
	type chunk struct {
		b   []byte
		due time.Time
	}
	chunks := make(chan chunk, 1000)
	both.Go(func() {
		defer client.Close()
		for c := range chunks {
			time.Sleep(time.Until(c.due)) // the latency
			if _, err := client.Write(c.b); err != nil {
				server.Close()
			}
		}
	})
	defer close(chunks)
	for {
		b := make([]byte, 32<<10)
		n, err := server.Read(b)
		if lifetime >= 0 {
			if n = min(n, lifetime); n == lifetime {
				err = io.EOF
			}
			lifetime -= n
		}
		chunks <- chunk{b[:n], time.Now().Add(p.delay)}
		if err != nil {
			server.Close()
			return
		}
	}
}

// cut closes all connections there are.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

// shut lets nobody in any more, and cuts the connections but the first.
func (p *proxy) shut() {
	p.mu.Lock()
	p.refuse = true
	p.mu.Unlock()
	p.cutReaders()
}

// cutReaders cuts the connections but the first.
func (p *proxy) cutReaders() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns[2:] {
		c.Close()
	}
	p.conns = p.conns[:2]
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted
}
