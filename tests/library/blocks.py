#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a page displays by itself, a block each: programs, commands, drawings.

usage: blocks.py PAGE [WORDS]   prints the only one, or the only one whose first line begins so

In a man page: .Bd to .Ed, and each .Dl; formatting is undone. In Markdown: what is indented by four,
up to the next line that is not, and what stands between two lines of ```."""
import re
import sys


def of_man_page(lines):
    block = None
    for line in lines:
        if line.startswith(".Dl "):
            yield undone(line[4:])
        elif line.startswith(".Bd "):
            block = []
        elif line.startswith(".Ed") and block is not None:
            yield "\n".join(block)
            block = None
        elif block is not None:
            block.append(undone(line))


def undone(line):
    return re.sub(r"\\\(aq", "'", line).replace("\\-", "-").replace("\\&", "").replace("\\e", "\\")


def of_markdown(lines):
    block, fenced, before = [], False, ""
    for line in [*lines, "end"]:
        if line.startswith("```"):
            if fenced:
                yield "\n".join(block)
            block, fenced = [], not fenced
        elif fenced:
            block.append(line)
        elif line.startswith("    ") and (block or not before):
            block.append(line[4:])
        elif not line and block:
            block.append("")
        elif block:
            yield "\n".join(block).strip("\n")
            block = []
        before = line


def blocks(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    return list((of_markdown if path.endswith(".md") else of_man_page)(lines))


def main():
    found = [block for block in blocks(sys.argv[1]) if block.startswith("".join(sys.argv[2:]))]
    if len(found) != 1:
        sys.exit(f"{sys.argv[1]}: {len(found)} blocks, not one")
    print(found[0])


if __name__ == "__main__":
    main()
