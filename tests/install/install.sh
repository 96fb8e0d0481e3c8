#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs into a private folder, and builds and runs a small program against what was installed,
# found by pkg-config alone. BUILD: the build folder, CC: the compiler.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/../programs/lib.sh"

source=$(cd "$(dirname "$0")" && pwd)/hello.c
prefix=$(meson introspect --buildoptions "$BUILD" | python3 -c '
import json, sys
options = {option["name"]: option["value"] for option in json.load(sys.stdin)}
print(options["prefix"], options["libdir"])')
libdir=${prefix#* }
prefix=${prefix% *}
requires_launcher
requires pkg-config meson
begin

check "installs" env DESTDIR="$dir/root" meson install -C "$BUILD" --no-rebuild
root=$dir/root$prefix
lib=$root/$libdir
for file in "$lib/libuserfault-preload.so" "$root/bin/userfault" "$root/include/userfault/abi.h" \
    "$root/share/man/man1/userfault.1" "$root/share/man/man7/userfault.7"; do
    test -e "$file"
    report "has ${file#"$dir/root"}" $?
done

# The installed launcher finds the installed preload library, not the one of the build folder.
# shellcheck disable=SC2016 # the shell that is run expands it
check "the installed launcher runs a program" "$root/bin/userfault" run --backend=user -- \
    sh -c 'echo "preloaded: $LD_PRELOAD"'
expect "with the installed library" "^preloaded: $lib/libuserfault-preload\\.so"

for file in "$lib/libuserfault.so" "$lib/libuserfault.so.0" "$lib/pkgconfig/userfault.pc" \
    "$lib/libuserfault-postcopy.so.0" "$root/bin/userfault-memcp" "$root/include/userfault/postcopy.h"; do
    test -e "$file"
    report "has ${file#"$dir/root"}" $?
done

check "the installed memcp finds the installed library" env -u LD_LIBRARY_PATH "$root/bin/userfault" \
    memcp --backend=user --size=1M

# The sysroot stands for the root folder of the system that the package would be installed on.
export PKG_CONFIG_PATH="$lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dir/root"
flags=$(pkg-config --cflags --libs userfault)
report "pkg-config knows it" $?
# shellcheck disable=SC2086 # flags and the compiler are words
check "builds against it" $CC -Wall -Wextra -Werror -o hello "$source" $flags
check "runs with the installed library" env LD_LIBRARY_PATH="$lib" ./hello
"$(dirname "$source")/../library/blocks.py" "$(dirname "$source")/../../README.md" '#include' >prog.c
# shellcheck disable=SC2086
check "the program of the README builds too" $CC -Wall -Werror -o prog prog.c $flags
check "and runs" env LD_LIBRARY_PATH="$lib" ./prog
expect "and was served on demand" '^userfault$'
# The library of migrations brings the other one along.
flags=$(pkg-config --cflags --libs userfault-postcopy)
report "pkg-config knows userfault-postcopy" $?
printf '#include <userfault/postcopy.h>\nint main(void) { return uf_source_new(0, &(struct uf_source_options){0}) != -22; }\n' >move.c
# shellcheck disable=SC2086
check "builds against it" $CC -Wall -Wextra -Werror -o move move.c $flags
check "and runs" env LD_LIBRARY_PATH="$lib" ./move
check "the name in the program is the one with the version" sh -c 'readelf -d hello'
expect "libuserfault.so.0" 'NEEDED.*libuserfault\.so\.0'

finish
