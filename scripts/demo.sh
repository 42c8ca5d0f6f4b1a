#!/usr/bin/env bash
# Runs everything on this machine: the engines, all roles and a simulator that
# sends plays in the proportions of real charts. Ctrl-C stops all of it; the
# data stays, and the next run goes on with it.
#
#   RATE     plays a second                        (default 1157: 100 million a day)
#   LISTEN   address of the API and the page       (default 127.0.0.1:8080)
#   DATA     directory of all data                 (default .data/demo)
#   SECONDS  stop by itself after so many seconds of plays (default: never)
#
# Where ClickHouse, Kafka and Redis listen is said by TOPK_CLICKHOUSE_LISTEN,
# TOPK_KAFKA_LISTEN and TOPK_REDIS_LISTEN (default: their usual ports).
set -euo pipefail

# bash counts in SECONDS itself, so what was given is taken from the environment.
run_for=$(printenv SECONDS || true)
rate=${RATE:-1157}
listen=${LISTEN:-127.0.0.1:8080}
clickhouse=${TOPK_CLICKHOUSE_LISTEN:-127.0.0.1:8123}
kafka=${TOPK_KAFKA_LISTEN:-127.0.0.1:9092}
redis=${TOPK_REDIS_LISTEN:-127.0.0.1:6379}
s3=${TOPK_S3_LISTEN:-127.0.0.1:9000}
url=http://$listen
ready_within=120 # seconds

data=$(realpath --canonicalize-missing --no-symlinks "${DATA:-$(dirname "${BASH_SOURCE[0]}")/../.data/demo}")
log=$data/topk.log
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'demo: %s\n' "$*"; }
fail() {
	say "$*" >&2
	exit 1
}

for number in "$rate" "${run_for:-1}"; do
	[[ $number =~ ^[0-9]+$ ]] || fail "RATE and SECONDS are whole numbers, not \"$number\""
done
for address in "$listen" "$clickhouse" "$kafka" "$redis" "$s3"; do
	[[ $address =~ ^[^:]+:[0-9]+$ ]] || fail "\"$address\" is not host:port, such as 127.0.0.1:8080"
done

# in_use says whether something listens at host:port already.
in_use() { (exec 3<>"/dev/tcp/${1%:*}/${1##*:}") 2>/dev/null; }

check_ports() {
	local name address busy=0
	while read -r name address; do
		if in_use "$address"; then
			say "$address is in use already: stop what listens there, or choose another address with $name=127.0.0.1:PORT" >&2
			busy=1
		fi
	done <<-EOF
		LISTEN $listen
		TOPK_CLICKHOUSE_LISTEN $clickhouse
		TOPK_KAFKA_LISTEN $kafka
		TOPK_REDIS_LISTEN $redis
		TOPK_S3_LISTEN $s3
	EOF
	[[ $busy == 0 ]] || exit 1
}

# stop ends what was started, by its pid, and waits until it has closed its
# data. It may come more than once.
up=""
loader=""
simulator=""
stop() {
	trap '' INT TERM
	local pid
	for pid in $simulator $loader $up; do
		kill -TERM "$pid" 2>/dev/null || true
	done
	for pid in $simulator $loader $up; do
		wait "$pid" 2>/dev/null || true
	done
	if [[ -n $up ]]; then say "stopped; the data is in $data"; fi
	up="" loader="" simulator=""
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() {
	mkdir -p "$data"
	say "starting topk in $data (log: $log)"
	# In a process group of its own: Ctrl-C reaches this script only, which then
	# stops things in order.
	set -m
	bin/topk up --data "$data" --listen "$listen" --clickhouse-listen "$clickhouse" \
		--kafka-listen "$kafka" --redis-listen "$redis" --s3-listen "$s3" >>"$log" 2>&1 &
	up=$!
	set +m
}

wait_ready() {
	local waited=0
	until curl --silent --fail --max-time 2 --output /dev/null "$url/readyz"; do
		if ! kill -0 "$up" 2>/dev/null; then
			tail -n 20 "$log" >&2
			fail "topk ended while it was starting: see above and $log"
		fi
		if ((waited >= ready_within * 5)); then
			tail -n 20 "$log" >&2
			fail "topk was not ready within $ready_within s: see above and $log"
		fi
		if ((waited % 25 == 24)); then say "still starting, for $(((waited + 1) / 5)) s"; fi
		sleep 0.2
		waited=$((waited + 1))
	done
}

load() {
	# The address of ClickHouse and the secret of this data directory.
	local -x TOPK_CLICKHOUSE_URL=http://$clickhouse/topk TOPK_USER_PEPPER_FILE=$data/pepper
	say "loading the catalog and the users' segments"
	bin/topk simulate catalog | bin/topk load catalog -
	bin/topk simulate segments | bin/topk load segments -
}

# history loads the days before the first start, so that there are closed charts,
# with movement, within a minute or two.
history() {
	local -x TOPK_CLICKHOUSE_URL=http://$clickhouse/topk TOPK_KAFKA_BROKERS=$kafka TOPK_USER_PEPPER_FILE=$data/pepper
	[[ ! -e $data/history.loaded ]] || return 0
	if [[ ! -e $data/history.ndjson ]]; then
		bin/topk simulate history >"$data/history.part"
		mv "$data/history.part" "$data/history.ndjson"
	fi
	bin/topk load backfill "$data/history.ndjson"
	bin/topk load close --once
	touch "$data/history.loaded"
	say "the charts of the three weeks before are closed: $url/v1/top?period=week"
}

show() {
	cat <<-EOF

		  The charts page      $url/
		  The API's reference  $url/docs

		  curl '$url/v1/top?dim=global&window=1h&k=10'
		  curl '$url/v1/top?dim=region:IN,genre:filmi&window=24h'
		  curl '$url/v1/top?dim=segment:premium&window=all&k=100'
		  curl '$url/v1/top?dim=region:IN&period=week'
		  curl '$url/v1/trending?dim=region:IN&overindex=global'

		  SQL, over ClickHouse's HTTP interface
		  curl 'http://$clickhouse/?database=topk' --data 'SELECT count() FROM plays'

	EOF
}

play() {
	local flags=(--url "$url" --rate "$rate")
	if [[ -n $run_for ]]; then
		flags+=(--duration "${run_for}s")
		say "sending $rate plays a second for $run_for s"
	else
		say "sending $rate plays a second; Ctrl-C stops everything"
	fi
	# In the background, so that a signal to this script is acted upon at once.
	bin/topk simulate plays "${flags[@]}" &
	simulator=$!
	local status=0
	wait "$simulator" || status=$?
	simulator=""
	return "$status"
}

command -v curl >/dev/null || fail "curl is needed"
check_ports
scripts/engines.sh
make --no-print-directory build
start
wait_ready
say "ready"
load
show
# Beside the live plays, as it may be at any time. Its lines go to the log, but
# for the last one.
history 2>>"$log" > >(grep --line-buffered '^demo:') &
loader=$!
play
