package repotest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"sync"

	"github.com/pgcairn/pgcairn/repo"
)

// ErrInjected is what a [Fault] fails with when it is given no other error.
var ErrInjected = errors.New("injected fault")

// Operation is a kind of call on a store, or on a writer or body that it returned.
type Operation string

// The kinds of calls. Closing a writer or a body is none of them: it always works.
const (
	OpCreate Operation = "create"
	OpWrite  Operation = "write" // on a Writer
	OpCommit Operation = "commit"
	OpOpen   Operation = "open"
	OpRead   Operation = "read" // on the body that Open returned
	OpStat   Operation = "stat"
	OpList   Operation = "list" // the whole loop is one call
	OpDelete Operation = "delete"
)

// Call is a call that a [FaultStore] has seen.
type Call struct {
	Op  Operation
	Key string // the key, or the prefix of a list
}

// Fault says which calls go wrong, and how. The zero Fault fails every call with [ErrInjected].
type Fault struct {
	Op  Operation // the calls of this kind; any when empty
	Key string    // the calls for keys (for lists: prefixes) that match this pattern of path.Match; any when empty
	Nth int       // only the n-th call, from 1, of those that Op and Key select; each of them when 0
	Do  Effect    // what happens to the call
}

// FaultStore is a Store with faults. It is as safe for concurrent use as the store inside; which call is the n-th of
// several concurrent ones is then up to the scheduler.
type FaultStore struct {
	s repo.Store

	mu     sync.Mutex
	faults []Fault
	seen   []int // per fault: calls that Op and Key selected
	struck int
	calls  []Call
}

// Faulty returns a Store that does what s does, except for the faults. Where several faults meet one call they act in
// the order given, as far as the call gets.
//
// To fail each call that some work makes, one after the other, fail the n-th for growing n until nothing was struck:
//
//	for n := 1; ; n++ {
//		s := repotest.Faulty(repotest.Mem(nil), repotest.Fault{Nth: n})
//		err := work(s)
//		if s.Struck() == 0 {
//			break // work makes n-1 calls
//		}
//		... err is not nil, and work can be done again
//	}
func Faulty(s repo.Store, faults ...Fault) *FaultStore {
	return &FaultStore{s: s, faults: faults, seen: make([]int, len(faults))}
}

// Calls returns every call made so far, in order.
func (s *FaultStore) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Call(nil), s.calls...)
}

// Struck tells how many times a fault has met a call so far.
func (s *FaultStore) Struck() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.struck
}

// meet notes a call and returns what the faults do to it.
func (s *FaultStore) meet(ctx context.Context, op Operation, key string) *mishap {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, Call{Op: op, Key: key})
	m := &mishap{ctx: ctx, op: op, key: key}
	for i, f := range s.faults {
		if f.Op != "" && f.Op != op {
			continue
		}
		if f.Key != "" {
			ok, err := path.Match(f.Key, key)
			if err != nil {
				m.effects = append(m.effects, Fail(fmt.Errorf("repotest: pattern %q: %w", f.Key, err)))
			}
			if !ok {
				continue
			}
		}
		s.seen[i]++
		if f.Nth == 0 || f.Nth == s.seen[i] {
			s.struck++
			m.effects = append(m.effects, f.Do)
		}
	}
	return m
}

// Create implements [repo.Store].
func (s *FaultStore) Create(ctx context.Context, key string) (repo.Writer, error) {
	m := s.meet(ctx, OpCreate, key)
	if err := m.before(); err != nil {
		return nil, err
	}
	w, err := s.s.Create(ctx, key)
	if err != nil {
		return nil, err
	}
	if err := m.after(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return &faultWriter{ctx: ctx, s: s, key: key, w: w}, nil
}

// Open implements [repo.Store].
func (s *FaultStore) Open(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	m := s.meet(ctx, OpOpen, key)
	if err := m.before(); err != nil {
		return nil, err
	}
	body, err := s.s.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	if err := m.after(); err != nil {
		return nil, errors.Join(err, body.Close())
	}
	return &faultBody{ctx: ctx, s: s, key: key, Closer: body, r: m.spoil(body, off)}, nil
}

// Stat implements [repo.Store].
func (s *FaultStore) Stat(ctx context.Context, key string) (repo.Info, error) {
	m := s.meet(ctx, OpStat, key)
	if err := m.before(); err != nil {
		return repo.Info{}, err
	}
	info, err := s.s.Stat(ctx, key)
	if err == nil {
		err = m.after()
	}
	return info, err
}

// List implements [repo.Store].
func (s *FaultStore) List(ctx context.Context, prefix string) iter.Seq2[repo.Info, error] {
	return func(yield func(repo.Info, error) bool) {
		m := s.meet(ctx, OpList, prefix)
		if err := m.before(); err != nil {
			yield(repo.Info{}, err)
			return
		}
		left := m.cut()
		for info, err := range s.s.List(ctx, prefix) {
			if err == nil && left == 0 {
				yield(repo.Info{}, m.fail(ErrInjected))
				return
			}
			left--
			if !yield(info, err) || err != nil {
				return
			}
		}
		if err := m.after(); err != nil {
			yield(repo.Info{}, err)
		}
	}
}

// Delete implements [repo.Store].
func (s *FaultStore) Delete(ctx context.Context, key string) error {
	m := s.meet(ctx, OpDelete, key)
	err := m.before()
	if err == nil {
		err = s.s.Delete(ctx, key)
	}
	if err == nil {
		err = m.after()
	}
	return err
}
