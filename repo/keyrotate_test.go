package repo_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/stretchr/testify/require"

	"github.com/pgcairn/pgcairn/crypto"
	"github.com/pgcairn/pgcairn/repo"
	"github.com/pgcairn/pgcairn/repo/repotest"
)

// person is somebody who may read, or may no more.
type person struct {
	to   age.Recipient
	from age.Identity
}

func newPerson(t testing.TB) person {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	return person{id.Recipient(), id}
}

func newHybridPerson(t testing.TB) person {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	require.NoError(t, err)
	return person{id.Recipient(), id}
}

// cipherOfThem writes for some, and reads as others.
func cipherOfThem(t testing.TB, to, from []person) *crypto.Age {
	t.Helper()
	var recipients []age.Recipient
	for _, p := range to {
		recipients = append(recipients, p.to)
	}
	var identities []age.Identity
	for _, p := range from {
		identities = append(identities, p.from)
	}
	c, err := crypto.New(recipients, identities)
	require.NoError(t, err)
	return c
}

// safe is an encrypted repository that is for some people.
type safe struct {
	store repo.Store
	n     int // objects written
}

func newSafe(t testing.TB, objects int, to ...person) *safe {
	t.Helper()
	s := &safe{store: repotest.Mem(nil)}
	_, err := repo.Init(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, to, nil)})
	require.NoError(t, err)
	for range objects {
		s.write(t, to...)
	}
	return s
}

// copy is another one that holds the same: making keys takes longer than copying them.
func (s *safe) copy(t *testing.T) *safe {
	t.Helper()
	return &safe{store: copyOf(t, s.store), n: s.n}
}

// write writes an object as a process without a state directory does, with a data key of its own.
func (s *safe) write(t testing.TB, to ...person) {
	t.Helper()
	r, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, to, nil), Now: testNow})
	require.NoError(t, err)
	s.n++
	_, err = put(t.Context(), r, fmt.Sprint("objects/", s.n), "", []byte("content"))
	require.NoError(t, err)
}

// readable tells how many objects somebody can read. That he cannot is only because of his identity.
func (s *safe) readable(t testing.TB, p ...person) (n int) {
	t.Helper()
	r, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, nil, p)})
	require.NoError(t, err)
	for _, key := range storedKeys(t, s.store, "objects/") {
		_, content, err := get(t.Context(), r, key)
		if err != nil {
			var wrong *crypto.IdentityError
			require.ErrorAs(t, err, &wrong, key)
			continue
		}
		require.Equal(t, "content", string(content))
		n++
	}
	return n
}

// rotate rotates the keys in a store.
func rotate(ctx context.Context, t testing.TB, s repo.Store, to, from []person, now func() time.Time) (repo.Rotation, error) {
	t.Helper()
	r, err := repo.Open(ctx, s, &repo.Options{Cipher: cipherOfThem(t, to, from), Now: now})
	if err != nil {
		return repo.Rotation{}, err
	}
	return r.RotateKeys(ctx)
}

// anHourLater is the clock of somebody for whom every lease has expired.
func anHourLater() time.Time { return testTime.Add(time.Hour) }

// wrappings counts the objects that hold data keys.
func wrappings(t testing.TB, s repo.Store) int {
	t.Helper()
	return len(slices.DeleteFunc(storedKeys(t, s, "keys/"), func(key string) bool { return !strings.HasSuffix(key, ".age") }))
}

// contents are the objects that are neither keys nor leases.
func contents(t *testing.T, s repo.Store) map[string][]byte {
	t.Helper()
	all := stored(t, s)
	maps.DeleteFunc(all, func(key string, _ []byte) bool {
		return strings.HasPrefix(key, "keys/") || strings.HasPrefix(key, "leases/")
	})
	return all
}

