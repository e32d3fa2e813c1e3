"""Remote I/O over loopback TCP beside nbdkit over loopback TCP, alternating; with --tls within TLS, for both.

Four ways to the same blocks, with the same jobs, sizes and depths; every byte was written before. Varve's checksums are
on, at both ends; nbdkit has none.

    far     fio, by NBD on a Unix socket to a process that has its shards at a storage node by remote I/O: what a VM on
            another host has. Its bytes travel twice, between three processes
    chain   the same with nbdkit: fio, by NBD on a Unix socket to nbdkit's nbd plugin, by TCP to another nbdkit
    near    the client library itself at the storage node: once, between two processes
    peer    fio at nbdkit by TCP: once, between two processes

The bars compare what travels as often: far with chain, near with peer.
"""

import json
import os
import pathlib
import random
import re
import socket
import subprocess

import harness
from bench import median
from harness import MIB

# name, fio's options, what counts
JOBS = [(f"4k rand{op} depth {depth}", [f"--rw=rand{op}", "--bs=4k", f"--iodepth={depth}"], "iops")
        for depth in (1, 32) for op in ("read", "write")]
JOBS += [(f"1m {op} depth {depth}", [f"--rw={op}", "--bs=1m", f"--iodepth={depth}"], "bw")
         for depth in (1, 8) for op in ("read", "write")]
WAYS = ("far", "chain", "near", "peer")


def arguments(parser):
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of one job in one round")
    parser.add_argument("--size", type=int, default=256, help="working set, MiB")
    parser.add_argument("--only", choices=("memory", "files"), action="append")
    parser.add_argument("--jobs", help="only those whose name contains this")
    parser.add_argument("--tls", action="store_true", help="what travels by TCP does within TLS, nbdkit's too")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


class Servers:
    """All processes of one run."""

    def __init__(self, options, folder):
        self.options, self.folder, self.processes = options, folder, []
        self.program = str(harness.BIN / "remote_bench_node")
        self.tls = []
        if options.tls:
            # By the names that nbdkit and libnbd look for; it is its own authority.
            self.pki = folder / "pki"
            self.pki.mkdir()
            pem, key = self.pki / "server-cert.pem", self.pki / "server-key.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                            "-subj", "/CN=node1", "-addext", "subjectAltName=IP:127.0.0.1", "-out", str(pem), "-keyout", str(key)],
                           check=True, capture_output=True)
            (self.pki / "ca-cert.pem").write_bytes(pem.read_bytes())
            os.environ.update(REMOTE_CERTIFICATE=str(pem), REMOTE_KEY=str(key))
            self.tls = ["tls"]
        (folder / "shards").mkdir()
        self.address = self.start([self.program, "serve", str(folder / "shards"), *self.tls], stdout=subprocess.PIPE).stdout.readline().strip()

    def start(self, command, stdout=subprocess.DEVNULL):
        process = subprocess.Popen(command, stdout=stdout, text=True, preexec_fn=harness.die_with_parent)
        self.processes.append(process)
        return process

    def export(self, tier):
        path = self.folder / f"{tier}.sock"
        self.start([self.program, "export", str(path), self.address, tier, str(self.options.size), *self.tls])
        harness.wait_for(f"the export of {tier}", path.exists)
        return f"nbd+unix:///vm1?socket={path}"

    def peer(self, tier):
        port = free_port()
        if tier == "memory":
            what = ["memory", f"{self.options.size}M"]
        else:
            image = self.folder / "peer.raw"
            with open(image, "wb") as f:  # allocated and written, as the volume will be
                for _ in range(self.options.size):
                    f.write(random.randbytes(MIB))
            what = ["file", str(image)]
        secret = ["--tls=require", f"--tls-certificates={self.pki}"] if self.tls else []
        command = ["nbdkit", "-f", "-i", "127.0.0.1", "-p", str(port), *secret, *what]
        self.start(command)
        harness.wait_for(f"the peer of {tier}", lambda: answers(port))
        # Nobody looks whose certificate it is, once for each connection: fio cannot say where its authority's lies.
        uri = f"nbds://127.0.0.1:{port}?tls-verify-peer=false" if self.tls else f"nbd://127.0.0.1:{port}"
        path = self.folder / f"{tier}-chain.sock"
        self.start(["nbdkit", "-f", "-U", str(path), "nbd", f"uri={uri}"])
        harness.wait_for(f"the chain of {tier}", path.exists)
        return uri, f"nbd+unix:///?socket={path}", command

    def drive(self, tier, job):
        op = re.search(r"(rand)?(read|write)", job).group(0)
        depth = job.rsplit(" ", 1)[1]
        out = subprocess.run([self.program, "drive", self.address, tier, str(self.options.size), op,
                              str(4096 if job.startswith("4k") else MIB), depth, str(self.options.seconds), *self.tls],
                             check=True, capture_output=True, text=True, timeout=120).stdout
        return json.loads(out)

    def stop(self):
        # The exports before the node whose shards they sync.
        for process in reversed(self.processes):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure(report, options, folder):
    servers = Servers(options, folder)
    try:
        pairs = []
        for tier in options.only or ("memory", "files"):
            ours = servers.export(tier)
            theirs, chain, command = servers.peer(tier)
            report.note(f"{tier}: peer is `{' '.join(c if '/' not in c else pathlib.Path(c).name for c in command)}`")
            for uri in (ours, theirs):
                harness.fio(folder, uri, "--rw=write", "--bs=1m", f"--size={options.size}M", "--iodepth=4", timeout=600)
            pairs.append((tier, ours, chain, theirs))
        run(report, options, folder, servers, pairs)
    finally:
        servers.stop()


