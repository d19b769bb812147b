#!/bin/sh
# Installs the programs that the tests talk to, where they are missing and this is a Debian with root's rights.
# `programs.sh proofs` also installs those that only the full-size proofs use.
missing=""
need() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || missing="$missing $2"; }
need chromium chromium
need postfix postfix
need strace strace
need mutt mutt
need cc "gcc libc6-dev"
need pgbouncer pgbouncer
need nginx nginx
need ip iproute2
need faketime faketime
[ -d /usr/lib/postgresql ] || command -v initdb >/dev/null 2>&1 || missing="$missing postgresql"
if [ "${1:-}" = proofs ]; then
    need wapiti wapiti
    need sqlmap sqlmap
    need redis-server redis-server
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing, so their tests are skipped:$missing" >&2
    exit 0
fi
echo "Installing for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
{ apt-get update && apt-get install -y --no-install-recommends $missing fonts-liberation fonts-noto-core; } >/tmp/pillarbox-programs.log 2>&1 \
    || { tail -n 20 /tmp/pillarbox-programs.log >&2; echo "They could not be installed; their tests are skipped." >&2; }