func TestRotateKeys(t *testing.T) {
	a, b, c := newPerson(t), newPerson(t), newPerson(t)
	p, q := newHybridPerson(t), newHybridPerson(t)
	nameless := person{struct{ age.Recipient }{b.to}, b.from}
	for _, tt := range []struct {
		name      string
		old, new  []person
		who       []person // rotates
		unchanged bool     // at once
		never     bool     // ever
	}{
		{name: "another", old: []person{a}, new: []person{b}, who: []person{a, b}},
		{name: "one more", old: []person{a}, new: []person{a, b}, who: []person{a}},
		{name: "one less", old: []person{a, b}, new: []person{a}, who: []person{a}},
		{name: "others", old: []person{a, b}, new: []person{c, b}, who: []person{b}},
		{name: "the same", old: []person{a, b}, new: []person{b, a}, who: []person{a}, unchanged: true},
		{name: "the same twice", old: []person{a}, new: []person{a, a}, who: []person{a}, unchanged: true},
		{name: "to post-quantum", old: []person{a}, new: []person{p, q}, who: []person{a, q}},
		{name: "from post-quantum", old: []person{p}, new: []person{a}, who: []person{p, a}},
		{name: "post-quantum", old: []person{p}, new: []person{q}, who: []person{p, q}},
		{name: "without a name", old: []person{a}, new: []person{nameless}, who: []person{a, b}, never: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSafe(t, 3, tt.old...)
			before := contents(t, s.store)
			done, err := rotate(t.Context(), t, s.store, tt.new, tt.who, testNow)
			require.NoError(t, err)
			require.Len(t, slices.Concat(done.Rewrapped, done.Unchanged), 3)
			if tt.unchanged {
				require.Empty(t, done.Rewrapped)
			} else {
				require.Empty(t, done.Unchanged)
			}
			require.Empty(t, done.Left)
			require.Empty(t, done.Kept)
			require.Equal(t, before, contents(t, s.store), "no data is touched")
			require.Equal(t, 3, wrappings(t, s.store))
			for _, p := range tt.new {
				require.Equal(t, 3, s.readable(t, p))
			}
			for _, p := range tt.old {
				if !slices.Contains(tt.new, p) {
					require.Zero(t, s.readable(t, p))
				}
			}

			// Again.
			keys := stored(t, s.store)
			again, err := rotate(t.Context(), t, s.store, tt.new, tt.who, testNow)
			require.NoError(t, err)
			if tt.never {
				require.Len(t, again.Rewrapped, 3, "nobody can tell that they are the same")
				require.Equal(t, 3, wrappings(t, s.store))
				return
			}
			require.Len(t, again.Unchanged, 3)
			for key, b := range stored(t, s.store) {
				if strings.HasPrefix(key, "keys/") {
					require.Equal(t, keys[key], b)
				}
			}
		})
	}
}

// Nothing is done that nobody here could undo.
func TestRotateLockout(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	for name, tt := range map[string]struct {
		to, from []person
		none     bool // no recipients
	}{
		"the new identity is missing": {to: []person{b}, from: []person{a}},
		"no identity":                 {to: []person{a}},
		"no recipients":               {from: []person{a}, none: true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSafe(t, 2, a)
			before := stored(t, s.store)
			_, err := rotate(t.Context(), t, s.store, tt.to, tt.from, testNow)
			require.Equal(t, before, stored(t, s.store))
			if tt.none {
				require.ErrorIs(t, err, crypto.ErrNoRecipients)
				return
			}
			var out *repo.LockoutError
			require.ErrorAs(t, err, &out)
			var whose *crypto.IdentityError
			require.ErrorAs(t, err, &whose)
			require.Equal(t, []string{fmt.Sprint(tt.to[0].to)}, whose.Recipients)
			require.ErrorContains(t, err, "give one of theirs besides")
		})
	}

	plain := newRig(t, false)
	_, err := plain.w.RotateKeys(t.Context())
	require.ErrorIs(t, err, repo.ErrNotEncrypted)
	_, err = plain.w.RetireKeys(t.Context())
	require.ErrorIs(t, err, repo.ErrNotEncrypted)
	_, err = plain.w.Keys(t.Context())
	require.ErrorIs(t, err, repo.ErrNotEncrypted)
}

