"""A cluster of real processes on loopback, as `varve cluster up` starts it, with ports and folders of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import nbd

from harness import BIN, MIB, CliError, Volume, die_with_parent, metric_sum, run, wait_for

# What a first try has: every role somewhere, one manager.
NODES = {"node1": ["manager", "storage", "host"], "node2": ["storage", "host"], "node3": ["storage"]}


def free_ports(count):
    """So many different ports that are free now."""
    with contextlib.ExitStack() as held:
        ports = []
        for _ in range(count):
            s = held.enter_context(socket.socket())
            s.bind(("127.0.0.1", 0))
            ports.append(s.getsockname()[1])
        return ports


class Member:
    """One node of the cluster."""

    def __init__(self, cluster, name, roles):
        self.cluster, self.name, self.roles = cluster, name, roles
        self.data = cluster.data / name
        self.run_dir = cluster.folder / "r" / name
        self.log = self.data / "varved.log"
        self.rpc_socket = self.run_dir / "varved.sock"
        self.control, self.data_port, self.http_port = free_ports(3)

    def pid(self):
        """Of the process that holds its folder; None when there is none."""
        try:
            pid = int((self.data / "varved.lock").read_text())
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if str(self.cluster.config).encode() in words and self.name.encode() in words else None

    def signal(self, number):
        os.kill(self.pid(), number)

    def kill(self):
        """kill -9, and wait until it is gone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_for(f"{self.name} to be gone", lambda: not alive(pid), 20)

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/readyz", timeout=15) as answer:
                return answer.status == 200
        except OSError:
            return False

    def metric(self, name, **labels):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}/metrics", timeout=15) as answer:
            return metric_sum(answer.read().decode(), name, **labels)

    def log_end(self, lines=40):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.name}\n" + "\n".join(text.splitlines()[-lines:]) + "\n---"

    # -- verbs asked of this node --------------------------------------------------------------------------------------

    def varve(self, *args, timeout=60, check=True):
        return self.cluster.varve("--socket", self.rpc_socket, *args, timeout=timeout, check=check)

    def json(self, *args, timeout=60):
        return json.loads(self.varve(*args, "--json", timeout=timeout).stdout)

    def rows(self, *args):
        return next(v for v in self.json(*args).values() if isinstance(v, list))

    def attach(self, name, *options):
        return Volume(self, name, self.json("volume", "attach", name, *options))


def alive(pid):
    """And no zombie: nobody waits for daemons whose parent is gone, but init may be slow to."""
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


class Cluster:
    """Its file, and what `varve cluster` does with it. `extra` is TOML below the nodes; `head` above, in [cluster]."""

    def __init__(self, folder, nodes=None, extra="", catalog="", head="", security=""):
        self.folder = folder
        self.data = folder / "d"
        self.config = folder / "cluster.toml"
        self.keys = self.data / "keys"
        folder.mkdir(parents=True, exist_ok=True)
        self.nodes = {name: Member(self, name, roles) for name, roles in (nodes or NODES).items()}
        self.extra, self.catalog, self.head, self.security = extra, catalog, head, security
        self.write_config()

    def __getitem__(self, name):
        return self.nodes[name]

    def write_config(self):
        text = (f'[cluster]\nname = "test"\ndata_dir = "{self.data}"\nheartbeat = "200ms"\nsuspect_after = "800ms"\n'
                f'down_after = "2500ms"\n{self.head}\n[security]\nkeys = "{self.keys}"\n{self.security}\n{self.catalog}\n'
                '[debug]\nallow_kill = true\n')
        for n in self.nodes.values():
            text += (f'\n[[node]]\nname = "{n.name}"\nroles = {json.dumps(n.roles)}\ncontrol = "127.0.0.1:{n.control}"\n'
                     f'data = "127.0.0.1:{n.data_port}"\nhttp = "127.0.0.1:{n.http_port}"\nrun_dir = "{n.run_dir}"\n'
                     'reactors = 1\n')
        for n in self.nodes.values():
            if "storage" in n.roles:
                text += (f'\n[[tier]]\nname = "t{n.name[-1]}"\nnode = "{n.name}"\nkind = "file"\npath = "tier"\n'
                         'io = "buffered"\ncapacity = "4GiB"\n')
        self.config.write_text(text + "\n" + self.extra)

    def varve(self, *args, timeout=60, check=True):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("VARVE_")}
        done = run(BIN / "varve", *args, timeout=timeout, check=False, env=environment)
        if check and done.returncode != 0:
            raise CliError([str(a) for a in args], done)
        return done

    def up(self, timeout=120, check=True):
        return self.varve("cluster", "up", self.config, "--timeout", f"{timeout}s", timeout=timeout + 20, check=check)

    def down(self, *options, timeout=200, check=True):
        return self.varve("cluster", "down", self.config, *options, timeout=timeout, check=check)

    def json(self, *args, timeout=60):
        return json.loads(self.varve("--config", self.config, *args, "--json", timeout=timeout).stdout)

    def states(self):
        """{node: state}, as the manager sees them; nothing when nobody tells."""
        try:
            return {n["node"]: n["state"] for n in self.json("cluster", "status")["nodes"]}
        except CliError:
            return {}

    def member(self, name):
        return next(n for n in self.json("cluster", "status")["nodes"] if n["node"] == name)

    def finish(self):
        """Whatever happened: nothing of it is left running."""
        for n in self.nodes.values():
            if (pid := n.pid()) is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.data / "etcd.pid").read_text())
            if str(self.data / "etcd").encode() in open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0"):
                os.kill(pid, signal.SIGKILL)


class Writer:
    """Writes an attached volume and reads it back all the time; `slowest` is the longest pair of requests in seconds."""

    def __init__(self, volume, size):
        self.handle = nbd.NBD()
        self.handle.connect_uri(volume.uri)
        self.size, self.trouble, self.slowest, self.requests = size, None, 0.0, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        blocks = self.size // MIB
        try:
            while not self.stop.is_set():
                at, stamp = self.requests % blocks, self.requests.to_bytes(8, "little")
                began = time.monotonic()
                self.handle.pwrite(stamp * 512, at * MIB)
                back = self.handle.pread(4096, at * MIB)
                self.slowest = max(self.slowest, time.monotonic() - began)
                if back != stamp * 512:
                    raise AssertionError(f"block {at}: other bytes than were written")
                self.requests += 1
        except BaseException as e:  # told by finish()
            self.trouble = e

    def finish(self):
        self.stop.set()
        self.thread.join(60)
        if self.thread.is_alive():
            raise AssertionError("a request hangs")
        if self.trouble:
            raise self.trouble
        self.handle.shutdown()


def start_varved(cluster, name, config=None):
    """One node by hand: a process of the test's own; its output is in the pipes."""
    return subprocess.Popen([str(BIN / "varved"), "--config", str(config or cluster.config), "--node", name],
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            preexec_fn=die_with_parent)
