#!/usr/bin/python3
"""A hostile client at every port: garbage, frames that end early or claim to be huge, another protocol's words, silent
connections by the hundred. The node goes on meanwhile, its memory stays bounded, and what it says of it in its log, too."""

import os
import random
import socket
import struct
import sys
import threading
import time

sys.dont_write_bytecode = True
from harness import MIB, SystemTest, main, wait_for
import stamping

# How each port's own protocol begins, so that what follows gets past the first look.
NBD_BEGIN = struct.pack(">I", 3)
NBD_OPTION = struct.pack(">QII", 0x49484156454F5054, 7, 0xFFFFFFF0)  # INFO with 4 GiB of data
RPC_SEGMENTS = struct.pack("<II", 0xFFFFFFFE, 8)  # nearly 2^32 segments
RPC_HUGE = struct.pack("<II", 0, 0x1FFFFFFF)  # one segment of 4 GiB
RPC_DEEP = struct.pack("<II", 0, 2) + struct.pack("<IIQ", 0, 0xFFFF, 0)  # a root that points beyond its message
HTTP_HUGE = b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
HTTP_HEAD = b"GET /livez HTTP/1.1\r\nX-Long: "
HTTP_CHUNKS = b"POST /livez HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\n"
PLAIN = (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"EHLO x\r\n", b"\x16\x03\x01\xff\xff" + bytes(64),
         b"NBDMAGICIHAVEOPT" + bytes(16), b"\0" * 64, b"\xff" * 64)


class Port:
    """One place that can be connected to. `begins` are starts of frames that its protocol takes, some of them huge."""

    def __init__(self, name, connect, begins):
        self.name, self.connect, self.begins = name, connect, begins

    def talk(self, data, reads=True, limit=5.0):
        """Sends, then takes what comes until the peer closes or `limit` seconds are over: how many bytes were accepted."""
        sent = 0
        try:
            with self.connect() as s:
                s.settimeout(limit)
                sent = len(data)
                s.sendall(data)
                end = time.monotonic() + limit
                if reads:
                    s.shutdown(socket.SHUT_WR)
                    while time.monotonic() < end and s.recv(1 << 16):
                        pass
        except OSError:
            pass  # it may refuse at any moment
        return sent


def garbage(port, rng):
    for size in (1, 7, 64, 1000, 65536):
        for begin in (b"", *port.begins):
            port.talk(begin + rng.randbytes(size), limit=1)


def other_protocols(port, rng):
    for text in PLAIN:
        port.talk(text, limit=1)


