#!/usr/bin/python3
"""A storage node of real processes loses power; FLUSH from a host at another node covers what it says, or fails.

power_loss: between WRITE and FLUSH, at any moment, with guests at work.
forgotten: the host's own process is killed before, so that the one that is asked to FLUSH has written nothing itself.
promises: what tells a lie from the truth.

VARVE_SEED=N repeats the moments.
"""

import random
import sys
import threading
import time
import unittest
import uuid

sys.dont_write_bytecode = True
from chaos import ClusterTest, say
from crash import stamp
from harness import MIB, main, wait_for
from lossy_disk import LossyDisk, booted_as, own_mounts
from promises import Guest, Promises, flush, sweep

MANAGER, HOST, STORAGE = 1, 2, 3
BLOCKS, STRIDE, SIZE = 64, MIB // 2, 32 * MIB
ROUNDS = 4


class OnLossyDisk(ClusterTest):
    """A manager, a host, and a storage node that can lose power."""

    time_limit = 280

    def setUp(self):
        super().setUp()
        self.rng = random.Random(self.seed)
        own_mounts()
        self.disk = LossyDisk(self.folder / "disk", 256 * MIB)
        # After the cluster, whose processes have files open there.
        self.addCleanup(self.disk.close)
        self.addCleanup(lambda: [c.close() for c in self.clusters])
        self.boot = self.folder / "boot"
        self.new_boot()
        self.cluster = self.make_cluster(["manager", "host", "storage"], disks={STORAGE: self.disk.path},
                                         before={STORAGE: [booted_as(self.boot)]})
        self.storage, self.host = self.cluster.node(STORAGE), self.cluster.node(HOST)
        self.manager = self.cluster.node(MANAGER)
        self.manager.varve("volume", "create", "v", "--size", SIZE, "--shard-size", 4 * MIB)
        self.attach()
        self.promises = Promises(1, BLOCKS, STRIDE)
        self.power_lost = False
        # Every shard is there, and all of it durable.
        first = [Guest(self.socket, "v", self.promises, range(BLOCKS), self.seed, flush_one_in=1 << 30)]
        wait_for("every shard", lambda: len(self.manager.rows("shard", "ls", "v")) == SIZE // (4 * MIB), 60)
        self.finish_all(first)
        self.assertTrue(flush(self.socket, "v", self.promises), "before anything went wrong")

    def attach(self):
        self.socket = self.manager.json("volume", "attach", "v", "--host", f"node{HOST}")["socket"]

    def attach_again(self):
        """As one does after a FLUSH that has failed: what was lost is known."""
        done = self.manager.varve("volume", "detach", "v", check=False)
        if done.returncode != 0:
            # Whoever detaches it is told, once.
            self.assertIn("shard_failed", done.stderr)
            self.manager.varve("volume", "detach", "v")
        self.attach()

    def new_boot(self):
        self.boot.write_text(f"{uuid.UUID(int=self.rng.getrandbits(128), version=4)}\n")

    def guests(self, **options):
        return [Guest(self.socket, "v", self.promises, range(i, BLOCKS, 2), self.rng.random(), **options) for i in (0, 1)]

    def finish_all(self, guests):
        for g in guests:
            g.finish()

    def lose_power(self, away=0.0):
        """The storage node's process, page cache and disk cache end at the same moment: a stopped process answers nobody."""
        self.storage.freeze()
        self.disk.cut_power()
        self.storage.kill()
        self.disk.remove()
        time.sleep(away)
        self.disk.power_up()
        self.new_boot()
        self.storage.start()
        self.power_lost = True

    def check(self):
        """Reads all when nothing is under way."""
        wrong = sweep(self.socket, "v", self.promises, self.power_lost)
        self.assertEqual(wrong[:10], [], f"seed {self.seed}")
        self.power_lost = False

    def say_what_happened(self):
        p = self.promises
        say(f"{p.writes} writes, {p.flushes} FLUSHes succeeded and {p.failed_flushes} failed, {p.rolled_back} blocks were as they "
            f"had been before, {p.torn} in part")


class power_loss(OnLossyDisk):
    def test_a_flush_covers_what_it_says_or_fails(self):
        for _ in range(ROUNDS):
            guests = self.guests()
            time.sleep(self.rng.uniform(0.3, 1.5))
            self.lose_power(self.rng.choice((0, 0.5)))
            time.sleep(self.rng.uniform(0, 1))
            self.storage.wait_ready()
            # Requests that waited for the node are answered, and new ones.
            before = self.promises.writes
            wait_for("guests to go on", lambda: self.promises.writes > before + 20, 60)
            self.finish_all(guests)
            if flush(self.socket, "v", self.promises):
                # A promise is kept whenever it is looked at.
                self.lose_power()
                self.storage.wait_ready()
            self.check()
            self.attach_again()
            # What is there now is what counts.
            self.assertTrue(flush(self.socket, "v", self.promises))
        self.say_what_happened()
        self.assertGreater(self.promises.rolled_back, 0, "the disk has lost nothing: this run says nothing")
        self.assertGreater(self.promises.failed_flushes, 0, "no FLUSH has failed: this run says nothing")
        self.assertGreater(self.promises.flushes, 2 * ROUNDS)


class forgotten(OnLossyDisk):
    def write_some(self):
        guests = self.guests(flush_one_in=1 << 30)
        before = self.promises.writes
        wait_for("writes", lambda: self.promises.writes > before + 200, 30)
        return guests

    def restart_host(self):
        self.host.kill()
        self.host.start()

    def flush_then_lose_power(self):
        done = flush(self.socket, "v", self.promises, timeout=100)
        self.lose_power()
        self.storage.wait_ready()
        return done

    def test_the_next_process_flushes_what_the_last_one_has_written(self):
        guests = self.write_some()
        self.restart_host()
        self.finish_all(guests)
        self.host.wait_ready()
        self.assertTrue(self.flush_then_lose_power())
        self.check()

    def test_a_flush_waits_for_a_node_that_holds_what_the_last_process_has_written(self):
        """The storage node has not seen the end of the process: the network was cut first."""
        guests = self.write_some()
        self.cluster.network.cut(HOST, STORAGE)
        self.host.kill()
        self.finish_all(guests)
        self.host.start().wait_ready()
        healed = threading.Timer(3, self.cluster.network.clear)
        healed.start()
        began = time.monotonic()
        self.assertTrue(flush(self.socket, "v", self.promises, timeout=100))
        self.assertGreater(time.monotonic() - began, 2, "answered by a host that could not ask")
        self.lose_power()
        self.storage.wait_ready()
        self.check()

    def test_a_flush_fails_when_power_was_lost_before_the_next_process_could_ask(self):
        guests = self.write_some()
        self.cluster.network.cut(HOST, STORAGE)
        self.host.kill()
        self.finish_all(guests)
        self.lose_power()
        self.cluster.network.clear()
        self.host.start().wait_ready()
        self.storage.wait_ready()
        for _ in range(2):
            self.assertFalse(flush(self.socket, "v", self.promises, timeout=100), "what is lost is not durable")
        self.check()
        self.assertGreater(self.promises.rolled_back, 0, "the disk has lost nothing: this run says nothing")
        # Until it is attached again.
        self.attach_again()
        guests = self.write_some()
        self.finish_all(guests)
        self.assertTrue(self.flush_then_lose_power())
        self.check()

    def test_an_orderly_stop_does_not_forget_what_nobody_was_told(self):
        guests = self.write_some()
        self.finish_all(guests)
        self.lose_power()
        self.storage.wait_ready()
        self.assertEqual(self.host.stop(), 0)
        self.host.start().wait_ready()
        self.assertFalse(flush(self.socket, "v", self.promises, timeout=100))
        self.check()

    def test_a_host_with_nothing_to_flush_waits_for_nobody(self):
        """An orderly stop leaves nothing behind, and neither does a FLUSH."""
        guests = self.write_some()
        self.finish_all(guests)
        self.assertTrue(flush(self.socket, "v", self.promises))
        self.cluster.network.cut(HOST, STORAGE)
        self.restart_host()
        self.host.wait_ready()
        began = time.monotonic()
        self.assertTrue(flush(self.socket, "v", self.promises))
        self.assertLess(time.monotonic() - began, 2)
        self.cluster.network.clear()
        self.check()


class promises(unittest.TestCase):
    """The check itself."""

    def setUp(self):
        self.book = Promises(1, 2, 4096)
        self.first, self.second, self.third = (self.book.begin(0) for _ in range(3))

    def found(self, sequence, power_lost=True):
        return self.book.found(0, stamp(1, 0, sequence), power_lost)

    def found_bytes(self, data):
        return self.book.found(0, data, True)

    def test_without_power_loss_what_was_answered_is_there(self):
        self.book.written(0, self.first)
        self.book.written(0, self.second)
        self.assertIsNone(self.found(self.second, power_lost=False))
        self.assertIsNotNone(self.found(self.first, power_lost=False))

    def test_what_is_under_way_may_be_there_or_not(self):
        self.book.written(0, self.first)
        self.assertIsNone(self.found(self.second, power_lost=False))

    def test_power_loss_takes_what_no_flush_has_covered(self):
        self.book.written(0, self.first)
        self.book.flushed(self.book.begin_flush())
        self.book.written(0, self.second)
        self.assertIsNone(self.found(self.first))
        self.assertEqual(self.book.rolled_back, 1)
        self.assertIsNotNone(self.book.found(0, stamp(1, 0, 0), True))

    def test_a_flush_covers_what_was_answered_before_it_was_sent(self):
        self.book.written(0, self.first)
        covers = self.book.begin_flush()
        self.book.written(0, self.second)
        self.book.flushed(covers)
        self.assertIsNone(self.found(self.first))

    def test_a_lie_is_found(self):
        self.book.written(0, self.first)
        self.book.written(0, self.second)
        self.book.flushed(self.book.begin_flush())
        self.assertIsNotNone(self.found(self.first))

    def test_a_flush_that_fails_promises_nothing(self):
        self.book.written(0, self.first)
        self.book.begin_flush()
        self.book.flush_failed()
        self.assertIsNone(self.found(0))

    def test_fua_is_a_promise(self):
        self.book.written(0, self.first, fua=True)
        self.assertIsNotNone(self.found(0))

    def test_power_loss_tears_what_no_flush_has_covered(self):
        def torn(at):
            return stamp(1, 0, self.first)[:at] + stamp(1, 0, self.second)[at:]
        for at, power_lost, flush, wrong in ((512, True, False, False), (512, False, False, True), (512, True, True, True),
                                             (700, True, False, False), (700, False, False, True), (700, True, True, True)):
            self.setUp()
            self.book.written(0, self.first)
            self.book.written(0, self.second)
            if flush:
                self.book.flushed(self.book.begin_flush())
            self.assertEqual(self.book.found(0, torn(at), power_lost) is not None, wrong, (at, power_lost, flush))

    def test_what_nobody_wrote_is_found(self):
        self.book.written(0, self.first)
        self.book.written(0, self.second)
        two = stamp(1, 0, self.first)[:700] + bytes(8) + stamp(1, 0, self.second)[708:]
        self.assertIsNotNone(self.found_bytes(two))
        self.setUp()
        self.book.written(0, self.first)
        self.book.written(0, self.second)
        other = stamp(1, 0, self.first)[:700] + stamp(1, 1, self.second)[700:]
        self.assertIsNotNone(self.found_bytes(other))

    def test_what_belongs_elsewhere_is_found(self):
        self.book.written(0, self.first)
        self.assertIsNotNone(self.book.found(0, stamp(1, 1, self.first), True))


if __name__ == "__main__":
    main()
