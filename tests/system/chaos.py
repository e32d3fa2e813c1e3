#!/usr/bin/python3
"""A cluster in network namespaces, seen from outside.

chaos: one minute of what `./run bench chaos` does for ten.
sharing: two hosts write the same blocks, and are cut off.
fencing: a holder that comes back after another has got its lease.
hostile_peers: a stranger at the ports that nodes have for each other.

VARVE_SEED=N repeats a schedule.
"""

import os
import random
import socket
import struct
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
from chaos_run import RECOVERY_SECONDS, STALL_BAR, Chaos
from net_cluster import Cluster
from harness import MIB, main, run, wait_for, workspace
from hostile import Port, attack
import stamping

FENCED = "varve_fenced_requests_total"
# A record of TLS that claims 64 KiB; a hello that claims 16 MiB; an alert; what looks like application data at once.
TLS_BEGINS = [b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03", b"\x15\x03\x03\x00\x02\x02\x28",
              b"\x17\x03\x03\x40\x00"]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def data_frame(kind, length):
    """The header of a data connection's handshake frame, with the right checksum (runtime/remote/remote_protocol.cpp)."""
    head = struct.pack("<IBBHI", 0x48525656, kind, 0, 0, length)
    return head + struct.pack("<I", crc32c(head))


# A hello that ends early, the longest that is taken, one that is beyond it, and one of no kind.
DATA_BEGINS = [data_frame(1, 64) + bytes(40), data_frame(1, 16384), data_frame(1, 0xFFFFFFF0), data_frame(200, 64)]


def seed_of(test):
    seed = int(os.environ.get("VARVE_SEED", random.randrange(1 << 30)))
    say(f"{test.id()}: VARVE_SEED={seed}")
    return seed


def say(text):
    print(text, file=sys.stderr, flush=True)


class ClusterTest(unittest.TestCase):
    """Makes clusters, ends them, and shows their logs when the test has failed."""

    time_limit = 300

    def setUp(self):
        self.folder = workspace("vc.")
        self.clusters, self.clients = [], []
        self.seed = seed_of(self)
        self.watchdog = threading.Timer(self.time_limit, self.hang)
        self.watchdog.daemon = True
        self.watchdog.start()
        self.addCleanup(self.finish)

    def make_cluster(self, roles, **options):
        cluster = Cluster(self.folder / f"c{len(self.clusters)}", roles, self.seed, **options)
        self.clusters.append(cluster)
        return cluster.start()

    def stamps(self, uri, **options):
        client = stamping.Stamps(uri, self.folder / "logs", **options)
        self.clients.append(client)
        return client

    def volume(self, node, name, *hosts, size=32 * MIB):
        """Created, and attached at these hosts: its URIs."""
        node.varve("volume", "create", name, "--size", size, "--shard-size", 4 * MIB)
        more = ["--shared"] if len(hosts) > 1 else []
        return [node.json("volume", "attach", name, "--host", f"node{h}", *more)["uri"] for h in hosts]

    def hang(self):
        import faulthandler
        say(f"{self.id()}: not finished after {self.time_limit} s")
        faulthandler.dump_traceback(all_threads=True)
        self.show_logs()
        os._exit(3)

    def show_logs(self):
        for cluster in self.clusters:
            for node in cluster.nodes:
                say(node.log_end())

    def finish(self):
        self.watchdog.cancel()
        result = self._outcome.result
        if any(test is self for test, _ in result.failures + result.errors):
            self.show_logs()
        for client in self.clients:
            if client.running():
                client.kill()
        for cluster in self.clusters:
            cluster.close()
        run("rm", "-rf", self.folder)


class chaos(unittest.TestCase):
    def test_a_minute_of_faults_loses_nothing_and_is_recovered_from(self):
        seed = seed_of(self)
        folder = workspace("vc.")
        self.addCleanup(run, "rm", "-rf", folder)
        trial = Chaos(folder, 60, seed, say)
        try:
            trial.start()
            trial.run()
            took = trial.recover()
            result = trial.verify()
            stalls = trial.stalls()
        except BaseException:
            for node in trial.cluster.nodes:
                say(node.log_end())
            raise
        finally:
            trial.close()
        say(f"{result['operations']} operations on {result['blocks']} blocks, {result['lost']} interrupted, {result['failed']} "
            f"failed; fio ran {result['fio_runs']} times and found all {result['fio_reads']} blocks; recovered within {took:.1f} s; "
            f"longest waits beside a fault: {stalls[:3]}")
        self.assertGreater(result["operations"], 5000)
        self.assertGreater(result["fio_runs"], 6)
        self.assertLess(took, RECOVERY_SECONDS)
        for seconds, what, host, home in stalls:
            self.assertLess(seconds, STALL_BAR, f"{what}: host node{host}, home node{home}")


# Two blocks in each of eight shards.
SHARED = {"volume": 1, "blocks": 16, "stride": 2 * MIB}


