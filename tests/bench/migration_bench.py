"""What a VM notices of a migration: p99 of 4 KiB reads at depth 1, quiet and while its shards move; and how long gates close.

An undisturbed copy gives the rate; the moves of the rounds must then run at a quarter of it or 20 MB/s, whichever is
more, on the very volume that is read. What the device and the processors alone cost at that rate is measured beside it:
fio copies as much on the same file system (32 KiB at a time, no checksums, no syncs, no switches) while the volume is read.
"""

import os
import sqlite3
import subprocess
import threading
import time

import harness
from bench import median, percentile
from harness import MIB


def arguments(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4, help="of one quiet or moving phase")
    parser.add_argument("--size", type=int, default=512, help="MiB of the volume")
    parser.add_argument("--io", choices=("direct", "buffered"), default="direct")


class Moves:
    """Moves all of a volume to and fro until told to stop. One round takes `seconds` at least: so long nobody asks how far
    it is, since a command line started five times a second takes more of two processors than the moves do."""

    def __init__(self, node, seconds):
        self.node, self.seconds, self.stop = node, seconds, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.trouble = None
        self.thread.start()

    def run(self):
        try:
            while not self.stop.is_set():
                homes = list(self.node.homes("vm1").values())
                target = "two" if homes.count("one") >= homes.count("two") else "one"
                self.node.varve("shard", "move", "vm1", "--all", "--to", target, check=False)
                self.stop.wait(self.seconds)
                while not self.stop.is_set() and self.node.running_migrations():
                    time.sleep(0.2)
        except BaseException as e:
            self.trouble = e

    def end(self):
        self.stop.set()
        self.thread.join(60)
        if self.trouble:
            raise self.trouble


def reads(folder, volume, options):
    out = harness.fio(folder, volume, "--rw=randread", "--bs=4k", "--iodepth=1", f"--size={options.size}M", "--norandommap",
                      "--time_based", f"--runtime={options.seconds}")["jobs"][0]["read"]
    return {"p99_us": out["clat_ns"]["percentile"]["99.000000"] / 1e3, "p50_us": out["clat_ns"]["percentile"]["50.000000"] / 1e3,
            "iops": out["iops"]}


class PlainCopy:
    """The limit: fio reads and writes at `rate` bytes per second each way, as a copy without any of Varve's care would."""

    def __init__(self, folder, options, rate):
        self.process = subprocess.Popen(
            ["fio", "--name=copy", "--ioengine=io_uring", f"--filename={folder / 'plain-copy'}", f"--size={options.size}M",
             f"--direct={int(options.io == 'direct')}", "--rw=rw", "--rwmixread=50", "--bs=32k", "--iodepth=1",
             f"--rate={int(rate)},{int(rate)}", "--time_based", f"--runtime={int(options.seconds * 3) + 30}", "--output=/dev/null"],
            preexec_fn=harness.die_with_parent)

    def end(self):
        self.process.terminate()
        self.process.wait()


def commits(folder, seconds):
    """Seconds that an fdatasync of 4 KiB and a SQLite commit (WAL, synchronous=FULL) take together, one after the other."""
    seen = []
    database = sqlite3.connect(folder / "yardstick.db", isolation_level=None)
    database.execute("pragma journal_mode=wal")
    database.execute("pragma synchronous=full")
    database.execute("create table t(k integer primary key, v blob)")
    file = os.open(folder / "yardstick", os.O_CREAT | os.O_WRONLY, 0o600)
    os.pwrite(file, bytes(4096), 0)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        os.pwrite(file, os.urandom(4096), 0)
        os.fdatasync(file)
        database.execute("insert into t(v) values(?)", (os.urandom(500),))
        seen.append(time.monotonic() - began)
        time.sleep(0.005)
    os.close(file)
    database.close()
    return seen


def moved_bytes(node):
    return node.metric("varve_migration_bytes_total")