// What does not open keeps nobody from rotating the rest.
func TestRotateLeft(t *testing.T) {
	a, b, other := newPerson(t), newPerson(t), newPerson(t)
	s := newSafe(t, 2, a)
	s.write(t, other)
	damaged := keyOf(t, s.store, "objects/2")
	bytesOf := storedBytes(t, s.store, damaged)
	require.NoError(t, s.store.Delete(t.Context(), damaged))
	storeBytes(t, s.store, damaged, bytesOf[:len(bytesOf)-1])

	done, err := rotate(t.Context(), t, s.store, []person{b}, []person{a, b}, testNow)
	var left *repo.RotationError
	require.ErrorAs(t, err, &left)
	require.Len(t, left.Left, 2)
	require.Equal(t, left.Left, done.Left)
	require.ErrorContains(t, err, "give an identity that opens them as well")
	require.ErrorContains(t, err, fmt.Sprint(other.to), "whose")
	require.Len(t, done.Rewrapped, 1)
	require.Equal(t, 1, s.readable2(t, b))
	require.Equal(t, 1, s.readable2(t, other))

	// With the identity, what is not damaged is done.
	done, err = rotate(t.Context(), t, s.store, []person{b}, []person{a, b, other}, testNow)
	require.ErrorAs(t, err, &left)
	require.Len(t, done.Left, 1)
	require.Len(t, done.Unchanged, 1)
	require.Len(t, done.Rewrapped, 1)
	require.Equal(t, 2, s.readable2(t, b))
	require.Zero(t, s.readable2(t, other))
}

// readable2 is readable where keys may be damaged.
func (s *safe) readable2(t testing.TB, p person) (n int) {
	t.Helper()
	r, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, nil, []person{p})})
	require.NoError(t, err)
	for _, key := range storedKeys(t, s.store, "objects/") {
		if _, _, err := get(t.Context(), r, key); err == nil {
			n++
		}
	}
	return n
}

// Where nothing may be deleted, the report says who can still read, and names that nobody can prove are said to be such.
func TestRotateAppendOnly(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	s := newSafe(t, 2, a)
	appendOnly := repotest.Faulty(s.store, repotest.Fault{Op: repotest.OpDelete, Do: repotest.Fail(fs.ErrPermission)})
	for i := range 3 {
		done, err := rotate(t.Context(), t, appendOnly, []person{b}, []person{a, b}, testNow)
		require.NoError(t, err)
		if i == 0 {
			require.Len(t, done.Rewrapped, 2)
		} else {
			require.Len(t, done.Unchanged, 2)
		}
		require.Len(t, done.Kept, 2)
		for _, kept := range done.Kept {
			require.Equal(t, []string{fmt.Sprint(a.to)}, kept.Recipients)
			require.True(t, kept.Proven)
			require.Contains(t, kept.Error, fs.ErrPermission.Error())
		}
		require.Equal(t, 4, wrappings(t, s.store), "it does not grow")
	}
	require.Equal(t, 2, s.readable(t, a))
	require.Equal(t, 2, s.readable(t, b))
	for key := range stored(t, s.store) {
		require.False(t, strings.HasSuffix(key, ".tmp"))
	}

	// Somebody who is none of the old ones is told the names without proof.
	done, err := rotate(t.Context(), t, appendOnly, []person{b}, []person{b}, testNow)
	require.NoError(t, err)
	require.Len(t, done.Kept, 2)
	require.False(t, done.Kept[0].Proven)

	// Once deleting is permitted, they go.
	done, err = rotate(t.Context(), t, s.store, []person{b}, []person{b}, testNow)
	require.NoError(t, err)
	require.Empty(t, done.Kept)
	require.Zero(t, s.readable(t, a))
	require.Equal(t, 2, s.readable(t, b))
}

