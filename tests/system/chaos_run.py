"""A cluster of three nodes with six volumes under stamping clients and under fio, and a schedule of faults drawn from one
seed.

What must hold: fio finds what it has written; every stamped block is a register over the whole history (no wrong byte, no
acknowledged write lost); no node ends by itself; whoever's host, home and manager can talk to each other is served, whatever
happens to the others; and when the faults end, everything is served again within a time limit.
"""

import random
import time

from net_cluster import Cluster
from harness import MIB
import stamping
from verifying import Verifier

# Of each volume the first part is stamped; behind it is fio's.
VOLUME_BYTES, SHARD_BYTES, STRIDE = 64 * MIB, 4 * MIB, 2 * MIB
FIO_BYTES = 32 * MIB
BLOCKS = VOLUME_BYTES // STRIDE
RECOVERY_SECONDS = 60
# What takes longer than a lease's term is not "going on".
STALL_BAR = Cluster.TERM
NODES = (1, 2, 3)
MANAGER = 1


class Fault:
    """Something that is wrong for a while. `cuts`: the pairs of nodes that cannot talk; `away`: nodes that do nothing."""

    def __init__(self, what, away=(), cuts=(), seconds=0.0):
        self.what, self.away, self.cuts, self.seconds = what, set(away), {frozenset(c) for c in cuts}, seconds
        self.began = self.ended = 0

    def leaves(self, nodes):
        """Whether these nodes are there and can talk to each other."""
        return not self.away & nodes and not any(cut <= nodes for cut in self.cuts)


def draw(rng):
    """The next fault of a schedule."""
    node = rng.choice(NODES)
    other = rng.choice([n for n in NODES if n != node])
    kind = rng.choices(("kill", "freeze", "restart", "cut", "one-way", "isolate", "delay", "loss"), (4, 2, 2, 2, 2, 2, 2, 1))[0]
    short = rng.uniform(1, 4)
    long = rng.uniform(2, 1.5 * Cluster.TERM)
    if kind == "kill":
        return Fault(f"kill -9 node{node}", [node], seconds=short), ("kill", node)
    if kind == "freeze":
        return Fault(f"SIGSTOP node{node}", [node], seconds=2 * Cluster.TERM), ("freeze", node)
    if kind == "restart":
        return Fault(f"restart node{node}", [node], seconds=short), ("restart", node)
    if kind in ("cut", "one-way"):
        arrow = "<->" if kind == "cut" else "->"
        return Fault(f"cut node{node} {arrow} node{other}", cuts=[(node, other)], seconds=long), (kind, node, other)
    if kind == "isolate":
        return Fault(f"isolate node{node}", cuts=[(node, n) for n in NODES if n != node], seconds=long), ("isolate", node)
    if kind == "delay":
        ms = rng.choice((5, 20, 50))
        return Fault(f"delay node{node} by {ms} ms", seconds=long), ("delay", node, ms)
    return Fault(f"loss at node{node}", seconds=long), ("loss", node, rng.choice((1, 3)))


