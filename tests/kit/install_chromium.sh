#!/bin/sh
# The page tests drive a real Chromium. Where it is missing and we may install Debian packages, do; else the page
# tests say loudly that they were skipped.
command -v chromium >/dev/null 2>&1 && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "installing chromium for the page tests"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk >/dev/null
else
  echo "NOTE: no chromium found; the page tests will be skipped. Install the package chromium to run them." >&2
fi
exit 0
