"""Network namespaces for the nodes of a cluster on one machine, and a switch between them that can be told to hurt.

`varve_testnet` (tests/chaos/testnet.cpp) makes and holds them: they have no names, and are gone with it, which ends with
this process however that ends. Node i (from 1) has the address 10.77.0.i; nobody outside reaches it, nor it anybody.
"""

import ctypes
import http.client
import json
import os
import select
import socket
import subprocess
import unittest

from harness import BIN, die_with_parent

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class Network:
    """Raises unittest.SkipTest, with the reason, where namespaces or TAP devices may not be made."""

    def __init__(self, nodes, seed=1):
        # From the main thread: PDEATHSIG follows the thread that forked.
        self.process = subprocess.Popen([str(BIN / "varve_testnet"), str(nodes), "--seed", str(seed)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        line = self.process.stdout.readline()
        if not line:
            _, why = self.process.communicate(timeout=10)
            if self.process.returncode == 77:
                raise unittest.SkipTest(f"no network namespaces here: {why.strip()}")
            raise AssertionError(f"varve_testnet: exit code {self.process.returncode}: {why}")
        self.spaces = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in json.loads(line)["namespaces"]]

    def address(self, node):
        return f"10.77.0.{node}"

    def own_address(self, node):
        """Its loopback's."""
        return "127.0.0.1"

    def enter(self, node):
        """For a child before exec: it lives in the node's namespace."""
        fd = self.spaces[node - 1]
        return lambda: _setns(fd)

    def socket(self, node, *args):
        """A socket of the node's namespace."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.spaces[node - 1])
            try:
                return socket.socket(*args)
            finally:
                _setns(here)
        finally:
            os.close(here)

    def http(self, node, port, path, timeout=5):
        """(status, body) of what listens on the node's loopback; (0, "") when nobody answers."""
        network = self
        class Connection(http.client.HTTPConnection):
            def connect(self):
                self.sock = network.socket(node, socket.AF_INET, socket.SOCK_STREAM)
                self.sock.settimeout(self.timeout)
                self.sock.connect((self.host, self.port))
        connection = Connection("127.0.0.1", port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    # -- faults: from a to b only, or both ways; "*" is every node -------------------------------------------------------

    def command(self, *words):
        self.process.stdin.write(" ".join(str(w) for w in words) + "\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], 10)[0]:
            raise AssertionError("varve_testnet does not answer")
        answer = self.process.stdout.readline().strip()
        if answer != "ok":
            raise AssertionError(f"varve_testnet: {answer or 'has ended'}")

    def cut(self, a, b, both=True):
        self.command(*(["both"] if both else []), "cut", a, b)

    def heal(self, a, b, both=True):
        self.command(*(["both"] if both else []), "heal", a, b)

    def delay(self, a, b, ms, jitter_ms=0, both=True):
        self.command(*(["both"] if both else []), "delay", a, b, ms, jitter_ms)

    def loss(self, a, b, percent, both=True):
        self.command(*(["both"] if both else []), "loss", a, b, percent)

    def clear(self):
        self.command("clear")

    def close(self):
        for fd in self.spaces:
            os.close(fd)
        self.spaces = []
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


class Loopback:
    """The same nodes without namespaces, at addresses of this machine's loopback that are this process's own. No faults."""

    def __init__(self):
        # Of 127.0.0.0/8: two tests at a time do not meet.
        self.prefix = f"127.{100 + os.getpid() // 250 % 100}.{1 + os.getpid() % 250}"

    def address(self, node):
        return f"{self.prefix}.{node}"

    own_address = address

    def enter(self, node):
        return lambda: None

    def http(self, node, port, path, timeout=5):
        connection = http.client.HTTPConnection(self.address(node), port, timeout=timeout)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def close(self):
        pass
