package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/examples/s3test"
	"github.com/pgcairn/pgcairn/examples/storetest"
	"github.com/pgcairn/pgcairn/internal/pgtest"
)

// TestStoreURLs: a URL leads to each kind of service, and a segment there and back.
func TestStoreURLs(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) storetest.Service{"azurite": storetest.Azure, "fake-gcs-server": storetest.GCS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := start(t)
			where, err := url.Parse(service.URL)
			require.NoError(t, err)
			q := where.Query()
			q.Set("prefix", "some/where")
			where.RawQuery = q.Encode()
			h := newHost(t).with(append(service.Env, "PGCAIRN_REPO="+where.String())...)
			h.thereAndBack(t, 1)
			missing := filepath.Join(h.dir, "missing")
			h.reader().run(t, "wal", "fetch", "000000010000000000000009", missing).requireFailure(t, 1, "is not in the archive", "")
			q.Set("prefix", "else/where")
			where.RawQuery = q.Encode()
			h.with("PGCAIRN_REPO="+where.String()).run(t, "list").requireFailure(t, 1, "", "pgcairn init")
			where.Host = "another"
			h.with("PGCAIRN_REPO="+where.String()).run(t, "wal", "fetch", "000000010000000000000001", missing).
				requireFailure(t, 200, "pgcairn.json", "the bucket's name")
			require.NoFileExists(t, missing)
		})
	}
}

// thereAndBack makes the repository, pushes a segment, twice, and fetches it.
func (h *host) thereAndBack(t *testing.T, number uint64) {
	t.Helper()
	h.writer().ok(t, "init")
	name := writeSegment(t, h.dir, number, 7)
	path, dest := filepath.Join(h.dir, name), filepath.Join(h.dir, "fetched "+name)
	h.writer().ok(t, "wal", "push", path)
	h.writer().ok(t, "wal", "push", path)
	h.reader().ok(t, "wal", "fetch", name, dest)
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	got, err := os.ReadFile(dest)
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got))
}

// TestStoreOptions: objects have what the URL asks for, as the service itself says.
func TestStoreOptions(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		start  func(testing.TB) *s3test.Server
		params string
		class  s3types.StorageClass
		mode   s3types.ObjectLockMode
		key    string // of the KMS
	}{
		"MinIO": {
			s3test.StartMinIO,
			"&storage_class=REDUCED_REDUNDANCY&ssetype=aws:kms&kmskeyid=" + s3test.KMSKey + "&object_lock_mode=compliance",
			s3types.StorageClassReducedRedundancy, s3types.ObjectLockModeCompliance, s3test.KMSKey,
		},
		"versitygw": {s3test.Start, "&object_lock_mode=GOVERNANCE", "", s3types.ObjectLockModeGovernance, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := s.start(t)
			server.CreateBucket(t, "locked", true)
			h := newHost(t).with(append(s3test.Env(), "PGCAIRN_REPO="+s3test.BucketURL(server.Endpoint, "locked")+
				"&prefix=some/where&object_lock_days=2&checksum=sha256"+s.params)...)
			before := time.Now()
			h.thereAndBack(t, 1)

			locked := 0
			for _, key := range server.Keys(t, "locked") {
				head, err := server.Client().HeadObject(t.Context(), &s3.HeadObjectInput{
					Bucket: aws.String("locked"), Key: &key, ChecksumMode: s3types.ChecksumModeEnabled,
				})
				require.NoError(t, err)
				locked++
				require.NotEmpty(t, head.ChecksumSHA256, key)
				require.Equal(t, s.mode, head.ObjectLockMode, key)
				require.WithinRange(t, *head.ObjectLockRetainUntilDate, before.Add(48*time.Hour-time.Second), time.Now().Add(48*time.Hour+time.Second))
				if s.class != "" {
					require.Equal(t, s.class, head.StorageClass, key)
				}
				if s.key != "" {
					require.Equal(t, s3types.ServerSideEncryptionAwsKms, head.ServerSideEncryption, key)
					require.Contains(t, aws.ToString(head.SSEKMSKeyId), s.key)
				}
			}
			require.Equal(t, 4, locked, "pgcairn.json, the system, the data key, the segment")
		})
	}
}

// TestStoreOptionsWrong: what a URL cannot mean is wrong usage, and nothing else is printed.
func TestStoreOptionsWrong(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	for repo, problem := range map[string]string{
		"s3://b?object_lock_mode=compliance":                      "belong together",
		"s3://b?object_lock_days=3":                               "belong together",
		"s3://b?object_lock_mode=forever&object_lock_days=3":      "governance or compliance",
		"s3://b?object_lock_mode=compliance&object_lock_days=0":   "number of days",
		"s3://b?object_lock_mode=compliance&object_lock_days=x":   "number of days",
		"s3://b?object_lock_mode=compliance&object_lock_days=9e9": "number of days",
		"s3://b?checksum=md5":                                     "CRC32",
		"s3://b?storage_class=":                                   "no value",
		"s3://b?ca=/nowhere":                                      "ca=",
		"gs://b?ca=/nowhere":                                      "SSL_CERT_FILE",
		"gs://b?checksum=sha256":                                  "no parameter",
		"azblob://b?storage_class=Cool":                           "no parameter",
	} {
		h.run(t, "list", "--repo", repo).requireFailure(t, 2, problem, "")
	}

	// A file of credentials or certificates that is missing is no answer that a segment is.
	for _, missing := range []struct{ env, repo string }{
		{"GOOGLE_APPLICATION_CREDENTIALS=/nowhere", "gs://b"},
		{"AWS_CA_BUNDLE=/nowhere", "s3://b?region=us-east-1"},
	} {
		h := h.with(missing.env, "PGCAIRN_REPO="+missing.repo)
		h.run(t, "list", "--json").requireFailure(t, 1, "/nowhere", "credentials") // nothing on stdout
		h.run(t, "wal", "fetch", "000000010000000000000001", "x").requireFailure(t, 200, "/nowhere", "credentials")
	}
}

