#!/usr/bin/python3
"""The network that cluster tests run in: namespaces, cuts, delays, losses; all of it gone with its test."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True
from harness import BIN, MIB, die_with_parent, main, wait_for
from network import Network


class networks(unittest.TestCase):
    def setUp(self):
        self.network = Network(3, seed=7)
        self.addCleanup(self.network.close)

    def udp(self, node):
        s = self.network.socket(node, socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((self.network.address(node), 7000))
        s.settimeout(2)
        self.addCleanup(s.close)
        return s

    def send(self, source, target, text, node):
        source.sendto(text, (self.network.address(node), 7000))
        try:
            return target.recv(100)
        except TimeoutError:
            return None

    def test_nodes_reach_each_other_and_nobody_else(self):
        listener = self.network.socket(2, socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(listener.close)
        listener.bind((self.network.address(2), 7001))
        listener.listen()
        client = self.network.socket(1, socket.AF_INET, socket.SOCK_STREAM)
        self.addCleanup(client.close)
        client.settimeout(10)
        client.connect((self.network.address(2), 7001))
        accepted, peer = listener.accept()
        self.addCleanup(accepted.close)
        self.assertEqual(peer[0], self.network.address(1))
        data = os.urandom(MIB)
        client.settimeout(None)
        threading.Thread(target=client.sendall, args=(data,), daemon=True).start()
        got = b""
        while len(got) < MIB:
            got += accepted.recv(MIB)
        self.assertEqual(got, data)
        # Something else may answer there, but not the node.
        listener.settimeout(1)
        with socket.socket() as outside:
            outside.settimeout(1)
            outside.connect_ex((self.network.address(2), 7001))
            with self.assertRaises(TimeoutError):
                listener.accept()

    def test_a_cut_of_one_direction_leaves_the_other(self):
        one, two, three = self.udp(1), self.udp(2), self.udp(3)
        # Who is where is known before the cut: a question of ARP crosses both ways.
        self.assertEqual(self.send(one, two, b"a", 2), b"a")
        self.assertEqual(self.send(two, three, b"a", 3), b"a")
        self.assertEqual(self.send(two, one, b"b", 1), b"b")
        self.network.cut(1, 2, both=False)
        self.assertIsNone(self.send(one, two, b"c", 2))
        self.assertEqual(self.send(two, one, b"d", 1), b"d")
        self.assertEqual(self.send(one, three, b"e", 3), b"e")
        self.network.heal(1, 2, both=False)
        self.assertEqual(self.send(one, two, b"f", 2), b"f")
        self.network.cut("*", 2)
        self.assertIsNone(self.send(two, three, b"g", 3))
        self.assertIsNone(self.send(one, two, b"g", 2))
        self.network.clear()
        self.assertEqual(self.send(two, three, b"h", 3), b"h")

    def test_a_delay_is_felt_both_ways(self):
        one, two = self.udp(1), self.udp(2)
        self.send(one, two, b"a", 2)
        self.network.delay(1, 2, 150)
        began = time.monotonic()
        self.assertEqual(self.send(one, two, b"b", 2), b"b")
        self.assertEqual(self.send(two, one, b"c", 1), b"c")
        self.assertGreaterEqual(time.monotonic() - began, 0.3)
        self.network.clear()
        began = time.monotonic()
        self.assertEqual(self.send(one, two, b"d", 2), b"d")
        self.assertLess(time.monotonic() - began, 0.15)

    def test_losses_are_as_often_as_said(self):
        one, two = self.udp(1), self.udp(2)
        self.send(one, two, b"a", 2)
        self.network.loss(1, 2, 30, both=False)
        two.settimeout(0.5)
        arrived = 0
        for i in range(400):
            one.sendto(b"%d" % i, (self.network.address(2), 7000))
        try:
            while two.recv(100):
                arrived += 1
        except TimeoutError:
            pass
        self.assertTrue(220 <= arrived <= 340, arrived)

    def test_a_command_that_is_none_is_refused(self):
        with self.assertRaisesRegex(AssertionError, "expected two nodes, 1 to 3"):
            self.network.cut(1, 9)

    def test_nothing_is_left_when_a_test_is_killed(self):
        links = sorted(os.listdir("/sys/class/net"))
        script = ("import sys, time; sys.path.insert(0, sys.argv[1]); from network import Network; n = Network(2); "
                  "print(n.process.pid, flush=True); time.sleep(100)")
        child = subprocess.Popen([sys.executable, "-B", "-c", script, str(pathlib.Path(__file__).parent)],
                                 stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        wire = int(child.stdout.readline())
        self.assertTrue(os.path.exists(f"/proc/{wire}"))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        def gone():
            try:
                return open(f"/proc/{wire}/stat").read().rsplit(")", 1)[1].split()[0] in "ZX"
            except OSError:
                return True
        wait_for("varve_testnet to end with its test", gone)
        self.assertEqual(sorted(os.listdir("/sys/class/net")), links)

    def test_without_the_right_to_make_namespaces_the_reason_is_said(self):
        if os.geteuid() != 0:
            self.skipTest("only root can give rights up")
        done = subprocess.run([str(BIN / "varve_testnet"), "2"], capture_output=True, text=True, user=65534, timeout=20)
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn("namespace", done.stderr)


if __name__ == "__main__":
    main()
