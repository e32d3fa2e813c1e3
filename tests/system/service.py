#!/usr/bin/python3
"""What a service manager hears of varved, and the unit that it is given."""

import os
import pathlib
import shutil
import socket
import threading
import time
import unittest

from harness import BIN, ROOT, SystemTest, main, run, wait_for

UNIT = ROOT / "configs" / "varved@.service"


class notify(SystemTest):
    """Type=notify, as systemd does it."""

    def setUp(self):
        super().setUp()
        self.node.stop()
        path = self.folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.heard = []  # (time, line, what it was to be true then)
        self.at_ready = None
        self.node.environment["NOTIFY_SOCKET"] = str(path)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            lines = self.socket.recv(4096).decode().split("\n")
            if "READY=1" in lines and self.at_ready:
                self.at_ready()
            self.heard += [(time.monotonic(), line) for line in lines]

    def lines(self, name):
        return [line for _, line in list(self.heard) if line.startswith(name + "=")]

    def test_ready_means_that_volumes_are_served_and_stopping_comes_before_the_end(self):
        self.node.start()
        volumes = [self.node.volume(f"vm{i}", "16MiB") for i in range(8)]
        for v in volumes:
            run("qemu-io", "-f", "raw", "-c", "write -P 0x55 0 64k", "-c", "flush", v.uri)
        self.node.kill()
        self.heard.clear()
        served = []
        def serves():
            # In the moment of READY, with nothing in between.
            self.assertFalse(self.lines("READY"))
            for v in volumes:
                done = run("qemu-io", "-f", "raw", "-c", "read -P 0x55 0 64k", v.uri, check=False)
                served.append(done.returncode == 0 and "verification failed" not in done.stdout)
        self.at_ready = serves
        self.node.start()
        wait_for("READY=1", lambda: self.lines("READY"))
        self.assertEqual(served, [True] * 8)
        self.assertEqual(self.lines("READY"), ["READY=1"])
        self.assertEqual(self.lines("STOPPING"), [])
        wait_for("a status", lambda: any("8 of 8 volumes attached" in s for s in self.lines("STATUS")))
        self.assertEqual(self.lines("WATCHDOG"), [], "nobody asked for signs of life")
        self.assertEqual(self.node.stop(), 0)
        ended = time.monotonic()
        wait_for("STOPPING=1", lambda: self.lines("STOPPING"))
        self.assertEqual(self.lines("STOPPING"), ["STOPPING=1"])
        self.assertLess(next(t for t, line in self.heard if line == "STOPPING=1"), ended)
        self.assertGreaterEqual(int(self.lines("EXTEND_TIMEOUT_USEC")[-1].split("=")[1]), 60_000_000)

    def test_signs_of_life_are_given_as_often_as_asked(self):
        self.node.environment["WATCHDOG_USEC"] = "900000"
        self.node.start()
        wait_for("signs of life", lambda: len(self.lines("WATCHDOG")) >= 5, 10)
        times = [t for t, line in self.heard if line == "WATCHDOG=1"]
        self.assertLess(max(b - a for a, b in zip(times, times[1:])), 0.9)
        self.node.stop()

    def test_a_node_that_does_not_start_is_never_ready(self):
        self.node.config.write_text("nonsense")
        with self.assertRaises(AssertionError):
            self.node.start(10)
        self.assertEqual(self.node.process.returncode, 2)
        self.node.process = None
        self.assertEqual(self.lines("READY"), [])


class unit(unittest.TestCase):
    def test_systemd_finds_nothing_wrong_with_the_unit(self):
        if not shutil.which("systemd-analyze"):
            self.skipTest("no systemd-analyze")
        folder = pathlib.Path(os.environ.get("TMPDIR", "/tmp")) / f"varve-unit.{os.getpid()}"
        folder.mkdir()
        self.addCleanup(shutil.rmtree, folder)
        # The program is where it was built, not installed.
        text = UNIT.read_text()
        self.assertIn("ExecStart=/usr/bin/varved ", text)
        (folder / UNIT.name).write_text(text.replace("/usr/bin/varved", str(BIN / "varved")))
        done = run("systemd-analyze", "verify", "--man=no", str(folder / "varved@node.service"), check=False,
                   env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"})
        said = [line for line in (done.stdout + done.stderr).splitlines() if "varved" in line]
        self.assertEqual((done.returncode, said), (0, []))
        # And what is misspelt would have been told.
        (folder / "broken@.service").write_text(text.replace("NoNewPrivileges=", "NoNewPrivilegs=").replace(
            "/usr/bin/varved", str(BIN / "varved")))
        done = run("systemd-analyze", "verify", "--man=no", str(folder / "broken@node.service"), check=False,
                   env={**os.environ, "SYSTEMD_UNIT_PATH": f"{folder}:"})
        self.assertIn("NoNewPrivilegs", done.stdout + done.stderr)


if __name__ == "__main__":
    main()
