"""A cluster of real processes for a test: one file, a namespace for each node, faults, and the rights to none of it later."""

import json
import pathlib
import signal
import subprocess

from harness import BIN, CliError, Daemon, die_with_parent, metric_sum, run, wait_for
from network import Network


class ClusterNode(Daemon):
    """One varved of the cluster."""

    def __init__(self, cluster, number, roles):
        self.cluster, self.number, self.roles = cluster, number, roles
        self.name = f"node{number}"
        self.folder = cluster.folder / self.name
        # Where its data and its tier lie.
        self.disk = self.folder
        self.before = []  # called in its process before exec
        self.run_dir = self.folder / "run"
        self.rpc_socket = self.run_dir / "varved.sock"
        self.log = self.folder / "varved.log"
        self.process = None
        self.stopped = False  # by SIGSTOP
        self.folder.mkdir(parents=True, exist_ok=True)

    def start(self):
        assert self.process is None
        enter = self.cluster.network.enter(self.number)
        def before():
            die_with_parent()
            enter()
            for call in self.before:
                call()
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(BIN / "varved"), "--config", str(self.cluster.config), "--node", self.name],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=before)
        return self

    def ready(self):
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process and self.process.returncode}\n{self.log_end()}")
        return self.http("/readyz")[0] == 200

    def wait_ready(self, timeout=60):
        try:
            wait_for(f"{self.name} to be ready", self.ready, timeout, 0.1)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.http('/readyz')}\n{self.log_end()}") from None
        return self

    def kill(self):
        super().kill()
        self.stopped = False

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)
        self.stopped = True

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)
        self.stopped = False

    def log_end(self, lines=60):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.log}\n" + "\n".join(text.splitlines()[-lines:]) + "\n---"

    def memory_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def http(self, path, timeout=5):
        return self.cluster.network.http(self.number, 9480, path, timeout)

    def leading(self):
        """How often it has begun to lead (with the catalog in etcd)."""
        return self.log.read_text(errors="replace").count("CATALOG_LEADING") if self.log.exists() else 0

    def metric(self, name, **labels):
        return metric_sum(self.http("/metrics")[1], name, **labels)

    def varve(self, *args, timeout=60, check=True):
        """Runs one verb at this node; the finished process."""
        done = run(BIN / "varve", "--socket", self.rpc_socket, *args, timeout=timeout, check=False)
        if check and done.returncode != 0:
            raise CliError([str(a) for a in args], done)
        return done

    def json(self, *args, timeout=60):
        return json.loads(self.varve(*args, "--json", timeout=timeout).stdout)

    def rows(self, *args):
        answer = self.json(*args)
        return answer if isinstance(answer, list) else next(v for v in answer.values() if isinstance(v, list))


class Cluster:
    """`roles`: of each node, e.g. ["manager,storage,host"] * 3. Control at port 7000, data from 7100, HTTP at 9480, each in
    its node's namespace. `disks`: {number: folder} of nodes whose data and tier lie elsewhere; `before`: {number: [what is
    called in the node's process before exec]}; `lease`: that section's
    text, if not with terms that a test sees the end of. Raises unittest.SkipTest where there are no namespaces."""

    # Short, so that a test sees leases end: a holder stops 7.5 s after it asked, and managing may be away for 5 s.
    TERM, DRIFT, RENEW, FAILOVER = 8.0, 0.5, 1.0, 5.0

    def __init__(self, folder, roles, seed=1, extra="", debug="", security="", disks=None, before=None, network=None, lease=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "cluster.toml"
        self.network = network or Network(len(roles), seed)
        self.lease = lease or (f'term = "{self.TERM}s"\ndrift = "{self.DRIFT}s"\nrenew = "{self.RENEW}s"\n'
                               f'failover = "{self.FAILOVER}s"\ngrace = "1s"\n')
        self.nodes = [ClusterNode(self, i + 1, r.split(",")) for i, r in enumerate(roles)]
        for number, path in (disks or {}).items():
            self.node(number).disk = path
        for number, calls in (before or {}).items():
            self.node(number).before = calls
        self.config.write_text(self.text(extra, debug, security))
        run(BIN / "varve", "cluster", "keys", "init", self.folder / "keys", "--config", self.config)

    def text(self, extra, debug, security):
        text = ('[cluster]\nname = "chaos"\nheartbeat = "200ms"\nsuspect_after = "1s"\ndown_after = "3s"\n\n'
                f'[security]\nkeys = "keys"\n{security}\n[lease]\n{self.lease}\n[debug]\nallow_kill = true\n{debug}')
        for n in self.nodes:
            address = self.network.address(n.number)
            text += (f'\n[[node]]\nname = "{n.name}"\nroles = {json.dumps(n.roles)}\ncontrol = "{address}:7000"\n'
                     f'data = "{address}:7100"\ndata_dir = "{n.disk}/data"\nrun_dir = "{n.run_dir}"\n'
                     f'http = "{self.network.own_address(n.number)}:9480"\n')
        for n in self.nodes:
            if "storage" in n.roles:
                text += (f'\n[[tier]]\nname = "disk{n.number}"\nnode = "{n.name}"\nkind = "file"\npath = "{n.disk}/disk"\n'
                         'io = "buffered"\ncapacity = "8GiB"\n')
        return text + "\n" + extra

    def node(self, number):
        return self.nodes[number - 1]

    def start(self, timeout=90):
        for n in self.nodes:
            n.start()
        for n in self.nodes:
            n.wait_ready(timeout)
        return self

    def close(self):
        for n in self.nodes:
            if n.process is not None:
                n.kill()
        self.network.close()
