#!/usr/bin/python3
"""A tier without room: ENOSPC before anything is acknowledged, nothing corrupt, and all the ways out work."""

import os
import random

from harness import MIB, SystemTest, main, run, wait_for
import nbd_client as n
from nbd_client import Client, NbdError

BLOCK = 4096


class full(SystemTest):
    """The fast tier is a small file system of its own."""

    time_limit = 180

    def setUp(self):
        super().setUp()
        self.node.stop()
        self.mount = self.folder / "small"
        self.mount.mkdir()
        self.make_small()
        self.node.tiers[1]["path"] = str(self.mount / "tier")
        self.node.write_config()
        self.node.start()
        self.volume = self.node.volume("vm1", "256MiB", "--tier", "fast")
        self.rng = random.Random(21)
        self.written = {}

    def make_small(self):
        if os.geteuid() != 0:
            self.skipTest("a small file system needs root to mount it")
        image = self.folder / "small.img"
        with open(image, "wb") as f:
            f.truncate(48 * MIB)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", image)
        if run("mount", "-o", "loop", image, self.mount, check=False).returncode != 0:
            # No loop devices here: tmpfs has a size, too.
            if run("mount", "-t", "tmpfs", "-o", "size=40m", "none", self.mount, check=False).returncode != 0:
                self.skipTest("mounting is not permitted here")
        self.addCleanup(run, "umount", "-l", str(self.mount), check=False)

    def fill(self, client):
        """Writes block after block until there is no room; what was acknowledged is in `written`."""
        refused = 0
        for number in range(0, 256 * MIB // BLOCK, 16):
            data = self.rng.randbytes(16 * BLOCK)
            try:
                client.write(number * BLOCK, data)
                self.written[number] = data
            except NbdError as e:
                self.assertEqual(e.error, n.ENOSPC, "a full disk is ENOSPC and nothing else")
                refused += 1
                if refused == 20:
                    return
        self.fail("256 MiB went into 48 MiB")

    def check(self, client):
        for number, data in self.written.items():
            self.assertEqual(client.read(number * BLOCK, 16 * BLOCK), data, number)

    def test_enospc_then_every_way_out(self):
        client = Client(self.volume.socket, "vm1", timeout=60)
        self.fill(client)
        self.assertGreater(len(self.written), 200)
        self.check(client)
        client.flush()
        self.assertEqual(self.node.varve("status", check=False).returncode in (0, 1), True)

        # A restart on a full disk, orderly and not.
        client.disconnect()
        self.node.restart()
        self.check(Client(self.volume.socket, "vm1", timeout=60))
        self.node.kill()
        self.node.start()
        client = Client(self.volume.socket, "vm1", timeout=60)
        self.check(client)

        # Blocks that have room already are written over, also now.
        first = min(self.written)
        self.written[first] = self.rng.randbytes(16 * BLOCK)
        client.write(first * BLOCK, self.written[first])

        # Trim works, and what it freed can be used.
        numbers = sorted(self.written)
        for number in numbers[16:80]:
            client.trim(number * BLOCK, 16 * BLOCK)
            del self.written[number]
            self.assertEqual(client.read(number * BLOCK, 16 * BLOCK), bytes(16 * BLOCK))
        data = self.rng.randbytes(16 * BLOCK)
        def fits():
            try:
                client.write(numbers[20] * BLOCK, data)
                return True
            except NbdError:
                return False
        wait_for("room after a trim", fits, 20)
        self.written[numbers[20]] = data
        self.fill_up_again(client)

        # Moving away works at 100 %, and makes room.
        self.node.move("vm1", 0, "slow")
        self.assertEqual(self.node.homes("vm1")[0], "slow")
        self.check(client)
        wait_for("room after a move", fits, 20)
        self.check(client)

        # Moving to the full tier is refused or aborted, and harms nothing.
        self.fill_up_again(client)
        self.node.varve("shard", "move", "vm1", "--offset", "0", "--to", "fast", check=False)
        self.node.wait_migrations()
        self.check(client)

        # Removing works at 100 %.
        client.disconnect()
        self.node.varve("volume", "detach", "vm1")
        self.node.varve("volume", "rm", "vm1", "--yes")
        wait_for("the files to go", lambda: not any(p.stat().st_size > MIB for p in (self.mount / "tier").rglob("*") if p.is_file()))
        volume = self.node.volume("vm2", "16MiB", "--tier", "fast")
        again = Client(volume.socket, "vm2")
        again.write(0, b"room" * 1024)
        self.assertEqual(again.read(0, 4096), b"room" * 1024)

    def fill_up_again(self, client):
        for number in range(100000 // 16 * 16, 100000 + 16 * 4000, 16):
            if number * BLOCK + 16 * BLOCK > 256 * MIB:
                number = number % (200 * MIB // BLOCK) // 16 * 16
            if number in self.written:
                continue
            data = self.rng.randbytes(16 * BLOCK)
            try:
                client.write(number * BLOCK, data)
                self.written[number] = data
            except NbdError as e:
                self.assertEqual(e.error, n.ENOSPC)
                return


class capacity(SystemTest):
    """The configured capacity is a limit like the disk's own."""

    def test_a_tier_is_not_filled_beyond_its_capacity(self):
        self.node.stop()
        self.node.tiers[1]["capacity"] = "16MiB"
        self.node.write_config()
        self.node.start()
        volume = self.node.volume("vm1", "256MiB", "--tier", "fast")
        client = Client(volume.socket, "vm1")
        with self.assertRaises(NbdError) as caught:
            for shard in range(64):
                for mib in range(4):
                    client.write(shard * 4 * MIB + mib * MIB, b"x" * MIB)
        self.assertEqual(caught.exception.error, n.ENOSPC)
        tier = next(t for t in self.node.rows("tier", "ls") if t["name"] == "fast")
        self.assertGreaterEqual(tier["used"], 8 * MIB)
        # Made before the limit was reached, some ahead of the writes, a shard is filled beyond it.
        self.assertLess(tier["used"], 64 * MIB)


if __name__ == "__main__":
    main()
