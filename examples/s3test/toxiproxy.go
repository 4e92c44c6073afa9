package s3test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/examples/internal/testserver"
)

// Network is a way to a server, by toxiproxy, that can be made worse. Unlike [Proxy] it knows nothing of requests, but
// what becomes of their bytes. It is safe for concurrent use.
type Network struct {
	// Endpoint is its address, http://host:port.
	Endpoint string

	proxy string // of toxiproxy's own API
}

// Toxic is something that makes a network worse, by toxiproxy's names.
type Toxic struct {
	Type       string         `json:"type"`
	Stream     string         `json:"stream"`     // "upstream" from the client, or "downstream" to it
	Toxicity   float64        `json:"toxicity"`   // the part of the connections that have it
	Attributes map[string]int `json:"attributes"` // in milliseconds, bytes, or KB a second
}

// NewNetwork starts a way to the server at an endpoint. It ends with the test.
func NewNetwork(t testing.TB, endpoint string) *Network {
	t.Helper()
	api := testserver.Start(t, testserver.Program{
		Path: testserver.Tool(t, "toxiproxy"),
		Args: func(address string) []string {
			host, port, _ := net.SplitHostPort(address)
			return []string{"-host", host, "-port", port}
		},
		Ready: "/version",
	}).Endpoint
	n := &Network{proxy: api + "/proxies/way"}
	answer := n.ask(t, http.MethodPost, api+"/proxies", map[string]any{
		"name": "way", "listen": "127.0.0.1:0", "upstream": strings.TrimPrefix(endpoint, "http://"), "enabled": true,
	})
	listen, ok := answer["listen"].(string)
	if !ok {
		t.Fatal("s3test: toxiproxy does not say where it listens")
	}
	n.Endpoint = "http://" + listen
	return n
}

// Add makes the network worse, from the next bytes on.
func (n *Network) Add(t testing.TB, toxics ...Toxic) {
	t.Helper()
	for _, toxic := range toxics {
		n.ask(t, http.MethodPost, n.proxy+"/toxics", toxic)
	}
}

// Remove takes back what [Network.Add] has done.
func (n *Network) Remove(t testing.TB, toxics ...Toxic) {
	t.Helper()
	for _, toxic := range toxics {
		n.ask(t, http.MethodDelete, n.proxy+"/toxics/"+toxic.Type+"_"+toxic.Stream, nil)
	}
}

// Break breaks all connections, and refuses others.
func (n *Network) Break(t testing.TB) {
	t.Helper()
	n.ask(t, http.MethodPost, n.proxy, map[string]any{"enabled": false})
}

// Mend accepts connections again.
func (n *Network) Mend(t testing.TB) {
	t.Helper()
	n.ask(t, http.MethodPost, n.proxy, map[string]any{"enabled": true})
}

// ask makes a request to toxiproxy.
func (n *Network) ask(t testing.TB, method, url string, body any) map[string]any {
	t.Helper()
	answer, err := request(t, method, url, body)
	if err != nil {
		t.Errorf("s3test: toxiproxy: %v", err) // maybe from a timer's goroutine
	}
	return answer
}

func request(t testing.TB, method, url string, body any) (answer map[string]any, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	if response.StatusCode == http.StatusNoContent {
		return nil, nil
	}
	return answer, json.NewDecoder(response.Body).Decode(&answer)
}
