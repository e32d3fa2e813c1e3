#!/usr/bin/python3
"""What is lost, and found again: a tier's disk, the catalog."""

import json
import os
import shutil
import stat
import struct
import subprocess

from harness import BIN, MIB, CliError, SystemTest, die_with_parent, fio, main, run, wait_for


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def seal(file, migration, generation):
    """As a move seals its source, in both of the file's headers (runtime/storage/shard_format.hpp)."""
    slots = [bytearray(file.read_bytes()[at:at + 4096]) for at in (0, 4096)]
    header = max(slots, key=lambda s: struct.unpack_from("<Q", s, 16))
    assert header[:8] == b"VARVSHRD" and struct.unpack_from("<Q", header, 64) == (0,)
    struct.pack_into("<QQ", header, 64, migration, generation)
    struct.pack_into("<I", header, 12, 0)
    struct.pack_into("<I", header, 12, crc32c(header))
    with open(file, "r+b") as f:
        f.write(header + header)


class offline(SystemTest):
    """Verbs for a node that is stopped."""

    def stopped(self, *args, check=True):
        """A verb with --config; the finished process."""
        done = run(BIN / "varve", "--config", self.node.config, *args, check=False)
        if check and done.returncode != 0:
            raise CliError([str(a) for a in args], done)
        return done

    def stopped_json(self, *args):
        return json.loads(self.stopped(*args, "--json").stdout)

    def tier(self, name):
        return {t["name"]: t for t in self.node.rows("tier", "ls")}[name]

    def pattern(self, volume, offset_mib, byte, write=False):
        verb = "write" if write else "read"
        commands = ["-c", f"{verb} -P {byte} {offset_mib}M 1M"] + (["-c", "flush"] if write else [])
        done = run("qemu-io", "-f", "raw", *commands, volume.uri)
        self.assertNotIn("verification failed", done.stdout + done.stderr)

    def content(self, volume, name):
        """All of a volume, as a file."""
        out = self.folder / name
        run("nbdcopy", volume.uri, str(out), timeout=100)
        return out


