#!/usr/bin/python3
"""varved with its catalog in a real etcd: restarts of either, and what is said while one of them is away."""

import os
import shutil
import subprocess
import time

from harness import BIN, CliError, SystemTest, die_with_parent, free_port, main, run, wait_for

# A pattern for each of some megabytes.
PATTERNS = range(1, 9)


class Etcd:
    """One etcd of one member, with a folder and ports of its own; `before`: called in its process before exec."""

    def __init__(self, folder, address="127.0.0.1", before=lambda: None):
        self.folder, self.before = folder, before
        self.url, self.peer = (f"http://{address}:{free_port()}" for _ in range(2))
        self.process = None

    def start(self):
        if not shutil.which("etcd"):
            raise AssertionError("no etcd: install or unpack the Debian package etcd-server")
        def before():
            die_with_parent()
            self.before()
        with open(self.folder / "etcd.log", "ab") as log:
            self.process = subprocess.Popen(
                ["etcd", "--data-dir", self.folder / "etcd", "--listen-client-urls", self.url, "--advertise-client-urls",
                 self.url, "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
                 "--initial-cluster", f"default={self.peer}", "--log-level", "error"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=before)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait(20)

    def ctl(self, *args):
        return run("etcdctl", f"--endpoints={self.url}", *args, env={**os.environ, "ETCDCTL_API": "3"}).stdout

    def config(self, prefix="/varve/"):
        return f'[catalog]\nkind = "etcd"\nendpoints = ["{self.url}"]\nprefix = "{prefix}"\n'


class etcd(SystemTest):
    time_limit = 150

    def setUp(self):
        # varved waits for etcd, so there is no need to.
        self.etcd = None
        original = self.make_node
        def with_etcd(*args, **options):
            if self.etcd is None:
                self.etcd = Etcd(self.folder).start()
                self.addCleanup(self.etcd.kill)
            return original(*args, **{"extra": self.etcd.config(), **options})
        self.make_node = with_etcd
        super().setUp()

    def write(self, volume):
        for i in PATTERNS:
            run("qemu-io", "-f", "raw", "-c", f"write -P {i} {4 * i}M 1M", "-c", "flush", volume.uri)

    def check(self, volume):
        for i in PATTERNS:
            run("qemu-io", "-f", "raw", "-c", f"read -P {i} {4 * i}M 1M", volume.uri)

    def readyz(self):
        return self.node.http("/readyz")

    def test_a_volume_is_there_after_kill_9(self):
        volume = self.node.volume("vm1", "64MiB")
        self.write(volume)
        self.node.move("vm1", 4 << 20, "slow")
        before = self.node.homes("vm1")
        self.assertFalse((self.node.data / "catalog.db").exists())
        self.assertIn("/varve/catalog/volume-name/vm1", self.etcd.ctl("get", "--prefix", "--keys-only", "/varve/"))
        self.node.kill()
        self.node.start()
        # It takes over from itself, without waiting for the term of 5 s that its predecessor left.
        self.assertIn("taking over from the process before", self.node.log.read_text())
        self.assertEqual(self.node.homes("vm1"), before)
        self.check(volume)
        self.node.varve("volume", "detach", "vm1")
        self.node.varve("volume", "rm", "vm1", "--yes")
        wait_for("the shards' records to go",
                 lambda: "/varve/catalog/shard/" not in self.etcd.ctl("get", "--prefix", "--keys-only", "/varve/"))

    def test_etcd_killed_and_back_is_not_noticed_by_a_vm(self):
        volume = self.node.volume("vm1", "64MiB")
        with self.background(lambda stop: self.write_and_check_until(stop, volume)):
            for _ in range(2):
                time.sleep(1)
                self.etcd.kill()
                time.sleep(0.5)
                self.etcd.start()
                time.sleep(2)
        self.check(volume)
        self.node.varve("volume", "create", "vm2", "--size", "1GiB")
        self.assertNotIn("CATALOG_LOST", self.node.log.read_text())

    def write_and_check_until(self, stop, volume):
        while not stop.is_set():
            self.write(volume)
            self.check(volume)

    def test_management_waits_while_etcd_is_long_away_and_goes_on_after(self):
        volume = self.node.volume("vm1", "64MiB")
        self.write(volume)
        self.etcd.kill()
        wait_for("leading to end", lambda: self.readyz()[0] == 503, 20)
        wait_for("readyz to say why", lambda: "not leading" in self.readyz()[1] and self.etcd.url in self.readyz()[1], 20)
        # What has its leases goes on.
        self.check(volume)
        began = time.monotonic()
        with self.assertRaises(CliError) as refused:
            self.node.json("volume", "create", "vm2", "--size", "1GiB")
        self.assertEqual(refused.exception.error["code"], "unavailable")
        self.assertIn(self.etcd.url, refused.exception.error["message"])
        self.assertLess(time.monotonic() - began, 10)
        self.etcd.start()
        self.node.wait_ready(40)
        self.check(volume)
        self.write(volume)
        self.node.varve("volume", "create", "vm2", "--size", "1GiB")
        log = self.node.log.read_text()
        self.assertIn("CATALOG_LOST", log)
        self.assertGreaterEqual(log.count("CATALOG_LEADING"), 2)

    def test_a_second_node_waits_until_the_first_is_gone(self):
        other = self.make_node("other", start=False)
        process = subprocess.Popen([str(BIN / "varved"), "--config", str(other.config)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        other.process = process
        wait_for("the second to say whom it waits for",
                 lambda: "not leading: node test leads" in other.http("/readyz")[1], 20)
        self.assertEqual(self.node.stop(), 0)  # resigns
        wait_for("the second to lead", lambda: "not leading" not in other.http("/readyz")[1], 10)
        self.assertEqual(other.stop(), 0)

    def test_a_newer_format_ends_it_with_a_reason(self):
        self.node.stop()
        self.etcd.ctl("put", "/varve/format", "99")
        self.node.process = subprocess.Popen([str(BIN / "varved"), "--config", str(self.node.config)],
                                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                             stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        _, said = self.node.process.communicate(timeout=40)
        self.assertEqual(self.node.process.returncode, 1)
        self.assertIn("version 99", said)
        self.node.process = None

    def test_a_folder_stays_with_its_kind_of_catalog(self):
        self.node.stop()
        for extra, folder in (("", self.node.folder), (self.etcd.config(), self.folder / "sqlite")):
            if extra:
                first = self.make_node("sqlite", extra="")
                first.stop()
                first.extra = extra
                first.write_config()
            else:
                self.node.extra = extra
                self.node.write_config()
            config = folder / "varve.toml"
            done = run(BIN / "varved", "--config", config, check=False)
            self.assertEqual(done.returncode, 1)
            self.assertIn("this folder's volumes are in", done.stderr)


if __name__ == "__main__":
    main()
