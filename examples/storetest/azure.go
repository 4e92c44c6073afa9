package storetest

import (
	"encoding/base64"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"github.com/pgcairn/pgcairn/examples/internal/testserver"
)

// The account of the Azure server.
const azureAccount = "storetest"

func azureKey() string {
	return base64.StdEncoding.EncodeToString([]byte("a secret of 64 bytes, as azurite wants them, that nobody prints."))
}

// Azure starts azurite, which is Azure's own emulator of Blob Storage, with an empty container.
func Azure(t testing.TB) Service {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("storetest: run make tools: %v", err)
	}
	script := testserver.Tool(t, "azurite/node_modules/azurite/dist/src/blob/main.js")
	dir := t.TempDir()
	s := testserver.Start(t, testserver.Program{
		Path: node,
		Args: func(address string) []string {
			host, port, _ := strings.Cut(address, ":")
			return []string{
				script, "--blobHost", host, "--blobPort", port, "--inMemoryPersistence", "--silent", "--disableTelemetry",
				"--skipApiVersionCheck", // the SDK may speak a newer one
			}
		},
		Env: []string{"HOME=" + dir, "AZURITE_ACCOUNTS=" + azureAccount + ":" + azureKey()},
		Dir: dir, // it writes there
	})
	credential, err := container.NewSharedKeyCredential(azureAccount, azureKey())
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	client, err := container.NewClientWithSharedKeyCredential(s.Endpoint+"/"+azureAccount+"/"+bucketName, credential, nil)
	if err != nil {
		t.Fatalf("storetest: %v", err)
	}
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatalf("storetest: %v", err)
	}
	q := url.Values{"protocol": {"http"}, "domain": {strings.TrimPrefix(s.Endpoint, "http://")}, "localemu": {"true"}}
	return Service{
		URL: "azblob://" + bucketName + "?" + q.Encode(),
		Env: []string{
			"AZURE_STORAGE_ACCOUNT=" + azureAccount, "AZURE_STORAGE_KEY=" + azureKey(),
			"AZURE_STORAGE_SAS_TOKEN=", "AZURE_STORAGE_CONNECTION_STRING=", "AZURE_CONFIG_DIR=" + os.DevNull,
		},
	}
}
