#!/usr/bin/python3
"""./run bench NAME: measures, prints a table, and says which of the bars that were set hold.

    --json    every figure on stdout, with "bars": [{"name", "value", "sense", "bar", "holds"}]
    --check   exit code 1 when a bar does not hold
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import statistics
import sys
import time

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "system")]

import harness  # noqa: E402


class Report:
    """Figures by name, a table for people, and the bars."""

    def __init__(self, name, options):
        self.name, self.options = name, options
        self.figures, self.bars, self.head, self.lines, self.notes = {}, [], None, [], []

    def say(self, text):
        """Progress: to stderr, where it is in nobody's way."""
        print(text, file=sys.stderr, flush=True)

    def table(self, *head):
        self.head = head

    def row(self, *cells):
        self.lines.append([str(c) for c in cells])

    def note(self, text):
        self.notes.append(text)

    def bar(self, name, value, sense, bar):
        holds = value >= bar if sense == ">=" else value <= bar if sense == "<=" else value < bar
        self.bars.append({"name": name, "value": round(value, 4), "sense": sense, "bar": round(bar, 4), "holds": bool(holds)})

    def print(self):
        if self.options.json:
            print(json.dumps({"bench": self.name, "machine": machine(), "figures": self.figures, "bars": self.bars,
                              "notes": self.notes}, indent=1))
            return
        print(f"bench {self.name}: {machine()}")
        if self.head:
            rows = [list(self.head)] + self.lines
            widths = [max(len(r[i]) for r in rows) for i in range(len(self.head))]
            for row in rows:
                print("  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip())
        for note in self.notes:
            print(f"  {note}")
        for b in self.bars:
            print(f"  {'holds' if b['holds'] else 'FAILS'}  {b['name']}: {b['value']:g} {b['sense']} {b['bar']:g}")


def machine():
    model = next((l.split(":", 1)[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}"


def median(values):
    return statistics.median(values) if values else 0.0


def percentile(values, p):
    """The smallest value that at least p percent are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * p // 100) - 1))] if ordered else 0.0


def main():
    import chaos_bench
    import crash_bench
    import failover_bench
    import idle_bench
    import leases_bench
    import migration_bench
    import nbd_bench
    import build_bench
    import rdma_bench
    import remote_bench
    import scale_bench
    benches = {"nbd": nbd_bench, "migration": migration_bench, "crash": crash_bench, "idle": idle_bench, "build": build_bench,
               "rdma": rdma_bench, "remote": remote_bench, "leases": leases_bench, "scale": scale_bench, "chaos": chaos_bench,
               "failover": failover_bench}
    options = argparse.ArgumentParser(prog="./run bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = options.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, module in benches.items():
        sub = names.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
        sub.add_argument("--json", action="store_true", help="every figure on stdout")
        sub.add_argument("--check", action="store_true", help="exit code 1 when a bar does not hold")
        module.arguments(sub)
    chosen = options.parse_args()
    report = Report(chosen.name, chosen)
    folder = harness.workspace("varve-bench.")
    began = time.monotonic()
    try:
        benches[chosen.name].measure(report, chosen, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.figures["seconds"] = round(time.monotonic() - began, 1)
    report.print()
    if chosen.check and not all(b["holds"] for b in report.bars):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