def truncated(port, rng):
    for begin in port.begins:
        for end in range(1, len(begin), max(1, len(begin) // 8)):
            port.talk(begin[:end], reads=end % 2 == 0, limit=1)


def huge(port, rng):
    """Whatever it claimed, up to 128 MiB of it are really sent."""
    for begin in port.begins:
        end = time.monotonic() + 5
        try:
            with port.connect() as s:
                s.settimeout(1)
                s.sendall(begin)
                chunk = rng.randbytes(MIB)
                for _ in range(128):
                    s.sendall(chunk)
                    if time.monotonic() > end:
                        break
        except OSError:
            pass


def half_open(port, rng, count=300, seconds=2.0):
    """So many connections that say nothing, or half of something, and stay; fewer where they are not taken in time."""
    held = []
    end = time.monotonic() + 10
    try:
        for i in range(count):
            if time.monotonic() > end:
                break
            s = port.connect()
            s.settimeout(1)
            held.append(s)
            if i % 2 and port.begins:
                begin = rng.choice(port.begins)
                s.sendall(begin[:rng.randrange(1, len(begin))])
    except OSError:
        pass
    time.sleep(seconds)
    for s in held:
        s.close()
    return len(held)


def slowly(port, rng):
    """A byte at a time."""
    for begin in port.begins[:2]:
        try:
            with port.connect() as s:
                for byte in begin[:20]:
                    s.sendall(bytes([byte]))
                    time.sleep(0.02)
        except OSError:
            pass


def storm(port, rng):
    """The same refusal again and again: its log must not grow with it."""
    end = time.monotonic() + 10
    for _ in range(300):
        port.talk(PLAIN[0], reads=False, limit=0.5)
        if time.monotonic() > end:
            break


ATTACKS = (garbage, other_protocols, truncated, huge, half_open, slowly, storm)


class Watch:
    """What an attack costs the node: its memory, sampled, and the lines of its log."""

    def __init__(self, node):
        self.node = node
        self.lines_before = self.lines()
        self.before = self.peak = node.memory_bytes()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)
        self.thread.start()

    def lines(self):
        return len(self.node.log.read_text(errors="replace").splitlines())

    def sample(self):
        while not self.stop.wait(0.05):
            try:
                self.peak = max(self.peak, self.node.memory_bytes())
            except (OSError, AssertionError, AttributeError):
                return

    def end(self):
        self.stop.set()
        self.thread.join()
        return self.peak - self.before, self.lines() - self.lines_before


def attack(test, node, port, seed, memory_max=32 * MIB, lines_max=30):
    """Every attack on one port; fails the test when the node ends, grows or babbles."""
    rng = random.Random(seed)
    for way in ATTACKS:
        watch = Watch(node)
        began = time.monotonic()
        way(port, rng)
        grown, lines = watch.end()
        what = f"{port.name}, {way.__name__}: {grown / MIB:.1f} MiB more, {lines} lines, {time.monotonic() - began:.1f} s"
        sys.stderr.write(time.strftime("%H:%M:%S ") + what + "\n")
        test.assertTrue(node.alive(), f"{what}\n{node.log_end()}")
        test.assertLess(grown, memory_max, what)
        test.assertLessEqual(lines, lines_max, f"{what}\n{node.log_end()}")


def unix(path):
    def connect():
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(5)
        s.connect(str(path))
        return s
    return connect


def tcp(host, port):
    return lambda: socket.create_connection((host, port), timeout=5)


class hostile(SystemTest):
    """One node; a stamping client is at work meanwhile."""

    time_limit = 400

    def setUp(self):
        super().setUp()
        self.volume = self.node.volume("vm1", "64MiB")
        self.logs = self.folder / "logs"
        self.seed = int(os.environ.get("VARVE_SEED", random.randrange(1 << 30)))
        sys.stderr.write(f"VARVE_SEED={self.seed}\n")

    def attack(self, port):
        # Shards are open, and what is mapped at first use is mapped: no cost of the attack.
        stamping.Stamps(self.volume.uri, self.logs, writer=90, blocks=64, stride=MIB // 2, rate=500, seconds=2).finish()
        fds = len(os.listdir(f"/proc/{self.node.process.pid}/fd"))
        stamps = stamping.Stamps(self.volume.uri, self.logs, connections=2, blocks=64, stride=MIB // 2, rate=100, seconds=300)
        attack(self, self.node, port, self.seed)
        done = stamps.finish(stop=True)
        self.assertEqual((done["failed"], done["lost"], done["connects"], done["undrained"]), (0, 0, 2, 0), done)
        self.assertLess(done["longest_wait_ms"], 5000)
        self.assertGreater(done["writes"], 50)
        stamping.assert_register(self.logs)
        # All doors are open again, and nothing is held.
        self.assertEqual([v["name"] for v in self.node.rows("volume", "ls")], ["vm1"])
        wait_for("/livez", lambda: self.node.http("/livez")[0] == 200, 20)
        stamping.sweep(self.volume.uri, self.logs, writer=50, blocks=64, stride=MIB // 2)
        wait_for("descriptors to be given back", lambda: len(os.listdir(f"/proc/{self.node.process.pid}/fd")) <= fds + 8, 20)

    def test_nbd(self):
        self.attack(Port("nbd", unix(self.volume.socket), [NBD_BEGIN, NBD_BEGIN + NBD_OPTION, NBD_BEGIN + NBD_OPTION[:12] + b"\0\0\0\x0c" + b"\0" * 12]))

    def test_rpc(self):
        self.attack(Port("rpc", unix(self.node.rpc_socket), [RPC_SEGMENTS, RPC_HUGE, RPC_DEEP]))

    def test_http(self):
        self.attack(Port("http", tcp("127.0.0.1", self.node.http_port), [HTTP_HUGE, HTTP_HEAD, HTTP_CHUNKS]))

    def test_silent_connections_do_not_hide_that_the_node_lives(self):
        held = []
        try:
            for _ in range(16):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex(("127.0.0.1", self.node.http_port))
                held.append(s)
            time.sleep(0.2)
            began = time.monotonic()
            wait_for("/livez", lambda: self.node.http("/livez", timeout=10)[0] == 200, 10)
            self.assertLess(time.monotonic() - began, 6)
        finally:
            for s in held:
                s.close()


if __name__ == "__main__":
    main()
