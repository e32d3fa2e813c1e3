"""Leases acquired per second, and what one costs in memory, beside etcd on the same disk.

Varve: the production actors of management and storage in one process, over a folder of shards that have been there for
long, a catalog in SQLite and the node's epoch log, all of them synced. An acquisition is answered when storage has agreed:
what a lease rests on, the shard's epoch, is on the disk by then. It was there before, unless the epoch rises; `breaks` are
of that kind: each raises the epoch of a shard, synced in the log and in the shard's header.

etcd: one member, a lease (LeaseGrant) and a transaction that puts the keys under it, for each batch: what a lock service
on etcd does. Both are synced by etcd, as it always does; only `breaks` sync as much in Varve.

Rounds alternate. `agents` ask at the same time; each has `depth` questions under way and asks for `batch` shards at once.
"""

import json
import os
import shutil
import socket
import subprocess
import time

import harness
from bench import median

# agents, questions under way of each, shards in each
LOADS = [("one agent", 1, 1, 1), ("one agent, 16 under way", 1, 16, 1), ("one agent, 64 at once", 1, 1, 64),
         ("100 agents", 100, 1, 1)]


def arguments(parser):
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=6_000, help="of etcd's rounds, which are slower")
    parser.add_argument("--breaks", type=int, default=1000)
    parser.add_argument("--only", help="only loads whose name contains this")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Etcd:
    """One member with a new folder."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        self.address = f"127.0.0.1:{free_port()}"
        url = f"http://{self.address}"
        peer = f"http://127.0.0.1:{free_port()}"
        with open(folder / "etcd.log", "ab") as log:
            self.process = subprocess.Popen(
                ["etcd", "--data-dir", folder / "etcd", "--listen-client-urls", url, "--advertise-client-urls", url,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                 "--log-level", "error"], stdout=log, stderr=log)
        host, port = self.address.split(":")
        for _ in range(200):
            with socket.socket() as s:
                if s.connect_ex((host, int(port))) == 0:
                    time.sleep(1)  # it elects itself
                    return
            time.sleep(0.1)
        raise RuntimeError("etcd does not come up")

    def stop(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def drive(*args):
    done = subprocess.run([harness.BIN / "lease_bench", *map(str, args)], capture_output=True, text=True, timeout=1800)
    if done.returncode != 0:
        raise RuntimeError(f"lease_bench {args}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(report, options, folder):
    if not shutil.which("etcd"):
        raise RuntimeError("no etcd: install or unpack the Debian package etcd-server")
    loads = [x for x in LOADS if not options.only or options.only in x[0]]
    varve = {x[0]: [] for x in loads}
    etcd = {x[0]: [] for x in loads}
    for i in range(options.rounds):
        for name, agents, depth, batch in loads:
            common = ["--agents", agents, "--depth", depth, "--batch", batch]
            report.say(f"round {i + 1}: {name}")
            place = folder / "varve"
            breaks = ["--breaks", options.breaks] if name == loads[0][0] else []
            varve[name].append(drive("--folder", place, "--shards", options.shards, *common, *breaks))
            shutil.rmtree(place, ignore_errors=True)
            os.sync()
            member = Etcd(folder / "etcd")
            try:
                keys = options.keys if agents * depth * batch > 1 else options.keys // 3
                etcd[name].append(drive("--etcd", member.address, "--shards", keys, *common))
            finally:
                member.stop()
            os.sync()

    def mid(rounds, what):
        return median([x[what] for x in rounds])

    report.table("load", "leases/s", "p99 us", "etcd/s", "p99 us", "ratio")
    for name, *_ in loads:
        ratio = median([v["per_second"] / e["per_second"] for v, e in zip(varve[name], etcd[name])])
        report.row(name, f"{mid(varve[name], 'per_second'):.0f}", f"{mid(varve[name], 'p99_us'):.0f}",
                   f"{mid(etcd[name], 'per_second'):.0f}", f"{mid(etcd[name], 'p99_us'):.0f}", f"{ratio:.1f}")
        report.figures[name] = {"varve": varve[name], "etcd": etcd[name], "ratio": ratio}
        report.bar(f"{name}: times etcd", ratio, ">=", 20)
    first = varve[loads[0][0]]
    broken = [x["breaks"] for x in first if "breaks" in x]
    if broken:
        report.note(f"breaks (the epoch raised, synced in log and header, 64 at once): {mid(broken, 'per_second'):.0f}/s, "
                    f"p99 {mid(broken, 'p99_us'):.0f} us")
    renewal = median([x["renewal"]["seconds"] for x in first])
    report.note(f"a keep-alive of one agent for {first[0]['renewal']['leases']} leases: {renewal * 1000:.0f} ms")
    report.bar("live lease at manager, storage and holder together: bytes", mid(first, "bytes_per_lease"), "<=", 2048)
    report.bar("idle shard at storage: bytes", mid(first, "bytes_per_idle_shard"), "<=", 256)