// What somebody plants beside a key neither hides it nor is taken for it, and goes with the next rotation.
func TestRotatePlanted(t *testing.T) {
	a, b, evil := newPerson(t), newPerson(t), newPerson(t)
	s := newSafe(t, 1, a)
	id := strings.TrimSuffix(keyOf(t, s.store, "objects/1"), ".age")
	_, another, err := cipherOfThem(t, []person{a, evil}, nil).NewKey()
	require.NoError(t, err)
	storeBytes(t, s.store, id+".00000001.age", another)
	storeBytes(t, s.store, id+".00000007.age", []byte("nonsense"))
	for _, strange := range []string{".00000000.age", ".1.age", ".000000001.age", ".100000000.age", ".123456789.age", ".-0000001.age", ".later", ".00000002.age.new"} {
		storeBytes(t, s.store, id+strange, another)
	}
	storeBytes(t, s.store, "keys/somebody-else.age", another)
	require.Equal(t, 1, s.readable(t, a))

	done, err := rotate(t.Context(), t, s.store, []person{b}, []person{a, b}, testNow)
	require.NoError(t, err)
	require.Len(t, done.Rewrapped, 1)
	require.Equal(t, 1, s.readable(t, b))
	require.Zero(t, s.readable(t, a, evil))
	keys := storedKeys(t, s.store, id)
	require.Contains(t, keys, id+".00000008.age")
	require.NotContains(t, keys, id+".age")
	require.NotContains(t, keys, id+".00000007.age")

	storeBytes(t, s.store, id+".99999999.age", []byte("nonsense"))
	_, err = rotate(t.Context(), t, s.store, []person{a}, []person{a, b}, testNow)
	require.ErrorContains(t, err, ".99999999.age has the last number")
	require.Equal(t, 1, s.readable(t, b))
}

// at is a store at whose n-th call something happens, before it or after it. Calls of writers and bodies count.
type at struct {
	repo.Store

	n     int
	after bool
	do    func() error // is done once; the call fails with its error
	dead  bool         // every call fails
}

func (s *at) call(f func() error) error {
	if s.dead {
		return repotest.ErrInjected
	}
	s.n--
	if s.n != 0 {
		return f()
	}
	if s.after {
		err := f()
		if failed := s.do(); failed != nil {
			return failed
		}
		return err
	}
	if err := s.do(); err != nil {
		return err
	}
	return f()
}

func (s *at) Create(ctx context.Context, key string) (w repo.Writer, err error) {
	err = s.call(func() (err error) {
		w, err = s.Store.Create(ctx, key)
		return err
	})
	if err != nil && w != nil {
		_ = w.Close()
	}
	return &atWriter{w, s}, err
}

func (s *at) Open(ctx context.Context, key string, off, n int64) (body io.ReadCloser, err error) {
	err = s.call(func() (err error) {
		body, err = s.Store.Open(ctx, key, off, n)
		return err
	})
	return body, err
}

func (s *at) List(ctx context.Context, prefix string) iter.Seq2[repo.Info, error] {
	return func(yield func(repo.Info, error) bool) {
		var all []repo.Info
		err := s.call(func() error {
			for info, err := range s.Store.List(ctx, prefix) {
				if err != nil {
					return err
				}
				all = append(all, info)
			}
			return nil
		})
		for _, info := range all {
			if !yield(info, nil) {
				return
			}
		}
		if err != nil {
			yield(repo.Info{}, err)
		}
	}
}

func (s *at) Delete(ctx context.Context, key string) error {
	return s.call(func() error { return s.Store.Delete(ctx, key) })
}

type atWriter struct {
	repo.Writer

	s *at
}

func (w *atWriter) Commit() (info repo.Info, err error) {
	err = w.s.call(func() (err error) {
		info, err = w.Writer.Commit()
		return err
	})
	return info, err
}

