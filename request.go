package topk

import "context"

// WithRequestID carries the name of a request to what is logged and to the
// statements that are put for it.
func WithRequestID(ctx context.Context, id string) context.Context {
	return &requestContext{ctx, id}
}

// RequestID is the name that WithRequestID gave, or "".
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// A requestContext is a value context with one allocation less.
type requestContext struct {
	context.Context
	id string
}

type requestIDKey struct{}

func (c *requestContext) Value(key any) any {
	if key == (requestIDKey{}) {
		return c.id
	}
	return c.Context.Value(key)
}
