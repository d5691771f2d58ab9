#!/bin/sh
# Runs every fuzz target of a build folder for SECONDS each, on a copy of its seed corpus.
# Usage: fuzz_all.sh BUILD_FOLDER SECONDS
set -eu
build=$1
seconds=$2
root=$(cd "$(dirname "$0")/.." && pwd)
find "$build" -name '*_fuzz' -type f -perm -u+x | sort | while read -r target; do
  name=$(basename "$target")
  work=$(mktemp -d)
  cp -r "$root/tests/corpus/$name/." "$work" 2>/dev/null || true
  echo "== $name, $seconds s"
  "$target" -max_total_time="$seconds" -rss_limit_mb=2500 -timeout=20 -max_len=16384 \
    -artifact_prefix="$build/$name-" "$work" 2>&1 | tail -n 3
  rm -rf "$work"
done
