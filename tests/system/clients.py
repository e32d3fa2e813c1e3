#!/usr/bin/python3
"""What users really run against a volume: nbdcopy, qemu-img, qemu-io, fio, and file systems."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import time

from harness import MIB, SystemTest, die_with_parent, fio, main, run, wait_for


def sparse_image(path, size, seed=3):
    """Random data with holes between, and a tail."""
    rng = random.Random(seed)
    with open(path, "wb") as f:
        f.truncate(size)
        for _ in range(40):
            f.seek(rng.randrange(size - 300000))
            f.write(rng.randbytes(rng.randrange(1, 300000)))
        f.seek(size - 1000)
        f.write(rng.randbytes(1000))


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


class copying(SystemTest):
    def setUp(self):
        super().setUp()
        self.image = self.folder / "image.raw"
        sparse_image(self.image, 64 * MIB)
        self.volume = self.node.volume("vm1", "64MiB")

    def test_nbdcopy_both_ways(self):
        back = self.folder / "back.raw"
        run("nbdcopy", self.image, self.volume.uri)
        run("nbdcopy", "--flush", self.volume.uri, back)
        self.assertEqual(sha256(back), sha256(self.image))
        # Holes stay holes: what was copied in sparse takes the space of its data only.
        allocated = sum(s["allocated"] for s in self.node.shards("vm1"))
        self.assertLess(allocated, 32 * MIB)

    def test_qemu_img_convert_compare_and_map(self):
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", self.image, self.volume.uri)
        self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "raw", self.image, self.volume.uri).stdout)
        extents = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", self.volume.uri).stdout)
        self.assertEqual(sum(e["length"] for e in extents), 64 * MIB)
        self.assertTrue(any(e["zero"] for e in extents) and any(e["data"] for e in extents))
        back = self.folder / "back.qcow2"
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", self.volume.uri, back)
        self.assertIn("identical", run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", self.image, back).stdout)

    def test_a_compare_finds_a_difference(self):
        run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", self.image, self.volume.uri)
        run("qemu-io", "-f", "raw", "-c", "write -P 0x5a 12345k 1k", self.volume.uri)
        self.assertEqual(run("qemu-img", "compare", "-f", "raw", "-F", "raw", self.image, self.volume.uri, check=False).returncode, 1)

    def test_qemu_io_patterns(self):
        steps = ["write -P 0x11 0 1M", "write -P 0x22 4000k 200k", "write -z 512 1024", "discard 8k 64k",
                 "read -P 0x11 0 512", "read -P 0 512 1024", "read -P 0x11 1536 6656", "read -P 0 8k 64k",
                 "read -P 0x11 72k 900k", "read -P 0x22 4000k 200k", "flush", "aio_write -P 0x33 10M 1M",
                 "aio_write -P 0x44 20M 1M", "aio_flush", "read -P 0x33 10M 1M", "read -P 0x44 20M 1M",
                 "write -f -P 0x55 30M 4k", "read -P 0x55 30M 4k"]
        done = run("qemu-io", "-f", "raw", *[x for s in steps for x in ("-c", s)], self.volume.uri)
        self.assertNotIn("Pattern verification failed", done.stdout + done.stderr)


class file_system(SystemTest):
    def tree(self):
        rng = random.Random(5)
        tree = self.folder / "tree"
        for i in range(40):
            folder = tree / f"d{i % 7}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"f{i}").write_bytes(rng.randbytes(rng.randrange(1, 400000)))
        (tree / "link").symlink_to("d0/f0")
        return tree

    def digest(self, tree):
        return {str(p.relative_to(tree)): sha256(p) for p in sorted(tree.rglob("*"))
                if p.is_file() and "lost+found" not in p.parts}

    def nbdfuse(self, volume):
        """The volume as a file."""
        mount = self.folder / "fuse"
        mount.mkdir(exist_ok=True)
        process = subprocess.Popen(["nbdfuse", f"{mount}/disk", volume.uri], preexec_fn=die_with_parent)
        wait_for("nbdfuse", lambda: (mount / "disk").exists())
        def end():
            subprocess.run(["fusermount3", "-u", str(mount)], check=False, timeout=30)
            process.wait(30)
        return mount / "disk", end

    def test_ext4_made_filled_and_clean_by_its_own_tools(self):
        """No mount: mke2fs fills it, e2fsck and debugfs read it through nbdfuse or, where FUSE is not to be had, through a copy."""
        tree = self.tree()
        volume = self.node.volume("vm1", "96MiB")
        if os.path.exists("/dev/fuse"):
            disk, end = self.nbdfuse(volume)
            run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, disk)
            end()
        else:
            disk = self.folder / "disk"
            with open(disk, "wb") as f:
                f.truncate(96 * MIB)
            run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, disk)
            run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", disk, volume.uri)
        self.node.move("vm1", 0, "slow")
        back = self.folder / "back.raw"
        run("nbdcopy", volume.uri, back)
        run("e2fsck", "-fn", back)
        out = self.folder / "out"
        out.mkdir()
        run("debugfs", "-R", f"rdump / {out}", back)
        self.assertEqual(self.digest(out), self.digest(tree))

    def test_ext4_mounted_filled_unmounted_and_clean_while_shards_move(self):
        """The kernel's ext4 over a loop device over nbdfuse."""
        if os.geteuid() != 0 or not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
            self.skipTest("mounting needs root, FUSE and loop devices")
        tree = self.tree()
        volume = self.node.volume("vm1", "128MiB")
        disk, end = self.nbdfuse(volume)
        mount = self.folder / "mnt"
        mount.mkdir()
        run("mke2fs", "-q", "-F", "-t", "ext4", disk)
        try:
            run("mount", "-o", "loop", disk, mount)
        except AssertionError as e:
            end()
            self.skipTest(f"loop mounts are not permitted here: {e}")
        try:
            with self.background(self.mover("vm1")):
                for round in range(3):
                    shutil.copytree(tree, mount / f"copy{round}", symlinks=True)
                    os.sync()
                shutil.rmtree(mount / "copy1")
                wait_for("some moves", lambda: self.moved >= 5)
            self.assertEqual(self.digest(mount / "copy2"), self.digest(tree))
        finally:
            run("umount", mount)
        run("e2fsck", "-fn", disk)
        end()


