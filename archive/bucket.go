package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// bucket is the part of S3 that does not go through ClickHouse. Keys are below
// the prefix.
type bucket struct {
	client *s3.Client
	at     Location
}

const (
	requestTimeout = 30 * time.Second
	maxManifest    = 16 << 20 // bytes
)

// errAbsent: there is no such object.
var errAbsent = errors.New("there is no such object")

func openBucket(ctx context.Context, at Location) (*bucket, error) {
	options := []func(*config.LoadOptions) error{config.WithRegion(at.Region)}
	if at.signed() {
		options = append(options, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(at.KeyID, at.Secret, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("configure S3: %w", err)
	}
	return &bucket{at: at, client: s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.BaseEndpoint = aws.String(at.Endpoint)
		o.UsePathStyle = true
		// Not every S3 knows the newer checksums.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})}, nil
}

// ensure makes the bucket when it is not there.
func (b *bucket) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.at.Bucket})
	var missing *types.NotFound
	if !errors.As(err, &missing) {
		return b.wrap("look for bucket "+b.at.Bucket, err)
	}
	_, err = b.client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &b.at.Bucket})
	return b.wrap("create bucket "+b.at.Bucket, err)
}

// list gives the size of each object whose key begins so.
func (b *bucket) list(ctx context.Context, prefix string) (map[string]uint64, error) {
	sizes := map[string]uint64{}
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{
		Bucket: &b.at.Bucket, Prefix: aws.String(b.at.Prefix + prefix),
	})
	for pages.HasMorePages() {
		page, err := nextPage(ctx, pages)
		if err != nil {
			return nil, b.wrap("list "+prefix, err)
		}
		for _, o := range page.Contents {
			sizes[aws.ToString(o.Key)[len(b.at.Prefix):]] = uint64(aws.ToInt64(o.Size))
		}
	}
	return sizes, nil
}

func nextPage(ctx context.Context, pages *s3.ListObjectsV2Paginator) (*s3.ListObjectsV2Output, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return pages.NextPage(ctx)
}

// read decodes a JSON object. An errAbsent when it is not there.
func (b *bucket) read(ctx context.Context, key string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.at.Bucket, Key: aws.String(b.at.Prefix + key)})
	var missing *types.NoSuchKey
	if errors.As(err, &missing) {
		return fmt.Errorf("%s: %w", key, errAbsent)
	}
	if err != nil {
		return b.wrap("read "+key, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxManifest))
	if err != nil {
		return b.wrap("read "+key, err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, key, err)
	}
	return nil
}

// write puts a JSON object, whole or not at all.
func (b *bucket) write(ctx context.Context, key string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = b.client.PutObject(ctx, &s3.PutObjectInput{
		Bucket: &b.at.Bucket, Key: aws.String(b.at.Prefix + key), Body: bytes.NewReader(text),
		ContentType: aws.String("application/json"),
	})
	return b.wrap("write "+key, err)
}

func (b *bucket) delete(ctx context.Context, key string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.at.Bucket, Key: aws.String(b.at.Prefix + key)})
	return b.wrap("delete "+key, err)
}

func (b *bucket) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("S3: %s: %w", doing, b.at.conceal(err))
}
