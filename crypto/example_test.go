package crypto_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"filippo.io/age"

	"github.com/pgcairn/pgcairn/crypto"
)

// A key pair for the examples. The identity of a real one is nowhere but where restores happen.
const (
	exampleIdentity  = "AGE-SECRET-KEY-184JMZMVQH3E6U0PSL869004Y3U2NYV7R30EU99CSEDNPH02YUVFSZW44VU"
	exampleRecipient = "age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm"
)

// A database host: it writes what it cannot read.
func ExampleNew() {
	recipients, err := age.ParseRecipients(strings.NewReader(exampleRecipient))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := crypto.New(recipients, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keys.Recipients())
	// Hand keys to repo.Init or repo.Open as Options.Cipher.

	// Output:
	// [age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm]
}

// A host that restores.
func ExampleNew_identity() {
	identities, err := age.ParseIdentities(strings.NewReader(exampleIdentity))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := crypto.New(nil, identities)
	if err != nil {
		log.Fatal(err)
	}
	_, _, err = keys.NewKey()
	fmt.Println(errors.Is(err, crypto.ErrNoRecipients))
	// Output: true
}

func ExampleGenerate() {
	identity, recipient, err := crypto.Generate()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(identity), identity[:16])
	fmt.Println(len(recipient), recipient[:4])
	// Output:
	// 74 AGE-SECRET-KEY-1
	// 62 age1
}

// The error of a host that cannot read tells whose identity it takes.
func ExampleIdentityError() {
	recipients, err := age.ParseRecipients(strings.NewReader(exampleRecipient))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := crypto.New(recipients, nil)
	if err != nil {
		log.Fatal(err)
	}
	_, wrapped, err := keys.NewKey()
	if err != nil {
		log.Fatal(err)
	}
	_, _, err = keys.OpenKey(wrapped)
	if wrong := (*crypto.IdentityError)(nil); errors.As(err, &wrong) {
		fmt.Println(wrong.Recipients)
	}
	fmt.Println(err)
	// Output:
	// [age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm]
	// crypto: no identity given; needed is the identity of age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm
}

// What package repo does with an Age: a data key is made and wrapped, content is encrypted to it with a head in front,
// and a reader opens the key first.
func ExampleAge() {
	recipients, err := age.ParseRecipients(strings.NewReader(exampleRecipient))
	if err != nil {
		log.Fatal(err)
	}
	identities, err := age.ParseIdentities(strings.NewReader(exampleIdentity))
	if err != nil {
		log.Fatal(err)
	}
	writer, err := crypto.New(recipients, nil)
	if err != nil {
		log.Fatal(err)
	}
	public, wrapped, err := writer.NewKey()
	if err != nil {
		log.Fatal(err)
	}
	var object bytes.Buffer
	w, err := writer.Encrypt(&object, public, []byte("the head"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.WriteString(w, "a cairn marks the way back"); err != nil {
		log.Fatal(err)
	}
	if err := w.Close(); err != nil {
		log.Fatal(err)
	}

	head, err := writer.Head(bytes.NewReader(object.Bytes()))
	fmt.Printf("without a key: %s %v\n", head, err)

	reader, err := crypto.New(nil, identities)
	if err != nil {
		log.Fatal(err)
	}
	_, secret, err := reader.OpenKey(wrapped)
	if err != nil {
		log.Fatal(err)
	}
	r, err := reader.Decrypt(bytes.NewReader(object.Bytes()), secret)
	if err != nil {
		log.Fatal(err)
	}
	text, err := io.ReadAll(r)
	fmt.Printf("with it:       %s %v\n", text, err)

	at, size, err := reader.DecryptAt(bytes.NewReader(object.Bytes()), int64(object.Len()), secret)
	if err != nil {
		log.Fatal(err)
	}
	part, err := io.ReadAll(io.NewSectionReader(at, 2, 5))
	fmt.Printf("a part of %d:  %s %v\n", size, part, err)
	// Output:
	// without a key: the head <nil>
	// with it:       a cairn marks the way back <nil>
	// a part of 26:  cairn <nil>
}

// Hosts that write for the same recipients share a data key; the fingerprint tells.
func ExampleAge_Fingerprint() {
	recipients, err := age.ParseRecipients(strings.NewReader(exampleRecipient))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := crypto.New(recipients, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keys.Fingerprint())
	// Output: b9b3ae8ac0ca1317b3d43020ea234465
}

// A data key is wrapped for one more: who holds it reads all that was encrypted with it at any time. Package repo does
// this for all keys of a repository.
func ExampleAge_WrapKey() {
	identities, err := age.ParseIdentities(strings.NewReader(exampleIdentity))
	if err != nil {
		log.Fatal(err)
	}
	recipients, err := age.ParseRecipients(strings.NewReader(exampleRecipient))
	if err != nil {
		log.Fatal(err)
	}
	another, err := age.GenerateX25519Identity()
	if err != nil {
		log.Fatal(err)
	}
	before, err := crypto.New(recipients, identities)
	if err != nil {
		log.Fatal(err)
	}
	after, err := crypto.New(append(recipients, another.Recipient()), []age.Identity{another})
	if err != nil {
		log.Fatal(err)
	}
	public, wrapped, err := before.NewKey()
	if err != nil {
		log.Fatal(err)
	}
	_, secret, err := before.OpenKey(wrapped)
	if err != nil {
		log.Fatal(err)
	}
	rewrapped, err := after.WrapKey(secret)
	if err != nil {
		log.Fatal(err)
	}
	again, _, err := after.OpenKey(rewrapped)
	fmt.Println(again == public, err)
	// Output: true <nil>
}

// Who a wrapped key is for: what it says of itself, and what the identities at hand prove.
func ExampleAge_KeyOpeners() {
	identities, err := age.ParseIdentities(strings.NewReader(exampleIdentity))
	if err != nil {
		log.Fatal(err)
	}
	recipients, err := age.ParseRecipients(strings.NewReader(exampleRecipient))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := crypto.New(recipients, identities)
	if err != nil {
		log.Fatal(err)
	}
	_, wrapped, err := keys.NewKey()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(keys.KeyHeader(wrapped))
	fmt.Println(keys.KeyOpeners(wrapped))
	// Output:
	// [age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm] [X25519] <nil>
	// [age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm] <nil>
}
