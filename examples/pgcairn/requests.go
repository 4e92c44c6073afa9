package main

import (
	"errors"
	"sync/atomic"

	"github.com/pgcairn/pgcairn/repo"
)

// requests counts the requests to a store, as object stores bill them: asking for an object's size is a get, a list
// takes one for every page, and an object that was begun and given up has not been sent. What was tried
// again counts each time; what the store's own client repeats is not known here.
type requests struct {
	Put    int64 `json:"put"`
	Get    int64 `json:"get"`
	List   int64 `json:"list"`
	Delete int64 `json:"delete"`
}

// pageKeys is how many keys a request to list returns.
const pageKeys = 1000

// requestCounter counts them while they are made.
type requestCounter struct{ put, get, list, del atomic.Int64 }

func (c *requestCounter) add(op repo.Op) {
	switch op.Name {
	case "create":
		if !errors.Is(op.Err, repo.ErrAborted) {
			c.put.Add(1)
		}
	case "open", "stat":
		c.get.Add(1)
	case "list":
		c.list.Add(int64(max(1, (op.Keys+pageKeys-1)/pageKeys)))
	case "delete":
		c.del.Add(1)
	}
}

func (c *requestCounter) requests() requests {
	return requests{Put: c.put.Load(), Get: c.get.Load(), List: c.list.Load(), Delete: c.del.Load()}
}
