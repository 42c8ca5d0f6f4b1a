#!/usr/bin/env bash
# Fetches a Kafka broker, which the fault tests kill: the jars of a release, from
# Maven Central. What is there already is left alone, so that after the first run
# it needs no network. Prints the folder of the jars.
#
#   TOPK_CACHE  where to keep them (default: topk in the user's cache)
set -euo pipefail

# The same version as brokerVersion in internal/faults/kafka.go.
version=4.4.0
logging=2.25.4 # without it the broker is mute

cache=${TOPK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/topk}
libs=$cache/kafka-$version/libs

say() { printf 'kafka: %s\n' "$*" >&2; }
fail() {
	say "$*"
	exit 1
}
need() { command -v "$1" >/dev/null || fail "$1 is needed for the fault tests: install $2 and run this again"; }

fetch() {
	need mvn Maven
	need flock util-linux
	mkdir -p "$cache"
	# One at a time: the others find the jars when the lock is theirs.
	exec 9>"$cache/kafka.lock"
	flock 9
	[[ ! -e $libs ]] || return 0

	# In the cache folder, so that the last step is a rename: a folder that is
	# there is whole.
	work=$(mktemp -d "$cache/fetch.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	cat >"$work/pom.xml" <<-POM
		<project>
		  <modelVersion>4.0.0</modelVersion>
		  <groupId>topk</groupId>
		  <artifactId>kafka</artifactId>
		  <version>1</version>
		  <dependencies>
		    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
		    <dependency><groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>$logging</version></dependency>
		  </dependencies>
		</project>
	POM
	say "fetching Kafka $version (43 MB, once)"
	mvn -q -B -f "$work/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$work/libs" ||
		fail "Maven could not fetch Kafka $version: see the message above"
	mkdir -p "$(dirname "$libs")"
	mv "$work/libs" "$libs"
}

need java "a Java runtime of version 17 or later"
[[ -e $libs ]] || fetch
say "Kafka $version: $libs"
