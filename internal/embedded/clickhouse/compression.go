package clickhouse

import (
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// decodeContent undoes the Content-Encoding of a request.
func decodeContent(encoding string, body io.Reader) (io.ReadCloser, error) {
	switch strings.ToLower(strings.TrimSpace(encoding)) {
	case "", "identity":
		return io.NopCloser(body), nil
	case "gzip", "x-gzip":
		return gzip.NewReader(body)
	case "deflate":
		return zlib.NewReader(body)
	case "br":
		return io.NopCloser(brotli.NewReader(body)), nil
	case "lz4":
		return io.NopCloser(lz4.NewReader(body)), nil
	case "zstd":
		d, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxMemory(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return nil, raise(codeNotImplemented, "NOT_IMPLEMENTED", "Unknown compression method '%s'", encoding)
}

const maxZstdWindow = 128 << 20

// responseEncodings are those offered, the best first.
var responseEncodings = []string{"zstd", "br", "gzip", "deflate", "lz4"}

// chooseEncoding picks the encoding of the response, empty for none.
func chooseEncoding(accept string) string {
	for _, offered := range responseEncodings {
		for part := range strings.SplitSeq(accept, ",") {
			name, weight, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), offered) && strings.ReplaceAll(weight, " ", "") != "q=0" {
				return offered
			}
		}
	}
	return ""
}

// encodeContent applies a Content-Encoding to the response.
func encodeContent(encoding string, w io.Writer) (io.WriteCloser, error) {
	switch encoding {
	case "gzip":
		return gzip.NewWriterLevel(w, gzip.BestSpeed)
	case "deflate":
		return zlib.NewWriterLevel(w, zlib.BestSpeed)
	case "br":
		return brotli.NewWriterLevel(w, brotli.BestSpeed), nil
	case "lz4":
		return lz4.NewWriter(w), nil
	case "zstd":
		return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	}
	return nopWriteCloser{w}, nil
}

type nopWriteCloser struct{ io.Writer }

func (nopWriteCloser) Close() error { return nil }

// blockReader reads ClickHouse's own compressed blocks, of decompress=1. Past
// the last block the library's reader would repeat it.
type blockReader struct {
	r   *compress.Reader
	err error
}

func newBlockReader(r io.Reader) *blockReader { return &blockReader{r: compress.NewReader(r)} }

func (b *blockReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.Read(p)
	if err != nil {
		b.err = err
		// A clean end falls between two blocks.
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			b.err = io.EOF
		}
		err = b.err
	}
	return n, err
}

// maxCompressedBlock is how much goes into one compressed block.
const maxCompressedBlock = 1 << 20

// blockWriter writes ClickHouse's own compressed blocks, of compress=1.
type blockWriter struct {
	w io.Writer
	c *compress.Writer
}

func newBlockWriter(w io.Writer, method string) *blockWriter {
	m := compress.LZ4
	switch strings.ToUpper(method) {
	case "ZSTD":
		m = compress.ZSTD
	case "LZ4HC":
		m = compress.LZ4HC
	case "NONE":
		m = compress.None
	}
	return &blockWriter{w: w, c: compress.NewWriter(compress.LevelZero, m)}
}

func (b *blockWriter) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := p[:min(len(p), maxCompressedBlock)]
		if err := b.c.Compress(part); err != nil {
			return written, err
		}
		if _, err := b.w.Write(b.c.Data); err != nil {
			return written, err
		}
		written += len(part)
		p = p[len(part):]
	}
	return written, nil
}