class load(SystemTest):
    time_limit = 240

    def test_fio_verifies_random_writes_while_shards_move_all_the_time(self):
        volume = self.node.volume("vm1", "64MiB")
        with self.background(self.mover("vm1")):
            for round in range(2):
                fio(self.folder, volume, "--rw=randwrite", "--bs=4k", "--size=64M", "--iodepth=16", "--verify=crc32c",
                    "--verify_fatal=1", "--verify_backlog=1024", f"--randseed={round + 1}")
            # However fast one of them is: some moves are to fall into it.
            end = time.monotonic() + 90
            while True:
                fio(self.folder, volume, "--rw=randrw", "--bsrange=512-128k", "--blockalign=512", "--size=64M",
                    "--io_size=128M", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=64",
                    "--serialize_overlap=1")
                if self.moved >= 10 or time.monotonic() > end:
                    break
        self.assertGreaterEqual(self.moved, 10)
        self.assertEqual(self.node.metric("varve_checksum_mismatches_total"), 0)
        ended = self.node.migrations()
        self.assertFalse([m for m in ended if m["verify_failures"]])

    def test_fio_goes_on_while_all_of_a_volume_moves_to_and_fro(self):
        volume = self.node.volume("vm1", "64MiB")
        fio(self.folder, volume, "--rw=write", "--bs=1M", "--size=64M")
        def all_of_it(stop):
            self.moved = 0
            while not stop.is_set():
                for tier in ("slow", "fast"):
                    self.node.varve("shard", "move", "vm1", "--all", "--to", tier)
                    self.node.wait_migrations()
                    self.moved += 1
        with self.background(all_of_it):
            fio(self.folder, volume, "--rw=randrw", "--bs=16k", "--size=64M", "--time_based", "--runtime=10", "--iodepth=8",
                "--verify=crc32c", "--verify_fatal=1", "--verify_backlog=128")
        self.assertGreaterEqual(self.moved, 1)


if __name__ == "__main__":
    main()
