#!/usr/bin/env bash
# Fetches the engines that `topk up` and the tests run: the ClickHouse library
# and redis-server. What is there already is left alone, so that after the
# first run it needs no network.
#
#   TOPK_CACHE  where to keep the library (default: topk in the user's cache)
set -euo pipefail

# The same version as libraryVersion in internal/embedded/config.go.
version=26.7.3-stable.1
package=@chdb/lib-linux-x64-gnu
tarball_sha256=c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad
library_sha256=36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5

cache=${TOPK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/topk}
library=$cache/libchdb-$version/libchdb.so

say() { printf 'engines: %s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}
need() { command -v "$1" >/dev/null || fail "$1 is needed to fetch the ClickHouse library: install $2 and run this again"; }

check() { # sum, file
	printf '%s  %s\n' "$1" "$2" | sha256sum --check --status ||
		fail "$(basename "$2") is not the expected file (SHA-256 differs): nothing was installed"
}

fetch_library() {
	need npm "Node.js with npm"
	need sha256sum coreutils
	need flock util-linux
	mkdir -p "$cache"
	# One at a time: the others find the library when the lock is theirs.
	exec 9>"$cache/lock"
	flock 9
	[[ ! -e $library ]] || return 0

	# In the cache folder, so that the last step is a rename: a library that is
	# there is whole.
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	say "fetching ClickHouse $version (178 MB, once)"
	(cd "$work" && npm pack --silent "$package@$version" >npm.out) ||
		fail "npm could not fetch $package@$version: see the message above"
	tarball=$work/$(tail -n 1 "$work/npm.out")
	check "$tarball_sha256" "$tarball"
	tar --no-same-owner -xzmf "$tarball" -C "$work" package/libchdb.so
	check "$library_sha256" "$work/package/libchdb.so"
	chmod 755 "$work/package/libchdb.so"
	mkdir -p "$(dirname "$library")"
	mv "$work/package/libchdb.so" "$library"
}

fetch_redis() {
	if ! command -v apt-get >/dev/null; then
		fail "redis-server is missing: install it with the package manager of this system, or set TOPK_REDIS_URL"
	fi
	if [[ $(id -u) -ne 0 ]]; then
		fail "redis-server is missing: run this as root, or 'sudo apt-get install redis-server', or set TOPK_REDIS_URL"
	fi
	say "installing redis-server"
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends redis-server >/dev/null
}

if [[ $(uname -s)/$(uname -m) != Linux/x86_64 ]]; then
	say "there is no embedded ClickHouse for $(uname -s)/$(uname -m): set TOPK_CLICKHOUSE_URL to a ClickHouse server of yours"
elif [[ ! -e $library ]]; then
	fetch_library
fi
command -v redis-server >/dev/null || fetch_redis

[[ ! -e $library ]] || say "ClickHouse $version: $library"
say "Redis: $(redis-server --version)"
