#!/usr/bin/python3
"""Clients that go on while varved is restarted under them, in order and by kill -9."""

import ctypes
import errno
import socket
import struct
import subprocess
import threading
import time

from harness import MIB, SystemTest, die_with_parent, fio, main, run, wait_for


def forbid_io_uring():
    """Before exec: a seccomp filter, as container engines have it, that answers EPERM to io_uring_setup."""
    setup, allow, refuse = 425, 0x7FFF0000, 0x00050000 | errno.EPERM
    load_number, jump_if_equal, give = 0x20, 0x15, 0x06
    program = b"".join(struct.pack("HBBI", *x) for x in (
        (load_number, 0, 0, 0), (jump_if_equal, 0, 1, setup), (give, 0, 0, refuse), (give, 0, 0, allow)))
    buffer = ctypes.create_string_buffer(program)
    filter = struct.pack("HxxxxxxP", 4, ctypes.addressof(buffer))
    prctl = ctypes.CDLL(None).prctl
    assert prctl(38, 1, 0, 0, 0) == 0 and prctl(22, 2, ctypes.create_string_buffer(filter)) == 0


class restart(SystemTest):
    def setUp(self):
        super().setUp()
        self.volume = self.node.volume("vm1", "64MiB")

    def reconnecting(self, export="relay"):
        """fio's NBD engine gives up at the first lost connection, so it goes through QEMU's NBD client, as a VM would."""
        socket = self.folder / f"{export}.sock"
        process = subprocess.Popen(
            ["qemu-nbd", "--persistent", "--shared=4", "--cache=none", "-k", str(socket), "-x", export, "--image-opts",
             f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={self.volume.socket},"
             f"file.export=vm1,file.reconnect-delay=30"], preexec_fn=die_with_parent)
        self.addCleanup(process.wait, 10)
        self.addCleanup(process.terminate)
        wait_for("qemu-nbd", socket.exists)
        return f"nbd+unix:///{export}?socket={socket}"

    def during(self, work, interruptions):
        """Runs `work` in a thread; once it is under way, the interruptions, a second apart."""
        result = []
        def guarded():
            try:
                result.append(work())
            except BaseException as e:
                result.append(e)
        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        for interrupt in interruptions:
            time.sleep(1.2)
            self.assertTrue(thread.is_alive(), f"the client ended before it was interrupted: {result}")
            interrupt()
        thread.join(100)
        self.assertFalse(thread.is_alive(), "the client hangs")
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]

    def killed(self):
        self.node.kill()
        time.sleep(0.5)
        self.node.start()

    def test_attach_prints_how_qemu_reconnects(self):
        self.assertIn("reconnect-delay", self.node.varve("volume", "attach", "vm1").stdout +
                      self.node.varve("volume", "attach", "vm1").stderr)

    def test_fio_verifies_its_writes_over_restarts(self):
        relay = self.reconnecting()
        report = self.during(
            lambda: fio(self.folder, relay, "--rw=randwrite", "--bs=4k", "--size=64M", "--io_size=1G", "--iodepth=8",
                        "--rate_iops=2000", "--time_based", "--runtime=6", "--verify=crc32c", "--verify_fatal=1"),
            (self.node.restart, self.killed, self.node.restart))
        self.assertGreater(report["jobs"][0]["write"]["total_ios"], 1000)

    def test_qemu_goes_on_over_kill_9(self):
        image = ("driver=raw,file.driver=nbd,file.server.type=unix,file.server.path="
                 f"{self.volume.socket},file.export=vm1,file.reconnect-delay=30")
        steps = []
        for i in range(14):
            steps += [f"write -P {i + 1} {i}M 1M", "flush", "sleep 300", f"read -P {i + 1} {i}M 1M"]
        steps += [f"read -P {i + 1} {i}M 1M" for i in range(14)]
        done = self.during(lambda: run("qemu-io", "--image-opts", image, *[x for s in steps for x in ("-c", s)], timeout=90),
                           (self.killed, self.killed))
        self.assertNotIn("rror", done.stdout + done.stderr)
        self.assertNotIn("verification failed", done.stdout + done.stderr)

    def test_qemu_img_bench_goes_on_over_a_restart(self):
        relay = self.reconnecting()
        self.during(lambda: run("qemu-img", "bench", "-w", "-f", "raw", "-c", "150000", "-d", "8", "-s", "4096", relay, timeout=90),
                    (self.killed,))

    def test_attached_volumes_come_back_and_detached_ones_do_not(self):
        run("qemu-io", "-f", "raw", "-c", "write -P 0x77 0 1M", "-c", "flush", self.volume.uri)
        self.node.varve("volume", "create", "vm2", "--size", "1GiB")
        self.assertEqual(self.node.restart().process.poll(), None)
        run("qemu-io", "-f", "raw", "-c", "read -P 0x77 0 1M", self.volume.uri)
        rows = {v["name"]: v for v in self.node.rows("volume", "ls")}
        self.assertTrue(rows["vm1"]["attached"])
        self.assertFalse(rows["vm2"]["attached"])

    def test_ready_means_that_every_volume_is_listened_to(self):
        """Ports open one after the other; whoever waits for /readyz must find all of them. Many tries, since it is a race."""
        paths = [self.node.volume(f"vm{i}", 8 * MIB).socket for i in range(2, 22)]
        for _ in range(40):
            self.node.kill()
            self.node.start()
            for path in reversed(paths):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(path)

    def test_an_orderly_stop_ends_with_0_and_is_quick(self):
        run("qemu-io", "-f", "raw", "-c", "write -P 0x77 0 32M", self.volume.uri)
        began = time.monotonic()
        self.assertEqual(self.node.stop(), 0)
        self.assertLess(time.monotonic() - began, 10)
        self.node.start()
        run("qemu-io", "-f", "raw", "-c", "read -P 0x77 0 32M", self.volume.uri)

    def test_a_second_varved_on_the_same_folder_is_refused(self):
        other = self.make_node("other", start=False)
        other.data, other.tiers = self.node.data, self.node.tiers
        other.write_config()
        with self.assertRaises(AssertionError):
            other.start(10)
        other.process.wait(5)
        self.assertNotEqual(other.process.returncode, 0)
        other.process = None
        run("qemu-io", "-f", "raw", "-c", "write -P 1 0 4k", self.volume.uri)

    def test_without_io_uring_threads_serve_the_same(self):
        self.node.stop()
        self.node.preexec = forbid_io_uring
        before = len(self.node.log.read_text())
        self.node.start()
        self.assertEqual(self.node.json("status")["ring"], "threads")
        said = [l for l in self.node.log.read_text()[before:].splitlines() if "io_uring" in l]
        self.assertEqual(len(said), 1, said)
        fio(self.folder, self.volume, "--rw=randrw", "--bs=4k", "--size=16M", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1")
        self.killed()
        fio(self.folder, self.volume, "--rw=randrw", "--bs=4k", "--size=16M", "--iodepth=8", "--verify=crc32c", "--verify_fatal=1")


if __name__ == "__main__":
    main()
