package s3test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// What a MinIO and an [IdentityProvider] agree on.
const (
	client       = "pgcairn"
	clientSecret = "what signs the tokens of web identities"
)

// IdentityProvider gives out tokens of web identities, as a Kubernetes does to its pods, by OpenID Connect.
type IdentityProvider struct {
	server *httptest.Server
}

// NewIdentityProvider starts a provider, which ends with the test. A MinIO asks it once, when it starts.
func NewIdentityProvider(t testing.TB) *IdentityProvider {
	t.Helper()
	p := &IdentityProvider{}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/keys" { // none but the client's secret
			_, _ = fmt.Fprint(w, `{"keys": []}`)
			return
		}
		_, _ = fmt.Fprintf(w, `{"issuer": %q, "jwks_uri": %q}`, p.server.URL, p.server.URL+"/keys")
	}))
	t.Cleanup(p.server.Close)
	return p
}

func (p *IdentityProvider) env() []string {
	return []string{
		"MINIO_IDENTITY_OPENID_CONFIG_URL=" + p.server.URL,
		"MINIO_IDENTITY_OPENID_CLIENT_ID=" + client,
		"MINIO_IDENTITY_OPENID_CLIENT_SECRET=" + clientSecret,
	}
}

// Token is a token, good until an instant, of one who may do what a policy of MinIO says: readwrite, or readonly.
func (p *IdentityProvider) Token(t testing.TB, policy string, until time.Time) string {
	t.Helper()
	part := func(v map[string]any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatalf("s3test: %v", err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(map[string]any{"alg": "HS256", "typ": "JWT", "kid": client}) + "." +
		part(map[string]any{"iss": p.server.URL, "sub": "a pod", "aud": client, "exp": until.Unix(), "policy": policy})
	mac := hmac.New(sha256.New, []byte(clientSecret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