def measure(report, options, folder):
    tiers = [{"name": n, "kind": "file", "path": str(folder / n), "io": options.io, "capacity": "64GiB"} for n in ("one", "two")]
    node = harness.Node(folder / "node", tiers=tiers, extra='[migration]\nbudget = "0B"\n').start()
    try:
        volume = node.volume("vm1", f"{options.size}MiB", "--tier", "one")
        harness.fio(folder, volume, "--rw=write", "--bs=1m", f"--size={options.size}M", "--iodepth=4", "--end_fsync=1", timeout=600)
        began = time.monotonic()
        node.varve("shard", "move", "vm1", "--all", "--to", "two", timeout=600)
        node.wait_migrations(600)
        undisturbed = options.size * MIB / (time.monotonic() - began)
        needed = max(undisturbed / 4, 20e6)
        report.say(f"undisturbed copy: {undisturbed / 1e6:.0f} MB/s")
        # A little above what is needed, as a budget is a ceiling.
        node.stop()
        node.extra = f'[migration]\nbudget = "{int(needed * 1.15)}B"\n'
        node.write_config()
        node.start()
        reads(folder, volume, options)

        # Written once, so that no copy allocates.
        subprocess.run(["fio", "--name=copy", f"--filename={folder / 'plain-copy'}", f"--size={options.size}M", "--rw=write",
                        "--bs=1m", "--end_fsync=1", "--output=/dev/null"], check=True)
        quiet, plain, moving, rates = [], [], [], []
        for round in range(options.rounds):
            report.say(f"round {round + 1} of {options.rounds}")
            quiet.append(reads(folder, volume, options))
            copy = PlainCopy(folder, options, needed)
            time.sleep(0.5)
            plain.append(reads(folder, volume, options))
            copy.end()
            before = moved_bytes(node)
            moves = Moves(node, 0.8 * options.size * MIB / (needed * 1.15))
            harness.wait_for("a move", lambda: moved_bytes(node) > before, 20)
            before, began = moved_bytes(node), time.monotonic()
            moving.append(reads(folder, volume, options))
            rates.append((moved_bytes(node) - before) / (time.monotonic() - began))
            moves.end()
            node.wait_migrations(600)
        gates = [m["gate_closed"] for m in node.migrations() if m["state"] == "committed"]
        yardstick = commits(folder, 3)
    finally:
        node.close()

    ratios = [m["p99_us"] / q["p99_us"] for m, q in zip(moving, quiet)]
    limits = [p["p99_us"] / q["p99_us"] for p, q in zip(plain, quiet)]
    gate, bar = percentile(gates, 99), max(0.010, 3 * percentile(yardstick, 99))
    report.figures.update(quiet=quiet, moving=moving, plain=plain, ratios=ratios, limits=limits, rates=rates, undisturbed=undisturbed, gates=gates,
                          commit_p99=percentile(yardstick, 99))
    report.table("round", "quiet p99", "moving p99", "ratio", "moved", "p99 beside fio's copy", "ratio")
    for i in range(options.rounds):
        report.row(i + 1, f"{quiet[i]['p99_us']:.0f} us", f"{moving[i]['p99_us']:.0f} us", f"{ratios[i]:.2f}", f"{rates[i] / 1e6:.0f} MB/s",
                   f"{plain[i]['p99_us']:.0f} us", f"{limits[i]:.2f}")
    report.note(f"undisturbed copy {undisturbed / 1e6:.0f} MB/s; {len(gates)} switches, gate closed p50 "
                f"{percentile(gates, 50) * 1e3:.2f} ms, p99 {gate * 1e3:.2f} ms; fdatasync + catalog commit p99 "
                f"{percentile(yardstick, 99) * 1e3:.2f} ms")
    report.bar("p99 while moving, times the quiet one (median of rounds)", median(ratios), "<=", 1.3)
    report.bar("rate of the moves, MB/s (median of rounds)", median(rates) / 1e6, ">=", needed / 1e6)
    report.bar("gate closed p99, ms", gate * 1e3, "<=", bar * 1e3)
