# SPDX-License-Identifier: MIT
"""The conformance suite's cases, run where not all can pass: what is listed, and what is said."""
import fnmatch
import os
import re

POINT = re.compile(r"^(not )?ok \d+ - (.*)$")


def matches(name, globs):
    return any(fnmatch.fnmatchcase(name, one) for one in globs)


def listed_in(path):
    """[(reason, glob)] of lines "reason | globs"; none if there is no such file"""
    with open(path if os.path.exists(path) else os.devnull, encoding="utf-8") as file:
        lines = [line.split("|") for line in file if line.strip() and line[0] != "#"]
    return [(reason.strip(), one) for reason, globs in lines for one in globs.split()]


def sampled(name, kinds, slow):
    """Whether it is of these kinds of memory, or of none, and not slow."""
    return name.partition(":")[2] in ("", *kinds) and not matches(name, slow)