// TestStoreTrust: a service with a certificate of its own authority is believed when ca= has that, and not otherwise.
func TestStoreTrust(t *testing.T) {
	t.Parallel()
	target, err := url.Parse(s3test.Start(t).Endpoint)
	require.NoError(t, err)
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}})
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not believe it
	front.StartTLS()
	defer front.Close()
	h := newHost(t).onS3(front.URL)
	ca := filepath.Join(h.dir, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, certificate, 0o644))
	h.run(t, "init").requireFailure(t, 1, "certificate", "")
	h.with("PGCAIRN_REPO="+h.repo+"&ca="+ca).thereAndBack(t, 1)
}

// TestStorePolicies: with the policies of STORES.md, and no right more, the database host backs up, another host
// restores, and a third deletes; and none of them may do what another does.
func TestStorePolicies(t *testing.T) {
	t.Parallel()
	service := s3test.StartMinIO(t)
	admin := newHost(t).onS3(service.Endpoint)
	admin.writer().ok(t, "init")
	roles := map[string]aws.Credentials{}
	as := func(policy string) *host {
		c := assume(t, service, policy)
		roles[policy] = c
		return admin.with("AWS_ACCESS_KEY_ID="+c.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+c.SecretAccessKey, "AWS_SESSION_TOKEN="+c.SessionToken)
	}
	database, restorer, retainer := as("database host"), as("restore host"), as("retention host")
	require.Empty(t, retainer.reader().json(t, "list")["backups"])

	c := newCluster(t, database, nil)
	near := database.writer().with("PGHOST="+c.Socket, "PGUSER=postgres")
	full := near.json(t, "backup", "--pgdata", c.Data)
	c.Exec(t, `create table precious as select i from generate_series(1, 5000) i`)
	archiveAll(t, c)
	require.Equal(t, "incremental", near.json(t, "backup", "--pgdata", c.Data, "--type", "incr")["type"])
	want := pgtest.Checksums(t, c)
	c.Exec(t, `select pg_create_restore_point('here')`)
	archiveAll(t, c)

	dir := filepath.Join(pgtest.Dir(t), "data")
	database.reader().run(t, "restore", dir).requireFailure(t, 1, "AccessDenied", "credentials")
	require.NoDirExists(t, dir)
	restorer.reader().ok(t, "restore", dir, "--to-name", "here", "--wal", "staged")
	require.Equal(t, want, pgtest.Checksums(t, pgtest.Boot(t, dir, 0, nil)))

	// What a thief would try with the credentials of each, and what retention does.
	folder := "some/where/packs/" + full["id"].(string) + "/"
	pack, forged := folder+"00000001", folder+"forged"
	for policy, role := range roles {
		o := service.Client().Options()
		o.Credentials = credentials.StaticCredentialsProvider{Value: role}
		client := s3.New(o)
		_, get := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String(s3test.Bucket), Key: &pack})
		_, put := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(s3test.Bucket), Key: &forged})
		_, del := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(s3test.Bucket), Key: &forged})
		for what, err := range map[string]error{"get": get, "put": put, "delete": del} {
			if slices.Contains(may[policy], what) {
				require.NoError(t, err, "%s: %s", policy, what)
			} else {
				require.ErrorContains(t, err, "AccessDenied", "%s: %s", policy, what)
			}
		}
	}
}

// may is what each policy of STORES.md allows with a pack.
var may = map[string][]string{"database host": {"put"}, "restore host": {"get"}, "retention host": {"get", "delete"}}

// assume returns the credentials of one who may do what a policy of STORES.md says, as a role in AWS may.
func assume(t *testing.T, s *s3test.Server, policy string) aws.Credentials {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "STORES.md"))
	require.NoError(t, err)
	found := regexp.MustCompile("(?s)<!-- policy: " + policy + " -->\n+```json\n(.*?)```").FindSubmatch(page)
	require.NotNil(t, found, policy)
	text := strings.NewReplacer("BUCKET", s3test.Bucket, "PREFIX", "some/where").Replace(string(found[1]))
	var compact bytes.Buffer
	require.NoError(t, json.Compact(&compact, []byte(text)))
	out, err := sts.New(sts.Options{
		BaseEndpoint: &s.Endpoint,
		Region:       "us-east-1",
		Credentials:  credentials.NewStaticCredentialsProvider(s3test.AccessKey, s3test.SecretKey, ""),
	}).AssumeRole(t.Context(), &sts.AssumeRoleInput{
		RoleArn: aws.String("arn:aws:iam::000000000000:role/test"), RoleSessionName: aws.String("test"), Policy: aws.String(compact.String()),
	})
	require.NoError(t, err)
	return aws.Credentials{
		AccessKeyID: *out.Credentials.AccessKeyId, SecretAccessKey: *out.Credentials.SecretAccessKey, SessionToken: *out.Credentials.SessionToken,
	}
}
