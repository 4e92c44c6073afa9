// Package crypto encrypts repositories on the client with age (https://age-encryption.org).
//
// For most uses, parse recipients and identities with filippo.io/age, call [New], and hand the result to repo.Init or
// repo.Open as the Cipher option. A database host holds recipients only: it can write backups and archive WAL, and can
// read none of it. A host that restores holds identities.
//
// Content is encrypted to data keys, which writers make as they need them. The secret half of a data key is stored in
// the repository, wrapped to the recipients ([Age.NewKey]); so adding a person, or taking one away, rewraps a few
// small objects and leaves the content alone. The bytes are described in repo/FORMAT.md, and everything here can be
// read with the stock age program.
package crypto