// everyCall runs a test for each call that a rotation makes.
func everyCall(t *testing.T, test func(t *testing.T, n int, after bool) (struck bool)) {
	t.Helper()
	for _, after := range []bool{false, true} {
		n := 1
		for test(t, n, after) {
			n++
		}
		require.Greater(t, n, 20)
	}
}

// However a rotation is cut short, every key can be read by those who could before or by those who are to, and the next
// one ends it. Killed means that nothing happens any more, its lease included.
func TestRotateKilledAnywhere(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	base := newSafe(t, 2, a)
	everyCall(t, func(t *testing.T, n int, after bool) bool {
		s := base.copy(t)
		s2 := &at{Store: s.store, n: n, after: after}
		s2.do = func() error {
			s2.dead = true
			return repotest.ErrInjected
		}
		_, err := rotate(t.Context(), t, s2, []person{b}, []person{a, b}, testNow)
		if !s2.dead {
			require.NoError(t, err)
			return false
		}
		require.Equal(t, 2, s.readable(t, a, b), "call %d", n)
		done, err := rotate(t.Context(), t, hoursOn{s.store}, []person{b}, []person{a, b}, anHourLater)
		require.NoError(t, err)
		require.Len(t, slices.Concat(done.Rewrapped, done.Unchanged), 2)
		require.Empty(t, done.Kept)
		require.Equal(t, 2, s.readable(t, b), "call %d", n)
		require.Zero(t, s.readable(t, a), "call %d", n)
		require.Equal(t, 2, wrappings(t, s.store))
		return true
	})
}

// One call that fails, before or after its effect, or breaks off.
func TestRotateFaultAtEveryCall(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	base := newSafe(t, 2, a)
	for what, effect := range map[string]repotest.Effect{
		"fails": repotest.Fail(nil), "fails after the fact": repotest.FailAfter(nil), "breaks off": repotest.Cut(50), "of a list": repotest.Cut(1),
	} {
		t.Run(what, func(t *testing.T) {
			for n := 1; ; n++ {
				s := base.copy(t)
				fault := repotest.Fault{Nth: n, Do: effect}
				switch what {
				case "breaks off":
					fault.Op = repotest.OpOpen
				case "of a list":
					fault.Op = repotest.OpList
				}
				faulty := repotest.Faulty(s.store, fault)
				done, err := rotate(t.Context(), t, faulty, []person{b}, []person{a, b}, testNow)
				if faulty.Struck() == 0 {
					require.NoError(t, err)
					require.Greater(t, n, 3)
					return
				}
				if err != nil {
					requireNoAnswerAtAll(t, err)
					require.False(t, isCorrupt(err), "%v", err)
					require.Equal(t, 2, s.readable(t, a, b), "call %d", n)
				} else {
					require.Equal(t, 2, s.readable(t, b), "call %d", n)
					require.Equal(t, 2+len(done.Kept), wrappings(t, s.store), "what is still there is told")
				}
				_, err = rotate(t.Context(), t, hoursOn{s.store}, []person{b}, []person{a, b}, anHourLater)
				require.NoError(t, err)
				require.Equal(t, 2, s.readable(t, b), "call %d", n)
				require.Zero(t, s.readable(t, a), "call %d", n)
				require.Equal(t, 2, wrappings(t, s.store))
			}
		})
	}
}

func isCorrupt(err error) bool {
	var c *repo.CorruptError
	return errors.As(err, &c)
}

