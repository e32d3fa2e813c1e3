#!/usr/bin/python3
"""Every actor is killed in turn while a client writes and verifies: the node heals, the client notices nothing."""

import threading
import time

from harness import MIB, SystemTest, fio, main, wait_for


class supervision(SystemTest):
    time_limit = 300

    def test_any_actor_may_die_while_fio_runs(self):
        volume = self.node.volume("vm1", "64MiB")
        fio(self.folder, volume, "--rw=write", "--bs=1M", "--size=64M")
        self.node.move("vm1", 0, "slow")
        self.killed = []
        enough = threading.Event()
        def kill_under_load(stop):
            began = time.monotonic()
            try:
                kill_them_all(stop)
                stop.wait(25 - (time.monotonic() - began))
            finally:
                enough.set()
        def kill_them_all(stop):
            for path in sorted({a["path"] for a in self.node.rows("actor", "ls") if a["alive"]}):
                if stop.is_set():
                    return
                # Children of one kind are enough of a kind: one shard, one lease.
                kind = path.rstrip("0123456789abcdefx.-:")
                if kind in (k for _, k in self.killed):
                    continue
                done = self.node.varve("actor", "kill", path, check=False)
                if done.returncode != 0:
                    # It may have ended meanwhile, as a child of the one before.
                    assert "not_found" in done.stdout + done.stderr, done.stderr
                    continue
                self.killed.append((path, kind))
                wait_for(f"the node to heal after {path}", self.healthy, 20, 0.1)
        # However long the node takes to heal each time, within the bound: all are killed under load.
        with self.background(kill_under_load):
            fio(self.folder, volume, "--rw=randrw", "--bs=4k", "--size=64M", "--time_based", "--runtime=180", "--iodepth=4",
                "--rate_iops=1500", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=256", timeout=240,
                enough=enough)
        kinds = " ".join(k for _, k in self.killed)
        print("killed: " + ", ".join(p for p, _ in self.killed), flush=True)
        for part in ("management/catalog", "management/volumes/", "management/leases", "management/placement",
                     "management/migrations", "management/monitor", "storage/fast", "host/"):
            self.assertIn(part, kinds)
        wait_for("the node to be healthy", self.healthy, 30, 0.1)
        restarted = [a for a in self.node.rows("actor", "ls") if a["restarts"]]
        self.assertTrue(restarted)
        # It still does everything.
        self.node.move("vm1", 4 * MIB, "slow")
        self.assertEqual(self.node.homes("vm1")[4 * MIB], "slow")
        other = self.node.volume("vm2", "8MiB")
        fio(self.folder, other, "--rw=randwrite", "--bs=4k", "--size=8M", "--verify=crc32c", "--verify_fatal=1")

    def healthy(self):
        done = self.node.varve("status", "--json", check=False, timeout=20)
        return done.returncode == 0 and '"ok"' in done.stdout

    def test_killing_again_and_again_escalates_and_still_heals(self):
        volume = self.node.volume("vm1", "16MiB")
        path = next(a["path"] for a in self.node.rows("actor", "ls") if a["path"].endswith("placement"))
        for _ in range(12):
            self.node.varve("actor", "kill", path, check=False)
        wait_for("the node to heal", self.healthy, 60, 0.2)
        fio(self.folder, volume, "--rw=randwrite", "--bs=4k", "--size=16M", "--verify=crc32c", "--verify_fatal=1")

    def test_kill_is_refused_unless_the_config_allows_it(self):
        self.node.stop()
        self.node.config.write_text(self.node.config.read_text().replace("allow_kill = true", "allow_kill = false"))
        self.node.start()
        path = next(a["path"] for a in self.node.rows("actor", "ls") if a["path"].endswith("placement"))
        self.assertNotEqual(self.node.varve("actor", "kill", path, check=False).returncode, 0)


if __name__ == "__main__":
    main()
