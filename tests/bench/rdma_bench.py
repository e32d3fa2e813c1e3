"""Memory moved by RDMA and checked, beside perftest's ib_write_bw, in a virtual machine with a software RDMA device.

Two processes. Ours: the source writes from its registered memory into the sink's, 1 MiB at a time, and sends the CRC32C
of each 4 KiB block that it has stored; the sink checks them where the bytes lie and answers. perftest writes as much, as
large, and nobody looks. Rounds alternate; the ratio is the median of theirs.
"""

import json
import shutil

import harness
from bench import median
from rdma_machine import RdmaMachine


def arguments(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--writes", type=int, default=100, help="of a round")
    parser.add_argument("--bytes", type=int, default=1 << 20, help="of a write: a power of two from 1 MiB to 8 MiB")


def measure(report, options, folder):
    missing = RdmaMachine.missing() or ("" if shutil.which("ib_write_bw") else
                                        "no ib_write_bw: install the Debian package perftest")
    if missing:
        raise RuntimeError(missing)
    report.say(f"{options.rounds} rounds in a virtual machine")
    machine = RdmaMachine(timeout=120 + 60 * options.rounds)
    done = machine.run(harness.BIN / "rdma_bench", "--rounds", options.rounds, "--writes", options.writes, "--bytes",
                       options.bytes, copy=["ib_write_bw"], device=True)
    if done.returncode != 0:
        raise RuntimeError(f"rdma_bench: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    ratios = [v / p for v, p in zip(result["varve"], result["perftest"])]
    report.figures.update(result, ratios=ratios)
    report.table("", "MiB/s", *(f"round {i + 1}" for i in range(options.rounds)))
    for name in ("varve", "perftest"):
        report.row(name, f"{median(result[name]):.1f}", *(f"{x:.1f}" for x in result[name]))
    report.row("ratio", f"{median(ratios):.2f}", *(f"{x:.2f}" for x in ratios))
    report.bar(f"writes of {options.bytes >> 20} MiB, checked: times ib_write_bw", median(ratios), ">=", 0.8)
