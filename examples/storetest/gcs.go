package storetest

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pgcairn/pgcairn/examples/internal/testserver"
)

// GCS starts fake-gcs-server with an empty bucket.
func GCS(t testing.TB) Service {
	t.Helper()
	dir := t.TempDir()
	s := testserver.Start(t, testserver.Program{
		Path: testserver.Tool(t, "fake-gcs-server"),
		Args: func(address string) []string {
			host, port, _ := strings.Cut(address, ":")
			return []string{
				"-scheme", "http", "-host", host, "-port", port, "-public-host", address, "-external-url", "http://" + address,
				"-backend", "filesystem", "-filesystem-root", dir, "-data", "", "-log-level", "error",
			}
		},
		Ready: "/_internal/healthcheck",
	})
	body := strings.NewReader(`{"name":"` + bucketName + `"}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.Endpoint+"/storage/v1/b?project=test", body)
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	if err := response.Body.Close(); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("storetest: no bucket: %s, %v", response.Status, err)
	}
	return Service{
		URL: "gs://" + bucketName,
		Env: []string{"STORAGE_EMULATOR_HOST=" + strings.TrimPrefix(s.Endpoint, "http://")},
	}
}