// At each call of a rotation somebody else rotates as well, for whom the lease has expired, so that it does not hold him
// off. No key is ever lost, and each can be read by those whom one of the two has named.
func TestRotateTwoAtOnce(t *testing.T) {
	a, b, c := newPerson(t), newPerson(t), newPerson(t)
	base := newSafe(t, 2, a)
	everyCall(t, func(t *testing.T, n int, after bool) bool {
		s := base.copy(t)
		lists := 0
		counted := repo.Observe(s.store, func(op repo.Op) {
			if op.Name == "list" && op.Key == "keys/" {
				lists++
			}
		})
		struck, last := false, false
		s2 := &at{Store: counted, n: n, after: after}
		s2.do = func() error {
			struck, last = true, lists == 2 // it has looked what has come of it
			_, err := rotate(t.Context(), t, hoursOn{s.store}, []person{c}, []person{a, b, c}, anHourLater)
			require.NoError(t, err)
			return nil
		}
		_, err := rotate(t.Context(), t, s2, []person{b}, []person{a, b, c}, testNow)
		if !struck {
			require.NoError(t, err)
			return false
		}
		require.Equal(t, 2, s.readable(t, b, c), "call %d: %v", n, err)
		if err == nil && !last {
			require.Equal(t, 2, s.readable(t, b), "call %d: it said so", n)
		}
		_, err = rotate(t.Context(), t, hoursOn{s.store}, []person{c}, []person{b, c}, func() time.Time { return anHourLater().Add(time.Hour) })
		require.NoError(t, err)
		require.Equal(t, 2, s.readable(t, c))
		require.Zero(t, s.readable(t, a, b))
		return true
	})

	// With clocks that agree, the second is told.
	s := newSafe(t, 1, a)
	s2 := &at{Store: s.store, n: 8, do: func() error {
		_, err := rotate(t.Context(), t, s.store, []person{c}, []person{a, c}, testNow)
		var held *repo.LeaseError
		require.ErrorAs(t, err, &held)
		require.Equal(t, "keys", held.Name)
		return nil
	}}
	_, err := rotate(t.Context(), t, s2, []person{b}, []person{a, b}, testNow)
	require.NoError(t, err)
}

// At each call of a rotation a host that knows nothing of it writes: one with a data key of its own from before, and one
// that makes a new one for those who were to read before. What is there when the rotation ends is for the new ones, and
// for nobody else.
func TestRotateBesideWriters(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	base := newSafe(t, 1, a)
	old := repo.Options{Cipher: cipherOfThem(t, []person{a}, nil), StateDir: t.TempDir()}
	process(t, base.store, "other/1", old)
	key := keyOf(t, base.store, "other/1")
	everyCall(t, func(t *testing.T, n int, after bool) bool {
		s := base.copy(t)
		lists := 0
		counted := repo.Observe(s.store, func(op repo.Op) {
			if op.Name == "list" && op.Key == "keys/" {
				lists++
			}
		})
		struck, last := false, false
		s2 := &at{Store: counted, n: n, after: after, do: func() error {
			struck, last = true, lists == 2 // it has looked for keys that were made meanwhile
			s.write(t, a)
			process(t, s.store, "other/2", old)
			require.Equal(t, key, keyOf(t, s.store, "other/2"), "the data key is the same")
			return nil
		}}
		_, err := rotate(t.Context(), t, s2, []person{b}, []person{a, b}, testNow)
		require.NoError(t, err)
		if !struck {
			return false
		}
		if last {
			_, err = rotate(t.Context(), t, s.store, []person{b}, []person{a, b}, testNow)
			require.NoError(t, err)
		}
		require.Equal(t, s.n, s.readable(t, b), "call %d", n)
		require.Zero(t, s.readable(t, a), "call %d", n)
		r, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, nil, []person{b})})
		require.NoError(t, err)
		for _, key := range storedKeys(t, s.store, "other/") {
			_, _, err := get(t.Context(), r, key)
			require.NoError(t, err)
		}
		return true
	})
}

