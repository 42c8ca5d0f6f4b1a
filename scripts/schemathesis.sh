#!/usr/bin/env bash
# Fetches Schemathesis, with which the tests try the API by its OpenAPI document:
# Python packages, in an environment of their own. What is there already is left
# alone, so that after the first run it needs no network.
#
#   TOPK_CACHE  where to keep it (default: topk in the user's cache)
set -euo pipefail

requirements=$(dirname "${BASH_SOURCE[0]}")/schemathesis.txt
# The same as in cmd/topk/openapi_test.go.
version=$(sed -n 's/^schemathesis==//p' "$requirements")

cache=${TOPK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/topk}
environment=$cache/schemathesis-$version

say() { printf 'schemathesis: %s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}
need() { command -v "$1" >/dev/null || fail "$1 is needed to try the API: install $2 and run this again"; }

fetch() {
	need python3 "Python 3.10 or later with venv and pip"
	need flock util-linux
	mkdir -p "$cache"
	# One at a time: the others find the environment when the lock is theirs.
	exec 9>"$cache/schemathesis.lock"
	flock 9
	[[ ! -e $environment/complete ]] || return 0

	# An environment knows its own path, so it is made in its place, and marked
	# when it is whole.
	rm -rf "$environment"
	say "fetching Schemathesis $version (once)"
	python3 -m venv "$environment" || fail "python3 -m venv failed: see the message above"
	"$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" ||
		fail "pip could not fetch Schemathesis $version: see the message above"
	touch "$environment/complete"
}

[[ -e $environment/complete ]] || fetch
say "Schemathesis $version: $environment"
