#!/usr/bin/python3
"""Managers that are lost beside a VM, in network namespaces: what `./run bench failover` measures more often.

VARVE_SEED=N repeats what the VM asks for.
"""

import random
import shutil
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
from chaos import say, seed_of
from failover_run import LEAD_BAR, Failover
from harness import MIB, main, run, wait_for, workspace
import stamping

# Of a machine that is busy with other things: a VM under load of its own waits as long without any fault.
PAUSE_LIMIT = 1.0


class failover(unittest.TestCase):
    time_limit = 200

    def setUp(self):
        if not shutil.which("etcd"):
            self.fail("no etcd: install or unpack the Debian package etcd-server")
        self.folder = workspace("vc.")
        self.addCleanup(run, "rm", "-rf", self.folder)
        self.watchdog = threading.Timer(self.time_limit, self.hang)
        self.watchdog.daemon = True
        self.watchdog.start()
        self.addCleanup(self.watchdog.cancel)
        self.trial = Failover(self.folder, seed_of(self), say)
        self.addCleanup(self.close)
        self.trial.start()
        self.trial.begin_io()

    def close(self):
        result = self._outcome.result
        if any(test is self for test, _ in result.failures + result.errors):
            self.show_logs()
        self.trial.close()

    def show_logs(self):
        for node in self.trial.cluster.nodes:
            say(node.log_end())

    def hang(self):
        import faulthandler
        import os
        say(f"{self.id()}: not finished after {self.time_limit} s")
        faulthandler.dump_traceback(all_threads=True)
        self.show_logs()
        os._exit(3)

    def finish(self):
        waits, done, history = self.trial.finish()
        say(f"{history['operations']} operations; longest waits " + ", ".join(f"{w} {s * 1000:.0f} ms" for w, s in waits))
        self.assertEqual((done["failed"], done["lost"], done["undrained"]), (0, 0, 0), done)
        self.assertGreater(done["writes"], 500)
        for what, seconds in waits:
            self.assertLess(seconds, PAUSE_LIMIT, what)

    def test_a_killed_manager_is_replaced_and_a_vm_does_not_notice(self):
        took = self.trial.kill_and_restart()
        say(f"another led after {took['leads']:.1f} s, made a volume after {took['serves']:.1f} s")
        self.assertLess(took["leads"], LEAD_BAR)
        self.finish()

    def test_a_deposed_manager_that_wakes_up_grants_nothing_that_counts(self):
        """While it is stopped a VM writes where it never has: what it asks for lies in the socket of one who believes that
        it leads. It gets its leases from the successor, and nothing of what the other grants when it wakes up."""
        trial = self.trial
        deposed = trial.cluster.node(trial.leader)
        vm = trial.vm
        vm.varve("volume", "create", "fresh", "--size", 32 * MIB, "--shard-size", 4 * MIB)
        uri = vm.json("volume", "attach", "fresh", "--host", vm.name)["uri"]
        old = deposed.metric("varve_manager_incarnation")
        self.assertGreater(old, 0)
        deposed.freeze()
        asks = {"volume": 2, "blocks": 16, "stride": 2 * MIB}
        client = stamping.Stamps(uri, trial.logs, writer=100, connections=1, reads=20, rate=100, seconds=1000, drain=60, **asks)
        time.sleep(1)
        deposed.thaw()
        deposed.freeze()
        took = trial.lose("freeze")
        self.assertLess(took["leads"], LEAD_BAR)
        def leased():
            return {l["shard"] for l in vm.rows("lease", "ls") if l["volume"] == "fresh" and l["mode"] == "write" and l["tier"]}
        wait_for("leases from the successor", lambda: leased() == set(range(8)), 30)
        deposed.thaw()
        wait_for("it to know that it was deposed", lambda: "CATALOG_LOST" in deposed.log.read_text(), 20)
        deposed.wait_ready()
        time.sleep(3)
        done = client.finish(stop=True)
        self.assertEqual((done["failed"], done["undrained"]), (0, 0), done)
        self.assertGreater(done["writes"], 100)
        # Its successor has given what the VM asked for, all of it.
        given = [lease["epoch"] >> 32 for lease in vm.rows("lease", "ls") if lease["volume"] == "fresh" and lease["tier"]]
        self.assertGreaterEqual(len(given), 8)
        self.assertGreater(min(given), old)
        stamping.sweep(uri, trial.logs, writer=6000, **asks)
        self.finish()


if __name__ == "__main__":
    main()
