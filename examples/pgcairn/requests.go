package main

import (
	"sync/atomic"

	"github.com/pgcairn/pgcairn/repo"
)

// requests counts the requests to a store, as object stores bill them: asking for an object's size is a get.
type requests struct {
	Put    int64 `json:"put"`
	Get    int64 `json:"get"`
	List   int64 `json:"list"`
	Delete int64 `json:"delete"`
}

// requestCounter counts them while they are made.
type requestCounter struct{ put, get, list, del atomic.Int64 }

func (c *requestCounter) add(op repo.Op) {
	switch op.Name {
	case "create":
		c.put.Add(1)
	case "open", "stat":
		c.get.Add(1)
	case "list":
		c.list.Add(1)
	case "delete":
		c.del.Add(1)
	}
}

func (c *requestCounter) requests() requests {
	return requests{Put: c.put.Load(), Get: c.get.Load(), List: c.list.Load(), Delete: c.del.Load()}
}