class Chaos:
    def __init__(self, folder, seconds, seed, say):
        self.seconds, self.seed, self.say = seconds, seed, say
        self.rng = random.Random(seed)
        self.folder = folder
        self.logs = folder / "logs"
        self.cluster = Cluster(folder / "cluster", ["manager,storage,host", "storage,host", "storage,host"], seed)
        self.faults, self.clients, self.verifiers, self.trouble = [], [], [], []

    def close(self):
        for stamps, *_ in self.clients:
            if stamps.running():
                stamps.kill()
        for verifier in self.verifiers:
            verifier.close()
        self.cluster.close()

    # -- what the faults are done to -------------------------------------------------------------------------------------

    def start(self):
        self.cluster.start()
        manager = self.cluster.node(MANAGER)
        self.groups = []  # (volume, uri, host, home, blocks)
        for v in range(1, 7):
            name, host = f"v{v}", 1 + v % 3
            manager.varve("volume", "create", name, "--size", VOLUME_BYTES + FIO_BYTES, "--shard-size", SHARD_BYTES)
            attached = manager.json("volume", "attach", name, "--host", f"node{host}")
            uri = attached["uri"]
            # Every shard exists before its home is asked for.
            first = stamping.Stamps(uri, self.logs, volume=v, writer=v, blocks=BLOCKS, stride=STRIDE, reads=0, rate=200,
                                    seconds=2, drain=10)
            done = first.finish()
            if done["failed"] or done["undrained"]:
                raise AssertionError(f"{name} at node{host} cannot be written before anything went wrong: {done}")
            homes = {s["offset"]: self.home(s) for s in manager.rows("shard", "ls", name)}
            for home in sorted(set(homes.values())):
                blocks = [b for b in range(BLOCKS) if homes.get(b * STRIDE // SHARD_BYTES * SHARD_BYTES) == home]
                if blocks:  # not where only fio's part has a shard
                    self.groups.append((v, uri, host, home, blocks))
            self.verifiers.append(Verifier(self.folder, name, attached["socket"], VOLUME_BYTES, FIO_BYTES))
        spread = {h: sum(len(g[4]) for g in self.groups if g[3] == h) for h in NODES}
        self.say(f"blocks with their home on each node: {spread}")
        for writer, (volume, uri, host, home, blocks) in enumerate(self.groups):
            stamps = stamping.Stamps(uri, self.logs, volume=volume, writer=100 + 10 * writer, connections=1, only=blocks, stride=STRIDE,
                                     depth=4, rate=30, seconds=100000, seed=self.seed, drain=30)
            self.clients.append((stamps, volume, host, home, blocks))

    def home(self, shard):
        """The number of the node that a shard lies on."""
        return int(shard["tier"].removeprefix("disk"))

    # -- faults ----------------------------------------------------------------------------------------------------------

    def begin(self, how):
        kind, node = how[0], self.cluster.node(how[1])
        network = self.cluster.network
        if kind == "kill":
            node.kill()
        elif kind == "freeze":
            node.freeze()
        elif kind == "restart":
            node.stop()
        elif kind == "cut":
            network.cut(how[1], how[2])
        elif kind == "one-way":
            network.cut(how[1], how[2], both=False)
        elif kind == "isolate":
            network.cut(how[1], "*")
        elif kind == "delay":
            network.delay(how[1], "*", how[2], how[2] / 2)
        else:
            network.loss(how[1], "*", how[2])

    def end(self, how):
        kind, node = how[0], self.cluster.node(how[1])
        if kind in ("kill", "restart"):
            node.start()
        elif kind == "freeze":
            node.thaw()
        else:
            self.cluster.network.clear()

    def check_alive(self):
        for node in self.cluster.nodes:
            if node.process is not None and node.process.poll() is not None:
                raise AssertionError(f"{node.name} ended by itself with {node.process.returncode}\n{node.log_end()}")
        for stamps, volume, *_ in self.clients:
            if not stamps.running():
                raise AssertionError(f"the client of {volume} ended: {stamps.finish()}")
        for verifier in self.verifiers:
            if verifier.trouble:
                raise verifier.trouble

    def run(self):
        """The schedule; raises what was seen wrong at once."""
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            fault, how = draw(self.rng)
            fault.began = time.monotonic_ns()
            self.say(f"{self.seconds - (end - time.monotonic()):6.1f} s  {fault.what} for {fault.seconds:.1f} s")
            self.begin(how)
            time.sleep(fault.seconds)
            fault.ended = time.monotonic_ns()
            self.end(how)
            self.faults.append(fault)
            if how[0] in ("kill", "restart"):
                self.cluster.node(how[1]).wait_ready(RECOVERY_SECONDS)
            time.sleep(self.rng.uniform(1, 5))
            self.check_alive()

    # -- afterwards ------------------------------------------------------------------------------------------------------

    def recover(self):
        """Faults are over: all nodes are ready and all blocks can be read, and all clients are answered; the seconds it took."""
        began = time.monotonic()
        self.cluster.network.clear()
        for node in self.cluster.nodes:
            node.wait_ready(RECOVERY_SECONDS)
        for n, (_, volume, _, _, blocks) in enumerate(self.clients):
            uri = self.groups[n][1]
            stamping.sweep(uri, self.logs, timeout=RECOVERY_SECONDS, volume=volume, writer=5000 + n, only=blocks,
                           stride=STRIDE)
        took = time.monotonic() - began
        # What fio has still to do of its run takes its time, and is waited for apart.
        for verifier in self.verifiers:
            try:
                verifier.finish(RECOVERY_SECONDS)
            except AssertionError:
                for node in self.cluster.nodes:
                    self.say(f"{node.name}: {node.metric('varve_volume_io_parked'):.0f} requests parked, "
                             f"{node.metric('varve_remote_requests'):.0f} not answered by others")
                raise
        self.counters = {"reads": 0, "writes": 0, "failed": 0, "lost": 0, "connects": 0}
        for stamps, volume, *_ in self.clients:
            done = stamps.finish(stop=True)
            for k in self.counters:
                self.counters[k] += done[k]
            if done["undrained"]:
                self.trouble.append(f"volume {volume}: requests without an answer {took:.0f} s after the faults ended: {done}")
        if took > RECOVERY_SECONDS:
            self.trouble.append(f"everything was served again only {took:.1f} s after the faults ended")
        return took

    def stalls(self):
        """[(seconds, fault, host, home)]: the longest wait of each group within each fault that leaves it alone, the longest
        first. What an earlier fault did to a group is over a term after it."""
        windows, of = [], []
        for n, fault in enumerate(self.faults):
            for _, volume, host, home, blocks in self.clients:
                needed = {host, home, MANAGER}
                recent = [f for f in self.faults[:n] if fault.began - f.ended < (Cluster.TERM + 2) * 1e9]
                if all(f.leaves(needed) for f in [fault, *recent]):
                    windows.append((fault.began, fault.ended, volume, blocks))
                    of.append((fault, host, home))
        found = stamping.waits(self.logs, windows) if windows else []
        return sorted(((w["longest_ms"] / 1000, f.what, host, home) for w, (f, host, home) in zip(found, of)), reverse=True)

    def verify(self):
        """What the histories say; raises."""
        result = stamping.assert_register(self.logs)
        if self.trouble:
            raise AssertionError("\n".join(self.trouble))
        result["fio_runs"] = sum(v.runs for v in self.verifiers)
        result["fio_reads"] = sum(v.reads for v in self.verifiers)
        return result
