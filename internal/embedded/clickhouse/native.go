package clickhouse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// nativeEncoder rewrites blocks as the engine formats them (protocol revision
// 0: no block info, no serialisation flag per column) to the revision a client
// announced in client_protocol_version.
type nativeEncoder struct {
	revision uint64
	buffer   chproto.Buffer
}

// encode returns the re-encoded blocks of chunk, valid until the next call.
func (e *nativeEncoder) encode(chunk []byte) ([]byte, error) {
	e.buffer.Reset()
	source := bytes.NewReader(chunk)
	// One buffer for both readers: chproto's would read ahead of a block.
	reader := chproto.NewReader(source)
	for {
		block := proto.Block{ServerContext: &column.ServerContext{Timezone: time.UTC}}
		if err := block.Decode(reader, 0); err != nil {
			if errors.Is(err, io.EOF) && source.Len() == 0 && len(block.Columns) == 0 {
				return e.buffer.Buf, nil
			}
			return nil, fmt.Errorf("decode a block of the engine: %w", err)
		}
		if err := block.Encode(&e.buffer, e.revision); err != nil {
			return nil, fmt.Errorf("encode a block: %w", err)
		}
	}
}
