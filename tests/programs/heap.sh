#!/bin/sh
# SPDX-License-Identifier: MIT
# Programs of every day with their heaps registered and provided page by page: the same output as
# without. What they read, write, stat and exec lies in memory that is missing until then.
set -u
# shellcheck source=tests/programs/lib.sh
. "$(dirname "$0")/lib.sh"

requires_launcher
begin

heap=$BUILD/tests/programs/libheap.so
mkdir in
i=0
while [ $i -lt 40 ]; do
    seq $i 2000 >"in/file$i"
    i=$((i + 1))
done
seq 1 50000 >big
cat >script.py <<'END'
import json, os, subprocess, sys, zlib
data = {str(n): [n] * 20 for n in range(3000)}
text = json.dumps(data)
with open(sys.argv[1], "wb") as file:
    file.write(zlib.compress(text.encode()))
with open(sys.argv[1], "rb") as file:
    assert json.loads(zlib.decompress(file.read())) == data
print(sorted(os.listdir("in")), len(text))
print(subprocess.run(["echo", "a child"], capture_output=True).stdout)
END
python3=$(python3 -c 'import sys; print(sys.executable)' 2>/dev/null)
cat >script.sql <<'END'
create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
insert into t select i, hex(i * 7919) from n;
create index tb on t(b);
select count(*), sum(a), max(b) from t;
select a from t where b like '%99' order by b limit 20;
END

# shellcheck disable=SC2016 # expanded by the other shell
git_work='git init -q $1 && cd $1 && git config user.name n && git config user.email e@e && cp -r ../in . &&
    git add in && GIT_AUTHOR_DATE="1 +0000" GIT_COMMITTER_DATE="1 +0000" git commit -qm c &&
    git log --stat | tail -3 && git gc -q && git fsck'

with_heap() { # BACKEND COMMAND...
    backend=$1
    shift
    rm -f pages
    case $backend in
    kernel) HEAP_REPORT=$dir/pages LD_PRELOAD=$heap "$@" ;;
    user) HEAP_REPORT=$dir/pages LD_PRELOAD=$heap run_user "$@" ;;
    esac
}

same() { # NAME PROGRAM COMMAND...: %: what each run calls its own file
    name=$1
    program=$2
    shift 2
    if ! [ "$program" ] || ! command -v "$program" >/dev/null; then
        skip "$name" "not installed"
        return
    fi
    "$@" "$name-without" >without 2>&1
    for backend in $backends; do
        with_heap "$backend" "$@" "$name-$backend" >output 2>&1
        cmp -s without output
        report "$name, $backend: the same output" $?
        [ -s pages ] && [ "$(sort -n pages | tail -n 1)" -gt 3 ]
        report "$name, $backend: pages were asked for" $?
    done
}

backends=user
kernel_allows && backends="kernel user"
# shellcheck disable=SC2016 # expanded by the other shell
{
    same cat cat sh -c 'cat big in/* | cat'
    same tar tar sh -c 'tar -cf $0 --sort=name --mtime=@1 in && tar -tvf $0 && cksum <$0'
    same sqlite3 sqlite3 sh -c 'sqlite3 $0 <script.sql && cksum <$0'
    same python3 "$python3" "$python3" -S script.py
    same git git sh -c "$git_work" sh
}
finish
