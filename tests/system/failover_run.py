"""Managers that are lost while a VM's I/O goes on: three nodes with their catalog in etcd, two of them managers.

The VM and its shards are at the third node, and hold their leases: what happens to the managers is nothing to them.
"""

import subprocess
import time

from etcd import Etcd
from harness import BIN, MIB, die_with_parent, wait_for
from net_cluster import Cluster
from network import Network
import stamping

MANAGERS, VM = (1, 2), 3
ETCD = 4  # its namespace
SIZE, SHARD, BLOCKS, STRIDE = 64 * MIB, 4 * MIB, 64, MIB
LEAD_BAR, PAUSE_BAR = 10.0, 0.1
# As DESIGN section 6 has them: what outlasts a failover.
LEASE = 'term = "45s"\ndrift = "500ms"\nrenew = "10s"\nfailover = "10s"\ngrace = "2s"\n'


class Failover:
    """`rate`: operations a second of the VM's."""

    def __init__(self, folder, seed, say, network=None, rate=500):
        self.folder, self.say, self.rate = folder, say, rate
        network = network or Network(4, seed)
        self.etcd = Etcd(folder, network.address(ETCD), network.enter(ETCD))
        self.cluster = Cluster(folder / "cluster", ["manager", "manager", "storage,host"], seed, network=network,
                               extra=self.etcd.config(), lease=LEASE)
        self.logs = folder / "logs"
        self.seed = seed
        self.client = None
        self.windows = []  # (what, from_ns, to_ns)

    def close(self):
        if self.client and self.client.running():
            self.client.kill()
        self.cluster.close()
        self.etcd.kill()

    def start(self):
        self.etcd.start()
        self.cluster.start()
        self.vm = self.cluster.node(VM)
        self.leader = wait_for("a leader", self.who_leads, 30)
        self.vm.varve("volume", "create", "v", "--size", SIZE, "--shard-size", SHARD)
        self.uri = self.vm.json("volume", "attach", "v", "--host", self.vm.name)["uri"]
        # Written by a client of its own: leases of all shards are there before anything is measured.
        first = stamping.Stamps(self.uri, self.logs, writer=1, connections=1, reads=0, rate=400, seconds=2, drain=20, **self.blocks())
        done = first.finish()
        if done["failed"] or done["undrained"]:
            raise AssertionError(f"before anything went wrong: {done}")
        wait_for("all leases", lambda: len(self.vm.rows("lease", "ls")) >= SIZE // SHARD, 20)

    def blocks(self):
        return {"volume": 1, "blocks": BLOCKS, "stride": STRIDE}

    def who_leads(self):
        """The number of the manager that says of itself that it leads."""
        for number in MANAGERS:
            node = self.cluster.node(number)
            if node.process and not node.stopped and node.http("/readyz", 1)[0] == 200 and \
               node.json("cluster", "status")["leader"] == node.name:
                return number
        return None

    def begin_io(self):
        self.client = stamping.Stamps(self.uri, self.logs, writer=10, connections=1, depth=8, rate=self.rate, seconds=100000,
                                      flush_every=0, seed=self.seed, **self.blocks())

    def window(self, what, body):
        began = time.monotonic_ns()
        result = body()
        self.windows.append((what, began, time.monotonic_ns()))
        return result

    def quiet(self, seconds):
        self.window("nothing", lambda: time.sleep(seconds))

    def lose(self, how):
        """Ends the leader so; {leads, serves}: the seconds until the other manager leads, and makes a volume."""
        leader, other = (self.cluster.node(n) for n in (self.leader, sum(MANAGERS) - self.leader))
        times = other.leading()
        began = time.monotonic()
        getattr(leader, how)()
        def led():
            self.check_alive()
            return other.leading() > times
        wait_for("the other manager to lead", led, 60, 0.01)
        leads = time.monotonic() - began
        name = f"new{time.monotonic_ns()}"
        wait_for("it to make a volume", lambda: other.varve("volume", "create", name, "--size", MIB, check=False).returncode == 0,
                 60, 0.1)
        self.leader = other.number
        return {"leads": leads, "serves": time.monotonic() - began}

    def check_alive(self):
        for node in self.cluster.nodes:
            if node.process is not None and node.process.poll() is not None:
                raise AssertionError(f"{node.name} ended by itself with {node.process.returncode}\n{node.log_end()}")

    def kill_and_restart(self):
        lost = self.cluster.node(self.leader)
        # And what comes after: holders find the new one, and it learns.
        took = self.window("kill", lambda: (self.lose("kill"), time.sleep(3))[0])
        def back():
            lost.start()
            lost.wait_ready()
        self.window("its return", back)
        return took

    def freeze_and_thaw(self):
        """The leader is stopped, deposed, and wakes up with something to do in its socket: (times, whether that was done)."""
        deposed = self.cluster.node(self.leader)
        took = self.window("SIGSTOP", lambda: self.lose_frozen(deposed))
        def wake():
            deposed.thaw()
            try:
                self.asked.communicate(timeout=60)
            finally:
                self.asked.kill()
            deposed.wait_ready()
            time.sleep(3)
        self.window("SIGCONT", wake)
        return took, self.asked.returncode == 0

    def lose_frozen(self, leader):
        leader.freeze()
        # It lies in the socket of one who believes that it leads.
        self.asked = subprocess.Popen([str(BIN / "varve"), "--socket", str(leader.rpc_socket), "volume", "create", "stale",
                                       "--size", str(MIB)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                      preexec_fn=die_with_parent)
        leader.thaw()
        # So it is accepted, if that; the rest of the request comes when nobody reads.
        leader.freeze()
        took = self.lose("freeze")
        time.sleep(3)
        return took

    def finish(self):
        """[(what, longest wait in seconds)] of each window, and what the history says; raises when a block was no register."""
        done = self.client.finish(stop=True)
        stamping.sweep(self.uri, self.logs, writer=5000, **self.blocks())
        result = stamping.assert_register(self.logs)
        found = stamping.waits(self.logs, [(a, b, 1, list(range(BLOCKS))) for _, a, b in self.windows])
        return [(what, w["longest_ms"] / 1000) for (what, *_), w in zip(self.windows, found)], done, result
