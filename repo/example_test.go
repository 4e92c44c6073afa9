package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// exampleRepo is an unencrypted repository in memory.
func exampleRepo(ctx context.Context) *repo.Repo {
	r, err := repo.Init(ctx, repotest.Mem(nil), nil)
	if err != nil {
		log.Fatal(err)
	}
	return r
}

// An encrypted repository, as the host of a database makes it: with the recipients, who may read. It writes, and cannot
// read what it has written.
func ExampleInit() {
	ctx := context.Background()
	store := repotest.Mem(nil) // or repo.OpenDir, or bucket.New
	recipients, err := age.ParseRecipients(strings.NewReader(testRecipient))
	if err != nil {
		log.Fatal(err)
	}
	keys, err := crypto.New(recipients, nil)
	if err != nil {
		log.Fatal(err)
	}
	first, err := repo.Init(ctx, store, &repo.Options{Cipher: keys})
	if err != nil {
		log.Fatal(err)
	}
	again, err := repo.Init(ctx, store, &repo.Options{Cipher: keys})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the same:", first.ID() == again.ID())

	write := func(w io.Writer) error {
		_, err := io.WriteString(w, "a cairn marks the way back")
		return err
	}
	if _, err := first.Put(ctx, "notes/first", nil, write); err != nil {
		log.Fatal(err)
	}
	_, err = first.OpenObject(ctx, "notes/first")
	var identity *crypto.IdentityError
	fmt.Println("needs an identity:", errors.As(err, &identity))
	// Output:
	// the same: true
	// needs an identity: true
}

func ExampleOpen() {
	ctx := context.Background()
	store := repotest.Mem(nil)
	_, err := repo.Open(ctx, store, nil)
	fmt.Println(errors.Is(err, repo.ErrNoRepository))

	if _, err := repo.Init(ctx, store, nil); err != nil {
		log.Fatal(err)
	}
	r, err := repo.Open(ctx, store, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Encrypted())
	// Output:
	// true
	// false
}

func ExampleRepo_Put() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	write := func(w io.Writer) error {
		for i := range 3 {
			if _, err := fmt.Fprintln(w, "stone", i); err != nil {
				return err
			}
		}
		return nil
	}
	info, err := r.Put(ctx, "notes/stones", nil, write)
	fmt.Println(info.Key, err)
	_, err = r.Put(ctx, "notes/stones", nil, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, "other stones")
		return err
	})
	fmt.Println("exists:", errors.Is(err, fs.ErrExist))
	// Output:
	// notes/stones <nil>
	// exists: true
}

// What was read is right once io.EOF was reached, as io.ReadAll and io.Copy do.
func ExampleRepo_OpenObject() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	_, err := r.Put(ctx, "notes/first", nil, func(w io.Writer) error {
		_, err := io.WriteString(w, "a cairn marks the way back")
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	o, err := r.OpenObject(ctx, "notes/first")
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()
	text, err := io.ReadAll(o)
	fmt.Printf("%s %v\n", text, err)

	_, err = r.OpenObject(ctx, "notes/second")
	fmt.Println("missing:", errors.Is(err, fs.ErrNotExist))
	// Output:
	// a cairn marks the way back <nil>
	// missing: true
}

// A label is known without the content, and without a key.
func ExampleRepo_Label() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	o := &repo.PutOptions{Label: func() ([]byte, error) { return []byte("three stones"), nil }}
	_, err := r.Put(ctx, "notes/first", o, func(w io.Writer) error {
		_, err := w.Write(make([]byte, 100<<20))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	label, err := r.Label(ctx, "notes/first")
	fmt.Printf("%s %v\n", label, err)
	// Output: three stones <nil>
}

// The first part of an object, such as a summary that its writer ended by Flush.
func ExampleRepo_OpenFront() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	_, err := r.Put(ctx, "notes/long", nil, func(w io.Writer) error {
		if _, err := fmt.Fprintln(w, "in short: stones"); err != nil {
			return err
		}
		if err := w.(interface{ Flush() error }).Flush(); err != nil {
			return err
		}
		_, err := w.Write(noise(10<<20, 1))
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	o, err := r.OpenFront(ctx, "notes/long", 4096)
	if err != nil {
		log.Fatal(err)
	}
	defer o.Close()
	summary := make([]byte, 17)
	_, err = io.ReadFull(o, summary)
	fmt.Printf("%s%v\n", summary, err)
	// Output:
	// in short: stones
	// <nil>
}

// Many small things in one object, each compressed by itself. What Commit returns is kept somewhere: a backup's
// manifest, for example.
func ExampleRepo_CreatePack() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	write := func(texts ...string) (repo.Pack, error) {
		w, err := r.CreatePack(ctx, "packs/first", nil)
		if err != nil {
			return repo.Pack{}, err
		}
		defer w.Close() // aborts unless Commit was reached
		for _, text := range texts {
			if err := w.Append([]byte(text)); err != nil {
				return repo.Pack{}, err
			}
		}
		return w.Commit()
	}
	pack, err := write("a cairn", "marks", "the way back")
	if err != nil {
		log.Fatal(err)
	}
	err = r.ReadPack(ctx, pack, func(i int, raw []byte) error {
		fmt.Println(i, string(raw), pack.Frames[i].Raw)
		return nil
	})
	fmt.Println(err)
	// Output:
	// 0 a cairn 7
	// 1 marks 5
	// 2 the way back 12
	// <nil>
}

// One frame of many, without the rest of the pack.
func ExampleRepo_OpenPack() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	w, err := r.CreatePack(ctx, "packs/first", nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, text := range []string{"a cairn", "marks", "the way back"} {
		if err := w.Append([]byte(text)); err != nil {
			log.Fatal(err)
		}
	}
	pack, err := w.Commit()
	if err != nil {
		log.Fatal(err)
	}

	frames, err := r.OpenPack(ctx, pack)
	if err != nil {
		log.Fatal(err)
	}
	raw, err := frames.Frame(ctx, 2, nil)
	fmt.Println(string(raw), err)
	// Output: the way back <nil>
}

// Whoever has some of a frame can tell, without the frame, whether it is right.
func ExampleRepo_Stretches() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	w, err := r.CreatePack(ctx, "packs/first", &repo.PackOptions{Stretches: true})
	if err != nil {
		log.Fatal(err)
	}
	frame := bytes.Repeat([]byte("stone "), 10_000)
	if err := w.Append(frame); err != nil {
		log.Fatal(err)
	}
	pack, err := w.Commit()
	if err != nil {
		log.Fatal(err)
	}

	s, err := r.Stretches(ctx, pack)
	if err != nil {
		log.Fatal(err)
	}
	const from = 2 * repo.StretchSize
	mine := bytes.Clone(frame[from : from+3*repo.StretchSize])
	fmt.Println(s.Hold(0, from, mine))
	mine[100]++
	fmt.Println(s.Hold(0, from, mine))
	// Output:
	// true
	// false
}

// A record is known to hosts that cannot read, too.
func ExampleRepo_CreateRecord() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	type owner struct {
		Name string `json:"name"`
	}
	fmt.Println(r.CreateRecord(ctx, "owners/1", owner{"the first"}))
	err := r.CreateRecord(ctx, "owners/1", owner{"the second"})
	fmt.Println("taken:", errors.Is(err, fs.ErrExist))
	var o owner
	fmt.Println(r.ReadRecord(ctx, "owners/1", &o), o.Name)
	// Output:
	// <nil>
	// taken: true
	// <nil> the first
}