def run(report, options, folder, servers, pairs):
    seen = {}
    jobs = [j for j in JOBS if not options.jobs or options.jobs in j[0]]
    for turn in range(options.rounds):
        report.say(f"round {turn + 1} of {options.rounds}")
        for tier, ours, chain, theirs in pairs:
            for job, fio_options, figure in jobs:
                def by_fio(uri):
                    out = harness.fio(folder, uri, *fio_options, f"--size={options.size}M", "--time_based",
                                      f"--runtime={options.seconds}", f"--randseed={turn + 1}", "--norandommap",
                                      timeout=60 + options.seconds * 3)["jobs"][0]
                    way = out["read" if "read" in job else "write"]
                    return {"value": way["iops"] if figure == "iops" else way["bw_bytes"] / 1e6,
                            "p50_us": way["clat_ns"]["percentile"]["50.000000"] / 1e3,
                            "p99_us": way["clat_ns"]["percentile"]["99.000000"] / 1e3}

                def by_library(_):
                    out = servers.drive(tier, job)
                    return {"value": out["iops" if figure == "iops" else "mb_per_second"], "p50_us": out["p50_us"],
                            "p99_us": out["p99_us"]}

                whos = [("far", by_fio, ours), ("chain", by_fio, chain), ("near", by_library, None), ("peer", by_fio, theirs)]
                # Whoever goes second may find the machine warmer: take turns.
                for who, how, uri in whos if turn % 2 == 0 else reversed(whos):
                    seen.setdefault((tier, job, who), []).append(how(uri))
    report.table("tier, job", *WAYS, "far : chain", "worst round", "near : peer", "worst round", "far : peer", "far p99", "peer p99", "bar")
    for tier, *_ in pairs:
        for job, _, figure in jobs:
            values = {way: [x["value"] for x in seen[tier, job, way]] for way in WAYS}

            def ratio(a, b):
                return median(values[a]) / median(values[b]), min(x / y for x, y in zip(values[a], values[b]))

            twice, twice_worst = ratio("far", "chain")
            once, once_worst = ratio("near", "peer")
            bar = None if "4k" not in job else 1.2 if "depth 32" in job else 1.0
            report.figures[f"{tier}: {job}"] = {
                "unit": "IOPS" if figure == "iops" else "MB/s", "far_by_chain": round(twice, 3), "near_by_peer": round(once, 3),
                "far_by_peer": round(ratio("far", "peer")[0], 3), "rounds": len(values["far"]),
                **{way: seen[tier, job, way] for way in WAYS}}
            form = "{:,.0f} IOPS" if figure == "iops" else "{:,.0f} MB/s"
            report.row(f"{tier}: {job}", *(form.format(median(values[way])) for way in WAYS), f"{twice:.2f}", f"{twice_worst:.2f}",
                       f"{once:.2f}", f"{once_worst:.2f}", f"{ratio('far', 'peer')[0]:.2f}",
                       f"{median([x['p99_us'] for x in seen[tier, job, 'far']]):.0f} us",
                       f"{median([x['p99_us'] for x in seen[tier, job, 'peer']]):.0f} us", bar or "")
            if bar:
                report.bar(f"{tier}: {job}, far by chain", twice, ">=", bar)
                report.bar(f"{tier}: {job}, near by peer", once, ">=", bar)