class sharing(ClusterTest):
    def test_two_hosts_that_write_the_same_blocks_make_one_history(self):
        cluster = self.make_cluster(["manager,storage", "host", "host"])
        uris = self.volume(cluster.node(1), "v", 2, 3)
        clients = [self.stamps(uri, writer=100 * (i + 1), connections=2, depth=2, rate=50, seconds=1000, seed=self.seed, **SHARED)
                   for i, uri in enumerate(uris)]
        rng = random.Random(self.seed)
        time.sleep(5)
        for _ in range(6):
            host = rng.choice((2, 3))
            way = rng.choice(("cut", "from", "to", "freeze"))
            seconds = rng.choice((1, 3, 1.5 * cluster.TERM))
            say(f"{way} node{host} for {seconds} s")
            if way == "freeze":
                cluster.node(host).freeze()
            elif way == "from":
                cluster.network.cut(host, 1, both=False)
            elif way == "to":
                cluster.network.cut(1, host, both=False)
            else:
                cluster.network.cut(host, 1)
            time.sleep(seconds)
            if way == "freeze":
                cluster.node(host).thaw()
            cluster.network.clear()
            time.sleep(rng.uniform(2, 6))
        done = [c.finish(stop=True) for c in clients]
        for i, uri in enumerate(uris):
            stamping.sweep(uri, self.folder / "logs", writer=1000 + i, **SHARED)
        result = stamping.assert_register(self.folder / "logs")
        say(f"{[d['writes'] for d in done]} writes, {[round(d['longest_wait_ms']) for d in done]} ms the longest wait, {result}")
        for d in done:
            self.assertEqual((d["undrained"], d["failed"]), (0, 0), d)
            self.assertGreater(d["writes"], 50, "one host had hardly a turn")


class fencing(ClusterTest):
    def test_a_holder_that_comes_back_late_is_refused_by_storage(self):
        """Its own clock would keep it from writing: that check is off, so that its writes reach the storage server. It
        cannot ask the manager for a new lease: so whatever of it is on disk was written without any."""
        cluster = self.make_cluster(["manager", "host", "host", "storage"], debug="holder_clock = false\n")
        late, other = 2, 3
        uris = self.volume(cluster.node(1), "v", late, other)
        before = self.stamps(uris[0], writer=100, connections=8, depth=4, reads=0, flush_every=0, rate=100, seconds=1000, **SHARED)
        wait_for("every shard", lambda: len(cluster.node(1).rows("shard", "ls", "v")) == 8)
        time.sleep(2)
        # First the cut: the manager's revocation would lie in its socket, and be read before the client's writes, or after.
        cluster.network.cut(late, 1)
        cluster.node(late).freeze()
        frozen = time.monotonic()
        # More than it can have got a lease for as long as the late one's holds: it waits for its end.
        for round_of_all in range(4):
            after = self.stamps(uris[1], writer=200 + round_of_all, connections=1, depth=16, reads=0, flush_every=0, seconds=1.5,
                                rate=200, drain=3 * cluster.TERM, **SHARED)
            written = after.finish()
            self.assertEqual((written["failed"], written["undrained"]), (0, 0), written)
        left = frozen + 2 * cluster.TERM - time.monotonic()
        time.sleep(max(0, left))
        cluster.node(late).thaw()
        refused = wait_for("a write that storage refuses", lambda: cluster.node(late).metric(FENCED, reason="stale_epoch"), 20)
        time.sleep(2)
        say(f"{refused:.0f} writes refused")
        # None of them is on disk: every block is what the other has written.
        stamping.sweep(uris[1], self.folder / "logs", writer=5000, **SHARED)
        found = stamping.found_by(self.folder / "logs" / "writer5000-1.log")
        self.assertEqual(len(found), 16)
        strangers = {block: stamp.writer for block, stamp in found.items() if not 200 <= stamp.writer < 300}
        self.assertEqual(strangers, {}, "written without a lease")
        # Once it can ask, its writes go on.
        cluster.network.clear()
        time.sleep(3)
        done = before.finish(stop=True)
        self.assertEqual((done["failed"], done["undrained"]), (0, 0), done)
        stamping.assert_register(self.folder / "logs")


class hostile_peers(ClusterTest):
    def attack(self, cluster, port, begins):
        """From a node's namespace; a client's volume lies on the victim meanwhile, and is served at a third node."""
        victim = cluster.node(1)
        def connect():
            s = cluster.network.socket(3, socket.AF_INET, socket.SOCK_STREAM)
            s.settimeout(5)
            s.connect((cluster.network.address(1), port))
            return s
        client = self.stamps(self.uri, writer=1000 + port, connections=2, rate=50, seconds=1000, **SHARED)
        before, said = self.members(victim), len(victim.log.read_text())
        attack(self, victim, Port(f"port {port}", connect, begins), self.seed)
        done = client.finish(stop=True)
        self.assertEqual((done["failed"], done["lost"], done["undrained"]), (0, 0, 0), done)
        self.assertLess(done["longest_wait_ms"], 5000)
        self.assertGreater(done["writes"], 50)
        # Nobody who belongs here lost a connection over it, and the stranger is named.
        self.assertEqual(self.members(victim), before)
        self.assertNotIn("PEER_UNREACHABLE", victim.log.read_text()[said:])
        self.assertIn(cluster.network.address(3), victim.log.read_text()[said:])
        stamping.sweep(self.uri, self.folder / "logs", writer=6000 + port, **SHARED)
        stamping.assert_register(self.folder / "logs")

    def members(self, node):
        return [(n["node"], n["state"], n["joins"]) for n in node.json("cluster", "status")["nodes"]]

    def make(self, **options):
        cluster = self.make_cluster(["manager,storage", "host", "host"], **options)
        self.uri = self.volume(cluster.node(1), "v", 2)[0]
        first = self.stamps(self.uri, writer=1, reads=0, rate=200, seconds=2, drain=10, **SHARED).finish()
        self.assertEqual((first["failed"], first["undrained"]), (0, 0), f"before anything went wrong: {first}")
        return cluster

    def test_strangers_at_ports_with_tls(self):
        cluster = self.make()
        self.attack(cluster, 7000, TLS_BEGINS)
        self.attack(cluster, 7100, TLS_BEGINS)

    def test_strangers_at_a_data_port_of_a_trusted_network(self):
        self.attack(self.make(security="trusted_network = true\n"), 7100, DATA_BEGINS)


if __name__ == "__main__":
    main()
