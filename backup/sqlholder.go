package backup

import (
	"context"
	"sync"
	"time"

	"github.com/pgcairn/pgcairn/internal/pgfile"
)

const (
	// holdCheck is how often it is made sure, while files are read, that the backup is still held. It also keeps a
	// firewall from taking the connection for idle.
	holdCheck = 10 * time.Second
	// holdTimeout is how long the answer may take.
	holdTimeout = 30 * time.Second
)

// holder is the connection that holds a backup whose files others read.
type holder struct {
	server
	check *time.Ticker // when to make sure again

	mu      sync.Mutex
	stopped bool // in order: what follows does not depend on the connection
	lost    *SessionLostError
}

// held returns a *SessionLostError unless the backup is still in progress, or has been stopped in order.
func (h *holder) held(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.stopped {
		return nil
	}
	if h.lost == nil {
		// The end of the caller's context must not close the connection, which others count on.
		ping, cancel := context.WithTimeout(context.WithoutCancel(ctx), holdTimeout)
		defer cancel()
		if err := h.ping(ping); err != nil {
			h.lost = &SessionLostError{Err: err}
		}
	}
	if h.lost != nil {
		return h.lost
	}
	return nil
}

// ping makes sure that the connection lives. Who asks it for something meanwhile proves that as well.
func (s *server) ping(ctx context.Context) error {
	if !s.mu.TryLock() {
		return nil
	}
	defer s.mu.Unlock()
	return s.conn.Ping(ctx)
}

// heldLately is held, when it is time to ask again.
func (h *holder) heldLately(ctx context.Context) error {
	select {
	case <-h.check.C:
		return h.held(ctx)
	default:
		return nil
	}
}

// end stops the backup on the server.
func (h *holder) end(ctx context.Context, control pgfile.Control, content []byte) (Stop, error) {
	stop, err := h.server.end(ctx, control, content)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = err == nil
	return stop, err
}

func (h *holder) close() error {
	h.check.Stop()
	return h.server.close()
}
