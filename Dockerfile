# syntax=docker/dockerfile:1
#
# The image of the roles (serve, refresh, load, migrate, …) for use with real
# servers. `topk up` needs libchdb and redis-server besides, which are not in it.
#
# Not run in CI: there is no Docker there. deploy/compose_test.go reads it.

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# No cgo. The binary still asks for libc at run time, because the embedded
# ClickHouse is loaded as a shared library: hence a base with glibc, not scratch.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/gocache \
    GOCACHE=/gocache CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/topk ./cmd/topk

FROM debian:bookworm-slim
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/topk /usr/local/bin/topk
USER 65532:65532
ENV TOPK_LOG_FORMAT=json \
    TOPK_LISTEN=0.0.0.0:8080 \
    TOPK_REFRESH_LISTEN=0.0.0.0:8081 \
    TOPK_LOAD_LISTEN=0.0.0.0:8082
EXPOSE 8080 8081 8082
ENTRYPOINT ["topk"]
CMD ["--help"]
