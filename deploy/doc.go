// Package deploy holds what runs topk elsewhere: configuration of ClickHouse,
// and tests that read docker-compose.yml and the Dockerfile.
//
// The containers themselves are not run in CI, where there is no Docker: the
// tests check that the files are valid, fit each other and name only settings
// that the program knows.
package deploy
