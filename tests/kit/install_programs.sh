#!/bin/sh
# What tests drive and pip has not: a real Chromium for the pages, Debian's old clickhouse-server for the wire. Where one
# is missing and we may install Debian packages, do; else its tests say loudly that they were skipped.
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; }
wanted=""
command -v chromium >/dev/null 2>&1 || wanted="chromium fonts-noto-cjk"
# Never where a service manager would start it: a test must not leave a database running on somebody's machine.
command -v clickhouse-server >/dev/null 2>&1 || [ -d /run/systemd/system ] || wanted="$wanted clickhouse-server"
[ -n "$wanted" ] || exit 0
if may_install; then
  echo "installing for the tests: $wanted"
  # shellcheck disable=SC2086  # a list of packages
  apt-get update -qq && RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $wanted >/dev/null
else
  echo "NOTE: not found: $wanted; the tests that need them will be skipped. Install these packages to run them." >&2
fi
exit 0
