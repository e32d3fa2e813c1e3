#!/usr/bin/python3
"""Bits that flip in shard files: the read gives EIO, never wrong bytes; it is counted and told; other blocks still read."""

import json
import random
import time

from harness import MIB, SystemTest, main, wait_for
import nbd_client as n
from nbd_client import Client, NbdError

BLOCK = 4096


class rot(SystemTest):
    options = {"tiers": [{"name": name, "kind": "file", "path": name, "io": io, "capacity": "8GiB",
                          "checkpoint_after": "1s"} for name, io in (("fast", "direct"), ("slow", "buffered"))]}

    def setUp(self):
        super().setUp()
        self.volume = self.node.volume("vm1", "64MiB")
        self.rng = random.Random(9)
        self.blocks = {}

    def fill(self, *numbers):
        client = Client(self.volume.socket, "vm1")
        for number in numbers:
            self.blocks[number] = self.rng.randbytes(BLOCK)
            client.write(number * BLOCK, self.blocks[number])
        client.flush()
        client.disconnect()

    def settle(self):
        """Until checksum tables are on disk and intent marks are gone: checkpoint_after is 5 s."""
        time.sleep(8)

    def flip(self, number, bit=12345):
        """Flips one bit of a block in whichever shard file holds it; the block is found by its bytes."""
        for path in sorted(self.node.data.rglob("*")):
            if not path.is_file() or path.stat().st_size < BLOCK:
                continue
            content = path.read_bytes()
            at = content.find(self.blocks[number])
            if at >= 0:
                with open(path, "r+b") as f:
                    f.seek(at + bit // 8)
                    f.write(bytes([content[at + bit // 8] ^ 1 << bit % 8]))
                return path
        self.fail("the block stands in no file")

    def expect_rot(self, number, good):
        client = Client(self.volume.socket, "vm1")
        with self.assertRaises(NbdError) as caught:
            client.read(number * BLOCK, BLOCK)
        self.assertEqual(caught.exception.error, n.EIO)
        # Inside a longer read, and at odd borders, no better.
        with self.assertRaises(NbdError):
            client.read(number * BLOCK + 100, 17)
        for other in good:
            self.assertEqual(client.read(other * BLOCK, BLOCK), self.blocks[other])
        wait_for("the metric", lambda: self.node.metric("varve_checksum_mismatches_total") >= 1)
        wait_for("the event", lambda: [e for e in self.node.events() if e["code"] == "CHECKSUM_MISMATCH"])
        # A write of the whole block heals it; one of a part must not bless the rest.
        with self.assertRaises(NbdError):
            client.write(number * BLOCK + 10, b"part")
        client.write(number * BLOCK, self.blocks[number])
        self.assertEqual(client.read(number * BLOCK, BLOCK), self.blocks[number])
        client.disconnect()

    def test_in_an_open_shard(self):
        self.fill(10, 11, 500, 3000)
        self.flip(10)
        self.expect_rot(10, (11, 500, 3000))

    def test_in_a_closed_shard(self):
        self.fill(10, 11, 500, 3000)
        self.node.varve("volume", "detach", "vm1")
        self.flip(10)
        self.volume = self.node.attach("vm1")
        self.expect_rot(10, (11, 500, 3000))

    def test_while_varved_is_down(self):
        self.fill(10, 11, 500, 3000)
        self.node.stop()
        self.flip(500, bit=0)
        self.node.start()
        self.expect_rot(500, (10, 11, 3000))

    def test_before_the_restart_after_kill_9(self):
        self.fill(10, 11, 500, 3000)
        self.settle()
        self.fill(700)  # the same shard is dirty when it dies, in another 64 KiB region
        self.node.kill()
        self.flip(10)
        self.node.start()
        self.expect_rot(10, (11, 500, 700, 3000))

    def test_a_move_of_rotten_data_is_aborted_and_the_source_stays(self):
        self.fill(10, 11, 500)
        self.flip(10)
        self.node.move("vm1", 0, "slow")
        self.assertEqual(self.node.homes("vm1")[0], "fast")
        self.assertEqual([m["state"] for m in self.node.migrations()], ["aborted"])
        self.expect_rot(10, (11, 500))
        self.node.move("vm1", 0, "slow")
        self.assertEqual(self.node.homes("vm1")[0], "slow")

    def test_a_scrub_finds_it(self):
        self.fill(10, 11)
        self.assertEqual(self.node.varve("volume", "verify", "vm1").returncode, 0)
        self.assertEqual(self.node.json("volume", "verify", "vm1")["bad_shards"], [])
        self.flip(11)
        self.assertNotEqual(self.node.varve("volume", "verify", "vm1", check=False).returncode, 0)
        done = self.node.varve("volume", "verify", "vm1", "--json", check=False)
        self.assertNotEqual(done.returncode, 0)
        found = json.loads(done.stdout)
        self.assertEqual(found["bad_shards"], [{"index": 0, "bad_blocks": 1}])
        self.assertEqual((found["bad_blocks"], found["error"]["code"]), (1, "checksum_mismatch"))

    def test_rot_in_the_header_or_table_never_gives_wrong_bytes(self):
        """Every kilobyte of the front matter of the file gets a flipped bit in turn; each block then reads right or not at all."""
        self.fill(10, 11, 500)
        self.node.stop()
        path = self.flip(10)
        self.flip_back(path, 10)
        front = path.read_bytes().find(self.blocks[10]) - 10 * BLOCK
        for at in range(0, front, 1024):
            content = bytearray(path.read_bytes()[:front])
            kept = content[at + 5]
            self.poke(path, at + 5, kept ^ 0x10)
            self.node.start()
            client = Client(self.volume.socket, "vm1", timeout=10)
            for number in (10, 11, 500):
                try:
                    self.assertEqual(client.read(number * BLOCK, BLOCK), self.blocks[number], (at, number))
                except NbdError as e:
                    self.assertEqual(e.error, n.EIO)
            client.close()
            self.node.kill()
            self.poke(path, at + 5, kept)

    def poke(self, path, at, value):
        with open(path, "r+b") as f:
            f.seek(at)
            f.write(bytes([value]))

    def flip_back(self, path, number, bit=12345):
        damaged = bytearray(self.blocks[number])
        damaged[bit // 8] ^= 1 << bit % 8
        self.poke(path, path.read_bytes().find(bytes(damaged)) + bit // 8, self.blocks[number][bit // 8])


if __name__ == "__main__":
    main()
