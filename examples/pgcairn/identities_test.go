package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/examples/s3test"
)

const role = "arn:aws:iam::000000000000:role/database"

// TestWebIdentity: the token of a pod is what credentials are got by, for as long as it is good; and a bad one is no
// answer that a segment is missing.
func TestWebIdentity(t *testing.T) {
	t.Parallel()
	provider := s3test.NewIdentityProvider(t)
	server := s3test.StartMinIOWith(t, provider)
	h := newHost(t).onS3(server.Endpoint)
	file := filepath.Join(h.dir, "token")
	h = h.with("AWS_ACCESS_KEY_ID=", "AWS_SECRET_ACCESS_KEY=", // no others
		"AWS_WEB_IDENTITY_TOKEN_FILE="+file, "AWS_ROLE_ARN="+role, "AWS_ENDPOINT_URL_STS="+server.Endpoint)
	token := func(policy string, good time.Duration) {
		require.NoError(t, os.WriteFile(file, []byte(provider.Token(t, policy, time.Now().Add(good))), 0o644)) // the CLI is another user
	}

	token("readwrite", time.Hour)
	h.thereAndBack(t, 1)
	dest := filepath.Join(h.dir, "fetched")
	h.reader().run(t, "wal", "fetch", "000000010000000000000009", dest).requireFailure(t, 1, "is not in the archive", "")
	token("readonly", time.Hour) // of objects: MinIO's own policy lists nothing
	h.reader().run(t, "list").requireFailure(t, 1, "AccessDenied", "credentials")
	token("readwrite", -time.Hour)
	h.reader().run(t, "wal", "fetch", "000000010000000000000009", dest).requireFailure(t, 200, "AssumeRoleWithWebIdentity", "credentials")
	require.NoError(t, os.Remove(file))
	h.reader().run(t, "wal", "fetch", "000000010000000000000009", dest).requireFailure(t, 200, file, "credentials")
}

// TestRole: with role= in the URL, that role's credentials are asked for, with those that there are, and used.
func TestRole(t *testing.T) {
	t.Parallel()
	server := s3test.StartMinIO(t)
	tokens := s3test.NewProxy(t, server.Endpoint)
	h := newHost(t).onS3(server.Endpoint)
	h = h.with("PGCAIRN_REPO="+h.repo+"&role="+role, "AWS_ENDPOINT_URL_STS="+tokens.Endpoint)
	h.thereAndBack(t, 1)
	asked := tokens.Requests()
	require.Len(t, asked, 4, "once by each process")
	require.Equal(t, s3test.Request{Op: "POST"}, asked[0])
}