func ExampleSealRecord() {
	line, err := repo.SealRecord("owners/1", struct {
		Name string `json:"name"`
	}{"the first"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(line))
	var owner struct{ Name string }
	fmt.Println(repo.OpenRecord("owners/1", line, &owner), owner.Name)
	fmt.Println(repo.OpenRecord("owners/2", line, &owner))
	// Output:
	// {"name":"the first","sum":"711f51e81041f02dde5aa9086efadd1d"}
	// <nil> the first
	// corrupt object owners/2: checksum mismatch
}

// Two cannot do the same at a time, wherever they run. Just before what must not be done twice, the holder asks whether
// he still is.
func ExampleRepo_WithLease() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	err := r.WithLease(ctx, "tidy", func(ctx context.Context, l *repo.Lease) error {
		err := r.WithLease(ctx, "tidy", func(context.Context, *repo.Lease) error { return nil })
		var held *repo.LeaseError
		fmt.Println("held:", errors.As(err, &held))
		// ... work, which ends when ctx does ...
		return l.Confirm(ctx)
	})
	fmt.Println(err)
	// Output:
	// held: true
	// <nil>
}

func ExampleProbe() {
	ctx := context.Background()
	fmt.Println(repo.Probe(ctx, repotest.Mem(nil)))
	// Output: <nil>
}

// Damage is told apart from failure: this store's answers are cut short.
func ExampleCorruptError() {
	ctx := context.Background()
	r := exampleRepo(ctx)
	if err := r.CreateRecord(ctx, "owners/1", struct{ Name string }{"the first"}); err != nil {
		log.Fatal(err)
	}
	read := func(do repotest.Effect) error {
		broken := repotest.Faulty(r.Store(), repotest.Fault{Op: repotest.OpOpen, Key: "owners/*", Do: do})
		r, err := repo.Open(ctx, broken, nil)
		if err != nil {
			log.Fatal(err)
		}
		var owner struct{ Name string }
		return r.ReadRecord(ctx, "owners/1", &owner)
	}
	for _, do := range []repotest.Effect{repotest.Truncate(20), repotest.Fail(nil)} {
		err := read(do)
		var corrupt *repo.CorruptError
		if errors.As(err, &corrupt) {
			fmt.Println("damaged:", corrupt.Key)
		} else {
			fmt.Println("try again later:", err)
		}
	}
	// Output:
	// damaged: owners/1
	// try again later: repo: read owners/1: open owners/1: injected fault
}

func ExampleLeaseError() {
	err := error(&repo.LeaseError{Name: "backup", Host: "db1", PID: 4711, Expires: time.Date(2026, 11, 21, 10, 17, 30, 0, time.UTC)})
	fmt.Println(err)
	// Output: the lease "backup" is held by process 4711 on db1 until 2026-11-21T10:17:30Z
}

func ExampleHashOf() {
	fmt.Println(repo.HashOf([]byte("a cairn marks the way back")))
	// Output: 55a5640c516df9591d3f9ea2460d6161
}

func ExampleCheckKey() {
	fmt.Println(repo.CheckKey("notes/first"))
	fmt.Println(repo.CheckKey("notes/../../etc"))
	fmt.Println(repo.CheckPrefix("notes/fi"))
	// Output:
	// <nil>
	// key "notes/../../etc": has an element ".."
	// <nil>
}

func ExampleRepo_StateDir() {
	ctx := context.Background()
	r, err := repo.Init(ctx, repotest.Mem(nil), &repo.Options{StateDir: "/var/cache/pgcairn"})
	if err != nil {
		panic(err)
	}
	fmt.Println(r.StateDir() == "/var/cache/pgcairn/"+r.ID())
	// Output: true
}