// A reader that looks while keys are being rotated, again and again, finds them.
func TestReadBesideRotations(t *testing.T) {
	a := newPerson(t)
	everyReaderCall := func(n int, after bool) bool {
		s := newSafe(t, 1, a)
		b := newPerson(t)
		_, err := rotate(t.Context(), t, s.store, []person{a, b}, []person{a}, testNow)
		require.NoError(t, err)
		struck := false
		r, err := repo.Open(t.Context(), &at{Store: s.store, n: n + 1, after: after, do: func() error {
			struck = true
			_, err := rotate(t.Context(), t, s.store, []person{a}, []person{a}, testNow)
			require.NoError(t, err)
			return nil
		}}, &repo.Options{Cipher: cipherOfThem(t, nil, []person{a})})
		require.NoError(t, err)
		_, content, err := get(t.Context(), r, "objects/1")
		require.NoError(t, err, "call %d", n)
		require.Equal(t, "content", string(content))
		return struck
	}
	for _, after := range []bool{false, true} {
		n := 1
		for everyReaderCall(n, after) {
			n++
		}
		require.Greater(t, n, 3)
	}
}

// After a rotation the first wrapping is gone. That the others cannot be listed or read then is an outage, not damage.
func TestReadAfterRotationOutage(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	rotated := newSafe(t, 1, a)
	_, err := rotate(t.Context(), t, rotated.store, []person{b}, []person{a, b}, testNow)
	require.NoError(t, err)
	damaged := rotated.copy(t)
	storeBytes(t, damaged.store, keyOf(t, damaged.store, "objects/1"), []byte("nonsense"))

	for name, s := range map[string]*safe{"gone": rotated, "damaged": damaged} {
		for _, fault := range []repotest.Fault{
			{Op: repotest.OpList, Key: "keys/*"},
			{Op: repotest.OpOpen, Key: "keys/*.00000001.age"},
			{Op: repotest.OpRead, Key: "keys/*.00000001.age"},
		} {
			down := repotest.Faulty(s.store, fault)
			r, err := repo.Open(t.Context(), down, &repo.Options{Cipher: cipherOfThem(t, nil, []person{b})})
			require.NoError(t, err)
			_, _, err = get(t.Context(), r, "objects/1")
			require.Equal(t, 1, down.Struck(), "%s, %s", name, fault.Op)
			requireOutage(t, err)
		}
		require.Equal(t, 1, s.readable(t, b))
	}
}

// A repository with hosts that make a key for every object all the while does not keep a rotation for ever.
func TestRotateBesideEndlessKeys(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	s := newSafe(t, 1, a)
	endless := repo.Observe(s.store, func(op repo.Op) {
		if op.Name == "open" && strings.HasPrefix(op.Key, "keys/") {
			s.write(t, a)
		}
	})
	done, err := rotate(t.Context(), t, endless, []person{b}, []person{a, b}, testNow)
	require.ErrorContains(t, err, "hosts make data keys all the while")
	require.NotEmpty(t, done.Rewrapped)
	require.Equal(t, s.n, s.readable(t, a, b))
}

// alike is a recipient whose text is that of others, as of all that age's plugins have made of identities.
type alike struct{ age.Recipient }

func (alike) String() string { return "<identity-based recipient>" }

// Recipients that have the same text are no reason to leave a key as it is, nor to go on with the one that a host has.
func TestRotateAwayFromOneThatLooksAlike(t *testing.T) {
	a, b := newPerson(t), newPerson(t)
	a.to, b.to = alike{a.to}, alike{b.to}
	s, state := newSafe(t, 0, a), t.TempDir()
	write := func(p person) {
		r, err := repo.Open(t.Context(), s.store, &repo.Options{Cipher: cipherOfThem(t, []person{p}, nil), StateDir: state, Now: testNow})
		require.NoError(t, err)
		s.n++
		_, err = put(t.Context(), r, fmt.Sprint("objects/", s.n), "", []byte("content"))
		require.NoError(t, err)
	}
	write(a)
	done, err := rotate(t.Context(), t, s.store, []person{b}, []person{a, b}, testNow)
	require.NoError(t, err)
	require.Len(t, done.Rewrapped, 1)
	require.Empty(t, done.Kept)
	require.Zero(t, s.readable(t, a))
	require.Equal(t, 1, s.readable(t, b))

	write(b)
	require.Zero(t, s.readable(t, a))
	require.Equal(t, 2, s.readable(t, b))
}
