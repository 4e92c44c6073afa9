package s3test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault is what a [Proxy] does to a request.
type Fault int

// The faults. After those whose names begin with Done the server has done what it was asked, though the client is not
// told so.
const (
	None        Fault = iota // pass the request on
	Busy                     // answer 503, as a service does that is asked too often
	Broken                   // answer 500
	Cut                      // break off the connection in the middle of the request
	Stall                    // never answer
	CutAnswer                // break off the connection in the middle of the answer
	DoneBroken               // answer 500
	DoneCut                  // break off the connection in the place of the answer
	DoneStalled              // never answer
)

// String is the name of a fault.
func (f Fault) String() string {
	return [...]string{"none", "busy", "broken", "cut", "stall", "cut answer", "done, broken", "done, cut", "done, stalled"}[f]
}

// Request is a request to a bucket.
type Request struct {
	Op  string // the HTTP method, or LIST
	Key string // in the bucket, or the prefix of a LIST
}

// Proxy passes requests on to a server. It is safe for concurrent use.
type Proxy struct {
	// Endpoint is its address, http://host:port.
	Endpoint string

	pass http.Handler
	end  chan struct{} // closed after the test

	mu       sync.Mutex
	script   func(Request) Fault
	delay    time.Duration
	requests []Request
	crowd    int // how many requests wait for each other
	selected func(Request) bool
	waiting  int
	released chan struct{} // closed when the crowd is complete
}

// NewProxy starts a proxy before the server at an endpoint. It ends with the test.
func NewProxy(t testing.TB, endpoint string) *Proxy {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatalf("s3test: %v", err)
	}
	// As many connections as requests, so that none waits for another.
	transport := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	p := &Proxy{end: make(chan struct{})}
	p.pass = &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // which is signed
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	front := httptest.NewServer(p)
	p.Endpoint = front.URL
	t.Cleanup(func() {
		close(p.end)
		front.Close()
		transport.CloseIdleConnections()
	})
	return p
}

// Script has f say what befalls each request from now on. f is called by one goroutine at a time; nil passes all on.
func (p *Proxy) Script(f func(Request) Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.script = f
}

// Delay makes each request from now on take so much longer.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Gather makes each of the requests that f selects wait until n of them have come, and then passes these on together.
func (p *Proxy) Gather(n int, f func(Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.crowd, p.selected, p.waiting, p.released = n, f, 0, make(chan struct{})
}

// Requests are those that have come since it was last called, in order.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.requests
	p.requests = nil
	return all
}

// orders say what is to befall a request.
type orders struct {
	fault Fault
	delay time.Duration
	after <-chan struct{} // what to wait for, unless nil
}

// note takes note of a request.
func (p *Proxy) note(r *http.Request) orders {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	request := Request{Op: r.Method, Key: key}
	if r.Method == http.MethodGet && r.URL.Query().Has("list-type") {
		request = Request{Op: "LIST", Key: r.URL.Query().Get("prefix")}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, request)
	o := orders{delay: p.delay}
	if p.script != nil {
		o.fault = p.script(request)
	}
	if p.selected != nil && p.selected(request) {
		o.after = p.released
		if p.waiting++; p.waiting == p.crowd {
			close(p.released)
			p.waiting, p.released = 0, make(chan struct{})
		}
	}
	return o
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o := p.note(r)
	if o.after != nil {
		select {
		case <-o.after:
		case <-p.end:
		}
	}
	time.Sleep(o.delay)
	fault := o.fault
	switch fault {
	case Busy, Broken, Stall:
		_, _ = io.Copy(io.Discard, r.Body) // or else the client finds no more than a broken connection
	case Cut:
		_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	case CutAnswer:
		p.pass.ServeHTTP(&halved{ResponseWriter: w}, r)
	case DoneBroken, DoneCut, DoneStalled:
		p.pass.ServeHTTP(httptest.NewRecorder(), r)
	default:
		p.pass.ServeHTTP(w, r)
		return
	}
	switch fault {
	case Busy:
		refuse(w, http.StatusServiceUnavailable, "SlowDown")
	case Broken, DoneBroken:
		refuse(w, http.StatusInternalServerError, "InternalError")
	case Stall, DoneStalled:
		select {
		case <-r.Context().Done(): // the client has gone away
		case <-p.end:
		}
	default:
		panic(http.ErrAbortHandler)
	}
}

// refuse answers as S3 does.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, "<Error><Code>"+code+"</Code><Message>by s3test</Message></Error>")
}

// halved sends half of the first piece of an answer's body, and breaks off.
type halved struct{ http.ResponseWriter }

func (h *halved) Write(b []byte) (int, error) {
	_, _ = h.ResponseWriter.Write(b[:len(b)/2])
	_ = http.NewResponseController(h.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}
