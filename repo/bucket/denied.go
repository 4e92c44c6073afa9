package bucket

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"gocloud.dev/gcerrors"

	"github.com/pgcairn/pgcairn/internal/objerr"
	"github.com/pgcairn/pgcairn/repo"
)

// denial marks the error of a request that the service does not permit, or that is in vain for another reason.
func denial(err error) error {
	switch {
	case denied(err):
		return fmt.Errorf("%w: %w", repo.ErrRefused, err)
	case hopeless(err):
		return objerr.Vain(err)
	}
	return err
}

// hopeless tells of the answers that will not change by themselves: there is no such bucket, the credentials are wrong,
// the service does not know such requests. Some of S3's 400 are about what has happened to a request on its way.
func hopeless(err error) bool {
	if errors.As(err, new(*tls.CertificateVerificationError)) || strings.Contains(err.Error(), "static credentials are empty") {
		return true
	}
	var answer interface{ HTTPStatusCode() int }
	if !errors.As(err, &answer) {
		return false
	}
	switch status := answer.HTTPStatusCode(); status {
	case http.StatusRequestTimeout, http.StatusConflict, http.StatusPreconditionFailed, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	default:
		if status < 400 || status >= 500 {
			return false
		}
	}
	switch serviceCode(err) {
	case "RequestTimeout", "IncompleteBody", "BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "ExpiredToken", "SlowDown", "Throttling",
		// These are of who gives the credentials that a request is signed with: it could not ask the identity provider, or
		// the token in the file is not renewed yet.
		"IDPCommunicationError", "ExpiredTokenException":
		return false
	}
	return true
}

// denied tells whether a service has answered that it does not permit a request, for want of permission or since there
// is a lock on the object.
//
// gocloud tells that of S3, where both are AccessDenied, but for MinIO. Of the others only the text does: gcsblob says
// NotFound of a 403, and azureblob has a category for wrong credentials only.
func denied(err error) bool {
	if gcerrors.Code(err) == gcerrors.PermissionDenied {
		return true
	}
	text := err.Error()
	if strings.Contains(text, "ateLimitExceeded") {
		return false // GCS may say 403 of being too busy as well
	}
	for _, word := range []string{
		"Object is WORM protected",                      // MinIO
		"googleapi: Error 403:",                         // GCS: permissions, retention policies and holds
		"googleapi: got HTTP response code 403",         // the same without a body
		"ERROR CODE: BlobImmutableDueToPolicy",          // Azure: time-based retention and legal holds
		"ERROR CODE: LeaseIdMissing",                    // a lease that somebody has put on the blob
		"ERROR CODE: InsufficientAccountPermissions",    // these are wants of permission
		"ERROR CODE: AuthorizationFailure",              // from this network, say
		"ERROR CODE: AuthorizationPermissionMismatch",   // no role for it
		"ERROR CODE: AuthorizationSourceIPMismatch",     // of a shared access signature, as are those below
		"ERROR CODE: AuthorizationProtocolMismatch",     //
		"ERROR CODE: AuthorizationResourceTypeMismatch", //
		"ERROR CODE: AuthorizationServiceMismatch",      //
	} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}
