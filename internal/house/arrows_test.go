package house

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// arrows says which top-level packages each one may reach, directly or through others. Every package may reach itself
// and internal.
var arrows = map[string][]string{
	".":         {},
	"internal":  {"repo", "wal", "backup"}, // what an internal package reaches counts for those who import it
	"crypto":    {},
	"repo":      {},
	"wal":       {"repo"},
	"backup":    {"repo", "wal"},
	"restore":   {"repo", "wal", "backup"},
	"retention": {"repo", "wal", "backup"},
}

// clouds are packages that would bring a provider's SDK with them, and the driver that repo.OpenDir replaces. Not
// google.golang.org/api/googleapi, which gocloud.dev/blob itself imports for its errors.
var clouds = []string{
	"cloud.google.com/", "google.golang.org/api/option", "google.golang.org/api/storage", "github.com/aws/", "github.com/Azure/",
	"gocloud.dev/blob/s3blob", "gocloud.dev/blob/gcsblob", "gocloud.dev/blob/azureblob", "gocloud.dev/blob/fileblob",
}

func TestArrowsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.workshop() {
			continue
		}
		top, _, _ := strings.Cut(p.name(), "/")
		allowed, drawn := arrows[top]
		if !assert.True(t, drawn, "package %s is not drawn in the house", p.name()) {
			continue
		}
		for _, dep := range p.Deps {
			if !ours(dep) {
				continue
			}
			depTop, _, _ := strings.Cut(within(dep), "/")
			assert.True(t, depTop == top || depTop == "internal" || slices.Contains(allowed, depTop),
				"%s must not reach %s", p.name(), within(dep))
		}
	}
}

func TestCryptoNeedsNothingButAge(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if p.name() != "crypto" {
			continue
		}
		for _, path := range p.Imports {
			first, _, _ := strings.Cut(path, "/")
			assert.True(t, !strings.Contains(first, ".") || path == "filippo.io/age" || strings.HasPrefix(path, "filippo.io/age/"),
				"crypto must not import %s", path)
		}
	}
}

func TestNoCloudInTheLibrary(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, dep := range p.Deps {
			assert.False(t, slices.ContainsFunc(clouds, func(c string) bool { return strings.HasPrefix(dep, c) }),
				"%s must not reach %s", p.name(), dep)
		}
	}
}

// gocloud brings gRPC and OpenTelemetry, which take 2 ms to start and 7 MB.
func TestOnlyBucketNeedsGocloud(t *testing.T) {
	t.Parallel()
	found := false
	for _, p := range packages(t) {
		reaches := slices.ContainsFunc(p.Deps, func(dep string) bool { return strings.HasPrefix(dep, "gocloud.dev/") })
		assert.Equal(t, p.name() == "repo/bucket", reaches, p.name())
		found = found || reaches
	}
	assert.True(t, found)
}

func TestLibraryDoesNotImportWhatTestsNeed(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !p.library() {
			continue
		}
		for _, path := range p.Imports {
			assert.False(t, path == "testing" || strings.HasPrefix(path, "github.com/stretchr/testify") ||
				ours(path) && !(pkg{ImportPath: path}).library(), "%s must not import %s", p.name(), path)
		}
	}
}
