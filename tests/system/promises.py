"""What a volume's blocks may hold when the power of their disks is lost, and guests that note what they were promised.

A write that was answered survives the end of any process; one that a FLUSH has covered (or that was FUA) survives power
loss. Where a write was neither, each byte of its block is of it then, or of a write before it that is not older than what a
FLUSH has covered: a disk does not tear its sectors, but the kernel changes a page while it is on its way there.
"""

import random
import struct
import threading

from crash import BLOCK, stamp
import nbd_client as n
from nbd_client import Client

SECTOR = 512  # of which each says whose it is

class Promises:
    """Of one volume. Any thread. Writes of one block come one after the other, so that their numbers are their order."""

    def __init__(self, volume, blocks, stride):
        self.volume, self.blocks, self.stride = volume, blocks, stride
        self.lock = threading.Lock()
        self.sequence = 0
        self.there = [{0} for _ in range(blocks)]  # what may be
        self.answered = [0] * blocks
        self.durable = [0] * blocks
        # Of the whole run: what says that it has tried anything.
        self.writes = self.flushes = self.failed_flushes = self.rolled_back = self.torn = 0

    def begin(self, block):
        """A write is about to be sent: its number."""
        with self.lock:
            self.sequence += 1
            self.there[block].add(self.sequence)
            return self.sequence

    def written(self, block, sequence, fua=False):
        with self.lock:
            self.writes += 1
            self.answered[block] = sequence
            if fua:
                self.durable[block] = sequence

    def begin_flush(self):
        """A FLUSH is about to be sent: what it covers."""
        with self.lock:
            return list(self.answered)

    def flushed(self, covers):
        with self.lock:
            self.flushes += 1
            self.durable = [max(old, new) for old, new in zip(self.durable, covers)]

    def flush_failed(self):
        with self.lock:
            self.failed_flushes += 1

    def found(self, block, data, power_lost):
        """A block was read while nothing else was under way: what is wrong with it, or None. What is there is known now.
        A write that power loss has met may be there in part."""
        with self.lock:
            whole = self.sequence_in(data, block)
            parts = {whole}
            if whole is None and power_lost:
                parts = set().union(*(self.sequences_in(data[at:at + SECTOR], block) for at in range(0, BLOCK, SECTOR)))
            least = self.durable[block] if power_lost else self.answered[block]
            wrong = None
            if any(s is None or s not in self.there[block] or s < least for s in parts):
                wrong = (f"block {block}: holds {parts}, answered {self.answered[block]}, covered by a FLUSH "
                         f"{self.durable[block]}, under way {sorted(s for s in self.there[block] - {None} if s > self.answered[block])}")
                if whole is None:
                    wrong += "; its sectors: " + ", ".join(str(struct.unpack_from("<QQQ", data, at)) for at in range(0, BLOCK, SECTOR))
            self.rolled_back += whole is not None and whole < self.answered[block]
            self.torn += whole is None
            self.there[block] = parts
            self.answered[block] = min((s for s in parts if s is not None), default=0)
            return wrong

    def sequences_in(self, sector, block):
        """The writes that a sector is of: one, or one up to some byte and another from there on; {None} when it is neither."""
        whole = self.sequence_in(sector, block)
        if whole is not None:
            return {whole}
        whose = {s: stamp(self.volume, block, s)[:SECTOR] for s in self.there[block] if s is not None}
        for first, begins in whose.items():
            at = next(i for i in range(SECTOR + 1) if i == SECTOR or sector[i] != begins[i])
            for second, ends in whose.items():
                if sector[at:] == ends[at:]:
                    return {first, second}
        return {None}

    def sequence_in(self, data, block):
        """The write that all of some bytes are of; None when there is no such one."""
        sequence = struct.unpack_from("<QQQQ", data)[2]
        return sequence if data == stamp(self.volume, block, sequence)[:len(data)] else None


class Guest:
    """One connection that writes stamped blocks, some with FUA, and flushes; a thread of its own until `finish`. `blocks`
    are its own. A connection that is lost is made again as long as `finish` was not called."""

    def __init__(self, socket, name, promises, blocks, seed, depth=8, flush_one_in=24, timeout=60):
        self.socket, self.name, self.promises, self.blocks = socket, name, promises, list(blocks)
        self.rng, self.depth, self.flush_one_in, self.timeout = random.Random(seed), depth, flush_one_in, timeout
        self.stop = threading.Event()
        self.trouble, self.lost_connections = None, 0
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def finish(self):
        """All that is under way is answered, or its connection is lost."""
        self.stop.set()
        self.thread.join(self.timeout + 30)
        if self.thread.is_alive():
            raise AssertionError("a request hangs")
        if self.trouble:
            raise self.trouble

    def work(self):
        try:
            while True:
                try:
                    return self.talk()
                except (n.Closed, ConnectionError, FileNotFoundError):
                    self.lost_connections += 1
                    if self.stop.wait(0.02):
                        return
        except BaseException as e:  # told by finish()
            self.trouble = e

    def talk(self):
        client = Client(self.socket, self.name, timeout=self.timeout)
        try:
            pending, busy = {}, set()
            while not self.stop.is_set() or pending:
                while not self.stop.is_set() and len(pending) < self.depth:
                    self.issue(client, pending, busy)
                self.settle(client, pending, busy)
            client.disconnect()
        finally:
            client.close()

    def issue(self, client, pending, busy):
        if self.rng.randrange(self.flush_one_in) == 0:
            covers = self.promises.begin_flush()
            pending[client.send(n.FLUSH)] = (None, covers, False)
            return
        block = self.rng.choice([b for b in self.blocks if b not in busy])
        busy.add(block)
        fua = self.rng.randrange(50) == 0
        sequence = self.promises.begin(block)
        pending[client.send(n.WRITE, block * self.promises.stride, BLOCK, stamp(self.promises.volume, block, sequence),
                            n.FLAG_FUA if fua else 0)] = (block, sequence, fua)

    def settle(self, client, pending, busy):
        cookie, error, _ = client.receive()
        block, what, fua = pending.pop(cookie)
        if block is None:
            if error:
                self.promises.flush_failed()
            else:
                self.promises.flushed(what)
            return
        busy.discard(block)
        if not error:
            self.promises.written(block, what, fua)
        elif not fua:  # what it was to be durable on may have lost what was there before
            raise AssertionError(f"a write of block {block} was answered by error {error}")


def flush(socket, name, promises, timeout=60):
    """Whether a FLUSH succeeds."""
    client = Client(socket, name, timeout=timeout)
    try:
        covers = promises.begin_flush()
        try:
            client.flush()
        except n.NbdError:
            promises.flush_failed()
            return False
        promises.flushed(covers)
        return True
    finally:
        client.close()


def sweep(socket, name, promises, power_lost, timeout=60):
    """Reads all; what is wrong."""
    client = Client(socket, name, timeout=timeout)
    wrong = [promises.found(block, client.read(block * promises.stride, BLOCK), power_lost) for block in range(promises.blocks)]
    client.disconnect()
    return [w for w in wrong if w]
