"""Varve and its peers over the same NBD jobs, alternating.

The same fio jobs, working set, flags and number of connections (one) for both of a pair; every byte was written before.
Varve's checksums are on; the peers have none. Fio sends no flush in these jobs, to neither.
"""

import pathlib
import random
import subprocess

import harness
from bench import median
from harness import MIB

# name, fio's options, what counts
JOBS = [(f"4k rand{op} depth {depth}", [f"--rw=rand{op}", "--bs=4k", f"--iodepth={depth}"], "iops")
        for depth in (1, 32) for op in ("read", "write")]
JOBS += [(f"1m {op} depth 8", [f"--rw={op}", "--bs=1m", "--iodepth=8"], "bw") for op in ("read", "write")]


def arguments(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of one job in one round")
    parser.add_argument("--size", type=int, default=256, help="working set, MiB")
    parser.add_argument("--only", choices=("memory", "buffered", "direct"), action="append")
    parser.add_argument("--jobs", help="only those whose name contains this")


def serve(folder, name, command, socket):
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=harness.die_with_parent)
    harness.wait_for(name, pathlib.Path(socket).exists)
    return process


def measure(report, options, folder):
    size = options.size
    tiers = [{"name": "memory", "kind": "memory", "capacity": "4GiB"},
             {"name": "buffered", "kind": "file", "path": str(folder / "buffered"), "io": "buffered", "capacity": "64GiB"},
             {"name": "direct", "kind": "file", "path": str(folder / "direct"), "io": "direct", "capacity": "64GiB"}]
    node = harness.Node(folder / "node", tiers=tiers).start()
    peers = []
    pairs = []
    try:
        for pair in options.only or ("memory", "buffered", "direct"):
            where = ["--volatile"] if pair == "memory" else ["--tier", pair]
            varve = node.volume(pair, f"{size}MiB", *where).uri
            socket = folder / f"{pair}.sock"
            if pair == "memory":
                command = ["nbdkit", "-f", "-U", str(socket), "memory", f"{size}M"]
            else:
                # Allocated and written, as the volume will be.
                image = folder / f"{pair}.raw"
                with open(image, "wb") as f:
                    for _ in range(size):
                        f.write(random.randbytes(MIB))
                command = (["nbdkit", "-f", "-U", str(socket), "file", str(image)] if pair == "buffered" else
                           ["qemu-nbd", "--persistent", "-f", "raw", "--cache=none", "--aio=io_uring", "--discard=unmap",
                            "-x", "", "-k", str(socket), str(image)])
            peers.append(serve(folder, pair, command, socket))
            peer = f"nbd+unix:///?socket={socket}"
            for uri in (varve, peer):
                harness.fio(folder, uri, "--rw=write", "--bs=1m", f"--size={size}M", "--iodepth=4", "--end_fsync=1", timeout=600)
            shown = " ".join(c if "/" not in c else pathlib.Path(c).name for c in command)
            pairs.append((pair, varve, peer, shown))
        run(report, options, folder, pairs)
    finally:
        node.close()
        for peer in peers:
            peer.kill()
            peer.wait()


def run(report, options, folder, pairs):
    seen = {}
    jobs = [j for j in JOBS if not options.jobs or options.jobs in j[0]]
    for turn in range(options.rounds):
        report.say(f"round {turn + 1} of {options.rounds}")
        for pair, varve, peer, _ in pairs:
            for job, fio_options, figure in jobs:
                servers = [("varve", varve), ("peer", peer)]
                # Whoever goes second may find the machine warmer: take turns.
                for who, uri in servers if turn % 2 == 0 else reversed(servers):
                    out = harness.fio(folder, uri, *fio_options, f"--size={options.size}M", "--time_based",
                                      f"--runtime={options.seconds}", f"--randseed={turn + 1}", "--norandommap",
                                      timeout=60 + options.seconds * 3)["jobs"][0]
                    way = out["read" if "read" in job else "write"]
                    seen.setdefault((pair, job, who), []).append(
                        {"value": way[figure] if figure == "iops" else way["bw_bytes"] / 1e6,
                         "p50_us": way["clat_ns"]["percentile"]["50.000000"] / 1e3,
                         "p99_us": way["clat_ns"]["percentile"]["99.000000"] / 1e3})
    report.table("pair, job", "varve", "peer", "ratio", "worst round", "best", "varve p99", "peer p99", "bar")
    for pair, _, _, shown in pairs:
        report.note(f"{pair}: peer is `{shown}`")
        for job, _, figure in jobs:
            ours, theirs = seen[pair, job, "varve"], seen[pair, job, "peer"]
            ratio = median([x["value"] for x in ours]) / median([x["value"] for x in theirs])
            by_round = [a["value"] / b["value"] for a, b in zip(ours, theirs)]
            bar = bar_of(pair, job)
            report.figures[f"{pair}: {job}"] = {
                "unit": "IOPS" if figure == "iops" else "MB/s", "ratio": round(ratio, 3), "rounds": len(ours),
                "varve": ours, "peer": theirs}
            form = "{:,.0f} IOPS" if figure == "iops" else "{:,.0f} MB/s"
            report.row(f"{pair}: {job}", form.format(median([x["value"] for x in ours])),
                       form.format(median([x["value"] for x in theirs])), f"{ratio:.2f}", f"{min(by_round):.2f}",
                       f"{max(by_round):.2f}", f"{median([x['p99_us'] for x in ours]):.0f} us",
                       f"{median([x['p99_us'] for x in theirs]):.0f} us", bar or "")
            if bar:
                report.bar(f"{pair}: {job}, times the peer's", ratio, ">=", bar)


def bar_of(pair, job):
    if pair == "direct":
        return 1.2
    if pair == "memory":
        return 1.4 if "depth 32" in job else 1.1 if "depth 1" in job else 1.3
    return 1.2 if "depth 32" in job else 1.0 if "depth 1" in job else None
