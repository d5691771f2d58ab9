#!/usr/bin/env python3
"""Reads ctest's JUnit file: counts tests, and says which GoogleTest cases were skipped and why.

With ../shared beside the checkout (or LODE_SHARED) a skip is a failure: nothing had to be left out, but
for what needs a package that ./dev installs with --long only.
Usage: test_summary.py JUNIT.xml
"""
import os
import re
import sys
import xml.etree.ElementTree as ElementTree


def main() -> int:
    root = ElementTree.parse(sys.argv[1]).getroot()
    cases = root.findall(".//testcase")
    failed = [c.get("name") for c in cases if c.find("failure") is not None]
    gtests = 0
    skips = []
    for case in cases:
        output = case.findtext("system-out") or ""
        found = re.search(r"\[==========\] (\d+) tests? from", output)
        gtests += int(found.group(1)) if found else 1
        reason = ""
        for line in output.splitlines():
            if re.match(r"\[  SKIPPED \] \S+ \(", line):
                skips.append((re.search(r"\] (\S+)", line).group(1), reason))
                reason = ""
            elif line.startswith("[ RUN"):
                reason = ""
            elif "Skipped" not in line and line.strip():
                reason = line.strip()
    print(f"\n{len(cases)} test programs, {gtests} tests, {len(failed)} programs failed, "
          f"{len(skips)} tests skipped")
    for name, reason in skips:
        print(f"  skipped {name}: {reason}")
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    shared = os.environ.get("LODE_SHARED", os.path.join(os.path.dirname(here), "shared"))
    bad = len(failed)
    skipped = len(skips)
    # A browser is not part of what ./dev sets up; `./dev test --long` installs it.
    expected = [reason for _, reason in skips if reason.startswith("needs the package ")]
    if len(skips) > len(expected) and os.path.isdir(shared):
        print("../shared is here, so nothing should be skipped: this is a failure.")
        bad, skipped = bad + skipped, 0
    print(f"{max(0, gtests - bad - skipped)} passed, {bad} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