class tiers(offline):
    """A tier is who its folder says it is."""

    def setUp(self):
        super().setUp()
        self.fast = self.node.volume("on-fast", "64MiB", "--tier", "fast")
        self.slow = self.node.volume("on-slow", "64MiB", "--tier", "slow")
        self.pattern(self.fast, 0, 0x11, write=True)
        self.pattern(self.slow, 0, 0x22, write=True)

    def take_away(self, name="slow"):
        """The disk is gone; its mount point is left."""
        self.node.stop()
        path = self.node.data / name
        path.rename(self.folder / "away")
        path.mkdir()
        return path

    def hangs(self, volume, seconds=3):
        """A read does not come back, neither with bytes nor with an error."""
        process = subprocess.Popen(["qemu-io", "-f", "raw", "-c", "read 0 4k", volume.uri], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        try:
            process.wait(seconds)
            return False
        except subprocess.TimeoutExpired:
            return True
        finally:
            process.kill()
            process.wait(10)

    def test_a_lost_tier_keeps_its_own_waiting_and_nobody_else(self):
        path = self.take_away()
        self.node.start()
        lost = self.tier("slow")
        self.assertEqual(lost["state"], "refused")
        self.assertIn("is its disk mounted?", lost["problem"])
        self.assertEqual(self.tier("fast")["state"], "up")
        self.assertIn("TIER_REFUSED", [e["code"] for e in self.node.events()])
        self.assertIn("TIER_REFUSED", [f["code"] for f in self.node.json("status")["findings"]])
        self.pattern(self.fast, 0, 0x11)
        self.pattern(self.fast, 8, 0x33, write=True)  # a new shard
        self.assertTrue(self.hangs(self.slow), "a shard of a lost tier answered")
        self.pattern(self.fast, 8, 0x33)
        with self.assertRaises(CliError) as refused:
            self.node.json("shard", "move", "on-slow", "--offset", "0", "--to", "fast")
        self.assertEqual(refused.exception.error["code"], "unavailable")
        self.assertEqual(list(path.iterdir()), [], "something was written to the mount point")
        # The disk is back, somewhere else.
        self.node.stop()
        path.rmdir()
        for t in self.node.tiers:
            if t["name"] == "slow":
                t["path"] = str(self.folder / "away")
        self.node.write_config()
        self.node.start()
        self.assertEqual(self.tier("slow")["state"], "up")
        self.pattern(self.slow, 0, 0x22)

    def test_io_of_a_lost_tier_fails_where_volumes_are_to_fail(self):
        self.take_away()
        self.node.extra = '\n[volume]\non_unavailable = "error after 2s"\n'
        self.node.write_config()
        self.node.start()
        done = run("qemu-io", "-f", "raw", "-c", "read 0 4k", self.slow.uri, check=False, timeout=60)
        self.assertIn("error", (done.stdout + done.stderr).lower())
        self.pattern(self.fast, 0, 0x11)

    def test_the_wrong_disk_is_not_touched_and_can_be_accepted(self):
        path = self.take_away()
        other = self.make_node("other")
        foreign = other.volume("x", "16MiB", "--tier", "slow")
        self.pattern(foreign, 0, 0x66, write=True)
        other.stop()
        path.rmdir()
        shutil.copytree(other.data / "slow", path)
        before = sorted(p.name for p in path.iterdir())
        id_of = lambda folder: (folder / "tier.identity").read_text().splitlines()[1].split()[1]
        self.node.start()
        problem = self.tier("slow")["problem"]
        self.assertIn(id_of(path), problem)
        self.assertIn(id_of(self.folder / "away"), problem)
        self.assertTrue(self.hangs(self.slow))
        self.assertEqual(sorted(p.name for p in path.iterdir()), before)
        self.node.stop()
        refused = self.stopped("tier", "accept", "slow", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("--yes", refused.stderr)
        self.stopped("tier", "accept", "slow", "--yes")
        self.node.start()
        self.assertEqual(self.tier("slow")["id"], id_of(path))

    def test_a_tier_that_is_given_up_is_replaced_by_an_empty_folder(self):
        path = self.take_away()
        refused = self.stopped("tier", "forget", "slow", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn("on-slow loses 1 shards", refused.stdout)
        self.assertIn("--yes", refused.stderr)
        self.node.start()
        self.assertEqual(self.tier("slow")["state"], "refused")
        running = self.stopped("tier", "forget", "slow", "--yes", check=False)
        self.assertEqual(running.returncode, 1)
        self.assertIn("varved runs", running.stderr)
        self.node.stop()
        self.assertEqual(self.stopped_json("tier", "forget", "slow", "--yes")["volumes"], {"on-slow": 1})
        self.node.start()
        self.assertEqual(self.tier("slow")["state"], "up")
        self.pattern(self.slow, 0, 0)  # lost, as was said
        self.pattern(self.slow, 0, 0x44, write=True)
        self.pattern(self.fast, 0, 0x11)
        # The old disk does not come back.
        self.node.stop()
        shutil.rmtree(path)
        (self.folder / "away").rename(path)
        self.node.start()
        self.assertIn("was given up", self.tier("slow")["problem"])


class catalog(offline):
    """The catalog copied, put back, and made again from what the tiers hold."""

    time_limit = 240

    def lose_catalog(self):
        for name in ("catalog.db", "catalog.db-wal"):
            (self.node.data / name).unlink(missing_ok=True)

    def test_a_backup_is_taken_from_a_running_node_and_put_back(self):
        volume = self.node.volume("vm1", "64MiB")
        self.pattern(volume, 0, 0x11, write=True)
        file = self.folder / "backup"
        told = self.node.json("catalog", "backup", str(file))
        self.assertGreater(told["entries"], 3)
        self.assertEqual(stat.S_IMODE(file.stat().st_mode), 0o600)
        self.assertEqual(sorted(p.name for p in self.folder.iterdir()), ["backup", "node"])
        with self.assertRaises(CliError) as twice:
            self.node.json("catalog", "backup", str(file))
        self.assertEqual(twice.exception.error["code"], "already_exists")
        self.node.varve("volume", "create", "later", "--size", "1MiB")
        running = self.stopped("catalog", "restore", str(file), check=False)
        self.assertIn("varved runs", running.stderr)
        self.node.stop()
        newer = self.stopped("catalog", "restore", str(file), check=False)
        self.assertEqual(newer.returncode, 1)
        self.assertIn("is newer", newer.stderr)
        put_back = self.stopped_json("catalog", "restore", str(file), "--force")
        self.assertEqual((put_back["homes"], put_back["homes_missing"]), (1, 0))
        self.assertTrue(os.path.exists(put_back["aside"]))
        self.node.start()
        self.assertEqual([v["name"] for v in self.node.rows("volume", "ls")], ["vm1"])
        self.pattern(volume, 0, 0x11)
        self.pattern(volume, 8, 0x12, write=True)

    def test_without_its_catalog_a_node_makes_nothing_new_of_old_disks(self):
        volume = self.node.volume("vm1", "64MiB", "--tier", "fast")
        self.pattern(volume, 0, 0x11, write=True)
        self.node.stop()
        self.lose_catalog()
        self.node.start()
        self.assertIn("varve catalog rebuild", self.tier("fast")["problem"])
        self.assertEqual(self.node.rows("volume", "ls"), [])

    def test_a_catalog_is_made_again_after_moves_under_load_and_kill_9(self):
        self.node.stop()
        self.node.extra = '\n[migration]\nbudget = "8MiB"\nconcurrent = 8\n'
        self.node.write_config()
        self.node.start()
        volume = self.node.volume("vm1", "24MiB", "--shard-size", "1MiB")
        self.node.varve("volume", "create", "empty", "--size", "3GiB")
        self.node.varve("volume", "create", "gone", "--size", "8MiB")
        self.node.varve("volume", "rm", "gone", "--yes")
        fio(self.folder, volume, "--rw=randwrite", "--bs=4k", "--size=24M", "--verify=crc32c", "--do_verify=0",
            "--iodepth=8")
        def load(stop):
            seed = 0
            while not stop.is_set():
                seed += 1
                fio(self.folder, volume, "--rw=randwrite", "--bs=4k", "--size=24M", "--io_size=2M", "--iodepth=4",
                    f"--randseed={seed}", "--verify=crc32c", "--do_verify=0", "--rate_iops=500")
        with self.background(load), self.background(self.mover("vm1")):
            wait_for("shards to move", lambda: self.moved >= 8, 90)
        self.node.wait_migrations()
        # All that is acknowledged is in this copy; nothing is written until the node dies, in the middle of moves.
        before = self.content(volume, "before")
        volumes = self.node.rows("volume", "ls")
        all_shards = self.node.shards("vm1")
        self.assertEqual({s["tier"] for s in all_shards}, {"fast", "slow"})
        for s in all_shards:
            tier = "slow" if s["tier"] == "fast" else "fast"
            self.node.varve("shard", "move", "vm1", "--offset", s["offset"], "--to", tier)
        moving = len(self.node.running_migrations())
        incarnation = self.node.json("status")["manager_incarnation"]
        self.node.kill()
        self.assertGreater(moving, 0, "nothing was moving when the node died")
        running = self.node.start()
        self.assertEqual(self.stopped("catalog", "rebuild", check=False).returncode, 1)
        running.kill()
        self.lose_catalog()
        dry = self.stopped_json("catalog", "rebuild", "--dry-run")
        self.assertFalse(dry["written"])
        self.assertFalse((self.node.data / "catalog.db").exists())
        self.assertEqual(dry["conflicts"], [])
        made = self.stopped_json("catalog", "rebuild")
        self.assertTrue(made["written"])
        self.assertEqual(made["homes"], len(all_shards))
        self.node.start()
        self.assertEqual([(v["name"], v["size"], v["attached"]) for v in self.node.rows("volume", "ls")],
                         [(v["name"], v["size"], v["attached"]) for v in volumes])
        self.assertGreater(self.node.json("status")["manager_incarnation"], incarnation)
        after = self.content(volume, "after")
        run("cmp", str(before), str(after))
        # And it goes on as before.
        self.node.move("vm1", 0, "slow" if self.node.homes("vm1")[0] == "fast" else "fast")
        fio(self.folder, volume, "--rw=randrw", "--bs=4k", "--size=24M", "--io_size=8M", "--verify=crc32c",
            "--verify_fatal=1")

    def test_a_shard_sealed_for_what_is_nowhere_is_home_again(self):
        volume = self.node.volume("vm1", "64MiB", "--tier", "fast")
        self.pattern(volume, 0, 0x11, write=True)
        self.node.stop()
        file, = (self.node.data / "fast").glob("*.shard")
        seal(file, 77, 2)
        self.lose_catalog()
        made = self.stopped_json("catalog", "rebuild")
        self.assertIn("home again", made["notes"][0])
        self.assertEqual(made["counters"]["next_migration"], 78)
        self.node.start()
        self.pattern(volume, 0, 0x11)
        self.pattern(volume, 0, 0x12, write=True)
        self.node.move("vm1", 0, "slow")
        self.assertEqual(self.node.homes("vm1"), {0: "slow"})
        self.pattern(volume, 0, 0x12)

    def test_conflicts_are_told_and_written_only_with_a_word(self):
        volume = self.node.volume("vm1", "64MiB", "--tier", "fast")
        self.pattern(volume, 0, 0x11, write=True)
        self.pattern(volume, 8, 0x12, write=True)
        self.node.stop()
        spoilt = sorted((self.node.data / "fast").glob("*.shard"))[0]
        with open(spoilt, "r+b") as f:
            f.write(bytes(8192))
        refused = self.stopped("catalog", "rebuild", check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn(spoilt.name, refused.stdout)
        self.assertEqual([p.name for p in self.node.data.glob("catalog.db.before*")], [])
        made = self.stopped_json("catalog", "rebuild", "--yes")
        self.assertTrue(os.path.exists(made["aside"]))
        self.node.start()
        self.pattern(volume, 8, 0x12)


if __name__ == "__main__":
    main()
