package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"

	"filippo.io/age"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// exampleCipher writes for recipients and reads with identities, texts of either.
func exampleCipher(recipients, identities string) repo.Cipher {
	var to []age.Recipient
	var from []age.Identity
	var err error
	if recipients != "" {
		if to, err = age.ParseRecipients(strings.NewReader(recipients)); err != nil {
			log.Fatal(err)
		}
	}
	if identities != "" {
		if from, err = age.ParseIdentities(strings.NewReader(identities)); err != nil {
			log.Fatal(err)
		}
	}
	c, err := crypto.New(to, from)
	if err != nil {
		log.Fatal(err)
	}
	return c
}

// exampleEncrypted is a repository in memory with an object, for testRecipient.
func exampleEncrypted(ctx context.Context) repo.Store {
	store := repotest.Mem(nil)
	r, err := repo.Init(ctx, store, &repo.Options{Cipher: exampleCipher(testRecipient, "")})
	if err != nil {
		log.Fatal(err)
	}
	_, err = r.Put(ctx, "notes", nil, func(w io.Writer) error {
		_, err := io.WriteString(w, "a cairn marks the way back")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	return store
}

// Who could read hands over to another one, with the identities of both at hand.
func ExampleRepo_RotateKeys() {
	ctx := context.Background()
	store := exampleEncrypted(ctx)
	r, err := repo.Open(ctx, store, &repo.Options{Cipher: exampleCipher(rotatedRecipient, testIdentity)})
	if err != nil {
		log.Fatal(err)
	}
	_, err = r.RotateKeys(ctx)
	var out *repo.LockoutError
	fmt.Println("without the new one's identity:", errors.As(err, &out))

	r, err = repo.Open(ctx, store, &repo.Options{Cipher: exampleCipher(rotatedRecipient, testIdentity+"\n"+rotatedIdentity)})
	if err != nil {
		log.Fatal(err)
	}
	done, err := r.RotateKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("rewrapped:", len(done.Rewrapped), "superseded and still there:", len(done.Kept))
	done, err = r.RotateKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("again, unchanged:", len(done.Unchanged))
	// Output:
	// without the new one's identity: true
	// rewrapped: 1 superseded and still there: 0
	// again, unchanged: 1
}

// Somebody may have kept a data key: from now on, hosts write with new ones.
func ExampleRepo_RetireKeys() {
	ctx := context.Background()
	store := exampleEncrypted(ctx)
	o := &repo.Options{Cipher: exampleCipher(testRecipient, "")}
	r, err := repo.Open(ctx, store, o)
	if err != nil {
		log.Fatal(err)
	}
	retired, err := r.RetireKeys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	host, err := repo.Open(ctx, store, o) // the next process; one that is running notices within five minutes
	if err != nil {
		log.Fatal(err)
	}
	id, err := host.DataKey(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(retired), id != retired[0])
	// Output: 1 true
}

// Who can read what, as far as can be told.
func ExampleRepo_Keys() {
	ctx := context.Background()
	r, err := repo.Open(ctx, exampleEncrypted(ctx), &repo.Options{Cipher: exampleCipher("", testIdentity)})
	if err != nil {
		log.Fatal(err)
	}
	keys, err := r.Keys(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, key := range keys {
		for _, w := range key.Wrappings {
			fmt.Println(w.Recipients, w.Kinds, "proven:", w.Proven)
		}
	}
	// Output:
	// [age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm] [X25519] proven: true
}
