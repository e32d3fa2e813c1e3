#!/usr/bin/python3
"""kill -9 in the middle of random writes, many times: what was acknowledged is there, and every migration ended on one side.

    crash.py [--moments N] [--seed S]     (the suite does 50; `./run bench crash` 500)
"""

import argparse
import random
import struct
import threading
import time
import unittest

from harness import MIB, SystemTest, wait_for
import nbd_client as n
from nbd_client import Client

BLOCK = 4096
MOMENTS = 50
SEED = None


def stamp(volume, block, sequence):
    """What write number `sequence` puts into a block: all of it says so, hence a torn block shows. 0: zeros."""
    return struct.pack("<QQQQ", volume, block, sequence, ~sequence & (1 << 64) - 1) * (BLOCK // 32) if sequence else bytes(BLOCK)


def read_stamp(data, volume, block):
    """The sequence that a block holds; None when it is torn, another block's, or of nobody."""
    _, _, sequence, _ = struct.unpack_from("<QQQQ", data)
    return sequence if data == stamp(volume, block, sequence) else None


class Ledger:
    """What a block may hold: what was last acknowledged, or any write that was under way when the server died."""

    def __init__(self, volume, blocks):
        self.volume, self.blocks = volume, blocks
        self.acknowledged = [0] * blocks
        self.unanswered = [set() for _ in range(blocks)]
        self.sequence = 0
        self.answers = 0

    def check(self, data, first):
        """Compares blocks that were read; gives what is wrong. What is there is known from now on."""
        wrong = []
        for i in range(len(data) // BLOCK):
            block = first + i
            found = read_stamp(data[i * BLOCK:(i + 1) * BLOCK], self.volume, block)
            if found != self.acknowledged[block] and found not in self.unanswered[block]:
                wrong.append(f"block {block}: holds {found}, acknowledged {self.acknowledged[block]}, "
                             f"unanswered {sorted(self.unanswered[block])}")
            elif found is not None:
                self.acknowledged[block] = found
            self.unanswered[block].clear()
        return wrong


class Writer:
    """Random writes (one block or several), zeroing and trims over one connection at a depth, until the server dies.
    Never two at once on a block, so that the last acknowledged one is known."""

    def __init__(self, socket, name, ledger, seed, depth=16, first=0, count=None):
        self.client = Client(socket, name)
        self.ledger, self.rng, self.depth = ledger, random.Random(seed), depth
        self.first, self.count = first, count or ledger.blocks
        self.pending = {}  # cookie -> (blocks, sequence)
        self.busy = set()
        self.trouble = None

    def issue(self):
        rng, ledger = self.rng, self.ledger
        length = rng.choice((1, 1, 1, 1, 2, 3, 16))
        block = self.first + rng.randrange(self.count - length)
        blocks = range(block, block + length)
        if any(b in self.busy for b in blocks):
            return
        kind = rng.choices((n.WRITE, n.WRITE_ZEROES, n.TRIM, n.FLUSH), (40, 3, 3, 1))[0]
        if kind == n.FLUSH:
            self.pending[self.client.send(n.FLUSH)] = ((), None)
            return
        ledger.sequence += 1
        sequence = ledger.sequence if kind == n.WRITE else 0
        # Before it is sent: the server may carry it out without our ever hearing of it.
        for b in blocks:
            ledger.unanswered[b].add(sequence)
        self.busy.update(blocks)
        data = b"".join(stamp(ledger.volume, b, sequence) for b in blocks) if kind == n.WRITE else b""
        flags = n.FLAG_FUA if rng.randrange(16) == 0 else 0
        self.pending[self.client.send(kind, block * BLOCK, length * BLOCK, data, flags)] = (blocks, sequence)

    def settle(self):
        cookie, error, _ = self.client.receive()
        blocks, sequence = self.pending.pop(cookie)
        if error:
            raise AssertionError(f"the server answered error {error}")
        for b in blocks:
            self.ledger.acknowledged[b] = sequence
            self.ledger.unanswered[b].discard(sequence)
            self.busy.discard(b)
        self.ledger.answers += 1

    def run(self, stop):
        try:
            while not stop.is_set():
                self.issue()
                while len(self.pending) >= self.depth:
                    self.settle()
            while self.pending:
                self.settle()
        except (n.Closed, OSError):
            pass  # the server was killed: as wanted
        except BaseException as e:
            self.trouble = e
        finally:
            self.client.close()


def verify(socket, name, ledger):
    client = Client(socket, name)
    wrong = []
    for first in range(0, ledger.blocks, 256):
        count = min(256, ledger.blocks - first)
        wrong += ledger.check(client.read(first * BLOCK, count * BLOCK), first)
    client.disconnect()
    return wrong


class crash(SystemTest):
    time_limit = 1800

    def test_every_acknowledged_write_survives_kill_9_at_random_moments(self):
        """Goal: rule 4 of the design. Method: two connections write stamped blocks to 6 shards while shards move; kill -9
        after 20 to 400 ms; restart; read all; again, on what is there."""
        seed = SEED if SEED is not None else random.getrandbits(32)
        print(f"seed {seed}", flush=True)
        rng = random.Random(seed)
        size = 24 * MIB
        volume = self.node.volume("vm1", size)
        ledger = Ledger(1, size // BLOCK)
        half = ledger.blocks // 2
        self.migrations_cut = 0
        down_for = []
        for moment in range(MOMENTS):
            stop = threading.Event()
            writers = [Writer(volume.socket, "vm1", ledger, rng.random(), first=i * half, count=half) for i in (0, 1)]
            threads = [threading.Thread(target=w.run, args=(stop,), daemon=True) for w in writers]
            if rng.randrange(2):
                target = rng.choice(("fast", "slow"))
                threads.append(threading.Thread(target=self.node.varve, daemon=True, kwargs={"check": False}, args=(
                    "shard", "move", "vm1", "--offset", str(rng.randrange(6) * 4 * MIB), "--to", target)))
            for t in threads:
                t.start()
            time.sleep(rng.uniform(0.02, 0.4))
            self.node.kill()
            stop.set()
            for t in threads:
                t.join(30)
            for w in writers:
                if w.trouble:
                    raise w.trouble
            began = time.monotonic()
            self.node.start()
            down_for.append(time.monotonic() - began)
            wrong = verify(volume.socket, "vm1", ledger)
            self.assertEqual(wrong[:10], [], f"after moment {moment} of seed {seed}")
        self.assertGreater(ledger.answers, MOMENTS * 20, "hardly anything was written: this run says nothing")
        self.node.wait_migrations()
        for m in self.node.migrations():
            self.assertIn(m["state"], ("committed", "aborted"))
        # One file for each shard, where the catalog says: nothing half-moved is left behind.
        homes = self.node.homes("vm1")
        wait_for("left-over sinks to go", lambda: sum(
            1 for tier in ("fast", "slow") for p in (self.node.data / tier).rglob("*") if p.is_file() and
            p.stat().st_size >= 4 * MIB) == len(homes), 20)
        self.assertEqual(self.node.metric("varve_checksum_mismatches_total"), 0)
        down_for.sort()
        print(f"{MOMENTS} moments, {ledger.answers} acknowledged writes, none lost; restart to ready: median "
              f"{down_for[len(down_for) // 2] * 1000:.0f} ms, longest {down_for[-1] * 1000:.0f} ms", flush=True)


class ledger(unittest.TestCase):
    """The checker itself: it must see what it is for."""

    def test_it_sees_lost_torn_stale_and_misdirected_blocks(self):
        book = Ledger(1, 8)
        book.acknowledged[0] = 5
        book.unanswered[0] = {6}
        for good in (5, 6):
            copy = Ledger(1, 8)
            copy.acknowledged[0], copy.unanswered[0] = 5, {6}
            self.assertEqual(copy.check(stamp(1, 0, good), 0), [])
        torn = stamp(1, 0, 5)[:2048] + stamp(1, 0, 6)[2048:]
        for bad in (stamp(1, 0, 4), bytes(BLOCK), torn, stamp(1, 3, 5), stamp(2, 0, 5)):
            copy = Ledger(1, 8)
            copy.acknowledged[0], copy.unanswered[0] = 5, {6}
            self.assertEqual(len(copy.check(bad, 0)), 1)


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--moments", type=int, default=MOMENTS)
    options.add_argument("--seed", type=int)
    chosen, rest = options.parse_known_args()
    MOMENTS, SEED = chosen.moments, chosen.seed
    unittest.main(argv=["crash.py", *rest], verbosity=2, warnings="ignore")
