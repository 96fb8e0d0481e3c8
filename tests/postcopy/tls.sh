#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs a test with certificates and keys in a folder, which are made now.
#
# usage: tls.sh KEYS TEST BACKEND
set -u
test=$(readlink -f "$2") backend=$3
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
why=$("$1" "$dir")
case $? in
0) "$test" "$backend" "$dir" ;;
77) echo "1..0 # SKIP $why" ;;
*) echo "Bail out! $why"; exit 1 ;;
esac
