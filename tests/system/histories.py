#!/usr/bin/python3
"""Histories of stamped blocks, checked to be those of registers: of one node, over restarts and moves; and of servers that
lie, which are found."""

import os
import subprocess
import sys
import time
import unittest

sys.dont_write_bytecode = True
from harness import MIB, SystemTest, die_with_parent, main, run, wait_for, workspace
import stamping

# Eight blocks in each of eight shards of 4 MiB.
SPREAD = {"blocks": 64, "stride": MIB // 2}


class histories(SystemTest):
    time_limit = 180

    def setUp(self):
        super().setUp()
        self.volume = self.node.volume("vm1", "32MiB")
        self.logs = self.folder / "logs"

    def finish_history(self, stamps):
        done = stamps.finish(stop=True)
        self.assertEqual(done["undrained"], 0, done)
        stamping.sweep(self.volume.uri, self.logs, writer=100, **SPREAD)
        return done, stamping.assert_register(self.logs)

    def test_two_connections_over_kill_9_see_one_register_for_each_block(self):
        stamps = stamping.Stamps(self.volume.uri, self.logs, connections=2, seconds=100, rate=300, **SPREAD)
        for _ in range(4):
            time.sleep(1.5)
            self.node.kill()
            self.node.start()
        time.sleep(1)
        done, result = self.finish_history(stamps)
        self.assertEqual(done["connects"], 10)
        self.assertEqual(result["blocks"], 64)
        self.assertGreater(result["lost"], 0, "no request was interrupted")
        self.assertGreater(done["writes"], 500)

    def test_moves_and_kill_9_together(self):
        stamps = stamping.Stamps(self.volume.uri, self.logs, connections=2, depth=8, seconds=100, rate=300, **SPREAD)
        wait_for("all shards", lambda: len(self.node.homes("vm1")) == 8)
        for _ in range(3):
            with self.background(self.mover("vm1")):
                time.sleep(2.5)
            self.assertGreater(self.moved, 0)
            self.node.varve("shard", "move", "vm1", "--offset", 0, "--to", "slow", check=False)
            self.node.kill()
            self.node.start()
        self.finish_history(stamps)

    def test_a_client_that_is_killed_leaves_a_history_that_can_be_checked(self):
        for epoch in (1, 1001):
            stamps = stamping.Stamps(self.volume.uri, self.logs, connections=2, depth=16, seconds=100, rate=500, epoch=epoch, **SPREAD)
            time.sleep(2)
            stamps.kill()
        stamping.sweep(self.volume.uri, self.logs, writer=100, **SPREAD)
        self.assertGreater(stamping.assert_register(self.logs)["writes"], 200)


class liars(unittest.TestCase):
    """What the check is for: servers that are no registers, each made of nbdkit."""

    def setUp(self):
        self.folder = workspace()
        self.addCleanup(run, "rm", "-rf", self.folder)

    def serve(self, *words):
        path = self.folder / f"{len(os.listdir(self.folder))}.sock"
        process = subprocess.Popen(["nbdkit", "-f", "-U", str(path), *words], stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
        wait_for("nbdkit", path.exists)
        return f"nbd+unix:///?socket={path}"

    def write_and_check(self, *uris):
        logs = self.folder / "logs"
        clients = [stamping.Stamps(uri, logs, writer=10 * i + 1, connections=1, blocks=8, seconds=1.5, rate=400)
                   for i, uri in enumerate(uris)]
        for client in clients:
            client.finish()
        return stamping.check(logs)

    def test_an_honest_server_is_believed(self):
        uri = self.serve("memory", "1M")
        found = self.write_and_check(uri, uri)
        self.assertEqual(found["violations"], [])
        self.assertGreater(found["operations"], 300)

    def test_two_stores_are_not_one(self):
        found = self.write_and_check(self.serve("memory", "1M"), self.serve("memory", "1M"))
        self.assertEqual(len(found["violations"]), 8)

    def test_a_cache_that_nobody_invalidates_is_found(self):
        beneath = self.serve("memory", "1M")
        cached = self.serve("--filter=cache", "nbd", f"uri={beneath}", "cache=writethrough", "cache-on-read=true")
        self.assertGreater(len(self.write_and_check(beneath, cached)["violations"]), 0)

    def test_damage_is_found(self):
        disk = self.folder / "disk"
        disk.write_bytes(bytes(MIB))
        uri = self.serve("file", str(disk))
        logs = self.folder / "logs"
        stamping.Stamps(uri, logs, writer=1, blocks=8, seconds=0.5, rate=400, reads=0).finish()
        with open(disk, "r+b") as f:
            f.seek(3 * 4096 + 1000)
            byte = f.read(1)
            f.seek(-1, 1)
            f.write(bytes([byte[0] ^ 4]))
        self.assertEqual(stamping.sweep(uri, logs, writer=5, blocks=8)["garbled"], 1)
        violations = stamping.check(logs)["violations"]
        self.assertEqual([v["block"] for v in violations], [3])


if __name__ == "__main__":
    main()
