package repotest

import "context"

// Again lets repo.Retry repeat a Commit that a [Fault] has failed.
func (w *memWriter) Again(ctx context.Context) bool {
	w.ctx, w.err = ctx, nil
	return true
}

// Again passes on what the writer inside says.
func (w *faultWriter) Again(ctx context.Context) bool {
	inner, ok := w.w.(interface{ Again(context.Context) bool })
	if ok = ok && inner.Again(ctx); ok {
		w.ctx = ctx
	}
	return ok
}
