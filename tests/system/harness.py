"""Starts varved for a test, talks to it as its users do, and ends only what it started.

Everything has a time limit; when a test fails, the end of each log is printed.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("VARVE_BIN", ROOT / "build" / "release" / "bin"))
MIB = 1 << 20
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent():
    """In a child before exec: a test that is killed leaves no server behind."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run(*args, timeout=60, check=True, data=None, text=True, env=None, cwd=None):
    """Runs a program to its end; its output is in the exception when it fails."""
    args = [str(a) for a in args]
    done = subprocess.run(args, input=data, capture_output=True, text=text, timeout=timeout, env=env,
                          cwd=cwd, preexec_fn=die_with_parent)
    if check and done.returncode != 0:
        raise AssertionError(f"{' '.join(args)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def wait_for(what, condition, timeout=20, step=0.02):
    """Waits until `condition` gives something true, and gives that."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s in vain: {what}")
        time.sleep(step)


def metric_sum(text, name, **labels):
    """Of what /metrics says: the sum of a metric's samples whose labels are as given; 0 when there is none."""
    total = 0.0
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if not line.startswith("#") and head.split("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
            total += float(value)
    return total


class CliError(AssertionError):
    """A verb of `varve` failed. `error` is its JSON error object, if there was one."""

    def __init__(self, args, done):
        super().__init__(f"varve {' '.join(args)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        self.code, self.stdout, self.stderr = done.returncode, done.stdout, done.stderr
        try:
            self.error = json.loads(done.stdout).get("error")
        except (ValueError, AttributeError):
            self.error = None


class Volume:
    """An attached volume."""

    def __init__(self, node, name, attachment):
        self.node, self.name = node, name
        self.uri, self.socket = attachment["uri"], attachment["socket"]


class Daemon:
    """A varved that a test has started: `process`, None while there is none, and `log_end()`."""

    def kill(self):
        """kill -9, and wait until it is gone."""
        self.process.kill()
        self.process.wait(20)
        self.process = None

    def stop(self, timeout=30):
        """SIGTERM: the orderly end."""
        self.process.terminate()
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"varved did not stop within {timeout} s\n{self.log_end()}") from None
        self.process = None
        return code

    def alive(self):
        return self.process is not None and self.process.poll() is None


class Node(Daemon):
    """One varved with a folder, a config and a log of its own; `extra` is TOML to go below the tiers."""

    def __init__(self, folder, tiers=None, extra="", environment=None, preexec=None):
        self.folder = pathlib.Path(folder)
        self.data = self.folder / "data"
        self.run_dir = self.folder / "run"
        self.rpc_socket = self.run_dir / "varved.sock"
        self.log = self.folder / "varved.log"
        self.config = self.folder / "varve.toml"
        self.environment = {**os.environ, **(environment or {})}
        self.preexec = preexec
        self.process = None
        self.data.mkdir(parents=True, exist_ok=True)
        self.http_port = free_port()
        self.tiers = tiers or default_tiers(self.data)
        self.extra = extra
        self.write_config()

    def write_config(self):
        self.config.write_text(config_text(self.data, self.run_dir, self.http_port, self.tiers) + self.extra)

    # -- the daemon ----------------------------------------------------------------------------------------------------

    def start(self, timeout=30):
        assert self.process is None
        with open(self.log, "ab") as log:
            def before():
                die_with_parent()
                if self.preexec:
                    self.preexec()
            self.process = subprocess.Popen([str(BIN / "varved"), "--config", str(self.config)], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, env=self.environment, preexec_fn=before)
        self.wait_ready(timeout)
        return self

    def wait_ready(self, timeout=30):
        def ready():
            if self.process.poll() is not None:
                raise AssertionError(f"varved ended with {self.process.returncode} instead of serving\n{self.log_end()}")
            return self.http("/readyz")[0] == 200
        wait_for("varved to be ready", ready, timeout)

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        if self.process is not None:
            self.kill()

    def log_end(self, lines=60):
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.log}\n" + "\n".join(text.splitlines()[-lines:]) + "\n---"

    def memory_bytes(self):
        """Resident memory."""
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu_seconds(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- its faces -----------------------------------------------------------------------------------------------------

    def http(self, path, timeout=5):
        """(status, body); (0, "") when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=timeout) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name, **labels):
        return metric_sum(self.http("/metrics")[1], name, **labels)

    def varve(self, *args, timeout=60, check=True):
        """Runs one verb; the finished process."""
        done = run(BIN / "varve", *self.cli_options(), *args, timeout=timeout, check=False, env=self.environment)
        if check and done.returncode != 0:
            raise CliError([str(a) for a in args], done)
        return done

    def cli_options(self):
        return ["--socket", str(self.rpc_socket)]

    def json(self, *args, timeout=60):
        """Runs one verb with --json; what it printed."""
        return json.loads(self.varve(*args, "--json", timeout=timeout).stdout)

    def rows(self, *args):
        """The rows of a listing."""
        answer = self.json(*args)
        return answer if isinstance(answer, list) else next(v for v in answer.values() if isinstance(v, list))

    def volume(self, name, size, *options):
        """Creates and attaches."""
        self.varve("volume", "create", name, "--size", size, *options)
        return self.attach(name)

    def attach(self, name):
        return Volume(self, name, self.json("volume", "attach", name))

    def shards(self, name):
        return self.rows("shard", "ls", name)

    def homes(self, name):
        """{offset: tier} of the shards that exist."""
        return {s["offset"]: s["tier"] for s in self.shards(name)}

    def migrations(self):
        return self.rows("migration", "ls")

    def running_migrations(self):
        # One that is committed still has its source to remove: until then another of that shard is refused.
        return [m for m in self.migrations() if m["state"] not in ("committed", "aborted") or not m["ended_at"]]

    def wait_migrations(self, timeout=60):
        wait_for("migrations to end", lambda: not self.running_migrations(), timeout, 0.05)

    def move(self, name, offset, tier, wait=True):
        self.varve("shard", "move", name, "--offset", offset, "--to", tier)
        if wait:
            self.wait_migrations()

    def events(self):
        return self.rows("event", "ls")


def default_tiers(data):
    """Memory, and two folders: one past the page cache where its file system can, one through it."""
    return [{"name": "memory", "kind": "memory", "capacity": "256MiB"},
            {"name": "fast", "kind": "file", "path": str(data / "fast"), "io": "direct", "capacity": "8GiB"},
            {"name": "slow", "kind": "file", "path": str(data / "slow"), "io": "buffered", "capacity": "8GiB"}]


def config_text(data, run_dir, http_port, tiers):
    def value(x):
        return json.dumps(x) if not isinstance(x, dict) else "{ " + ", ".join(
            f"{k} = {value(v)}" for k, v in x.items()) + " }"
    text = (f'[node]\nname = "test"\ndata_dir = {value(str(data))}\nrun_dir = {value(str(run_dir))}\n\n'
            f'[http]\nlisten = "127.0.0.1:{http_port}"\n\n[debug]\nallow_kill = true\n')
    for tier in tiers:
        text += "\n[[tier]]\n" + "".join(f"{k} = {value(v)}\n" for k, v in tier.items())
    return text + "\n"


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def workspace(prefix="varve-test."):
    """A fresh folder with a short path: a Unix socket's path has room for 107 letters."""
    return pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=os.environ.get("VARVE_TEST_DIR", tempfile.gettempdir())))


class SystemTest(unittest.TestCase):
    """A test with varved running; `options` are Node's."""

    options = {}
    time_limit = 120  # seconds for one case

    def setUp(self):
        self.folder = workspace()
        self.nodes = []
        # Past the limit there is nothing to wait for: say where it hangs, and end. Children die with us.
        self.watchdog = threading.Timer(self.time_limit, self.hang)
        self.watchdog.daemon = True
        self.watchdog.start()
        self.addCleanup(self.finish)
        self.node = self.make_node(**self.options)

    def make_node(self, name="node", start=True, **options):
        node = Node(self.folder / name, **options)
        self.nodes.append(node)
        return node.start() if start else node

    def hang(self):
        import faulthandler
        sys.stderr.write(f"{self.id()}: not finished after {self.time_limit} s\n")
        faulthandler.dump_traceback(all_threads=True)
        for node in self.nodes:
            sys.stderr.write(node.log_end() + "\n")
        sys.stderr.flush()
        os._exit(3)

    def finish(self):
        self.watchdog.cancel()
        result = self._outcome.result
        failed = any(test is self for test, _ in result.failures + result.errors)
        for node in self.nodes:
            if failed:
                sys.stderr.write(node.log_end() + "\n")
            elif node.process is not None and node.process.poll() is not None:
                raise AssertionError(f"varved ended by itself with {node.process.returncode}\n{node.log_end()}")
            node.close()
        if os.environ.get("VARVE_TEST_KEEP"):
            sys.stderr.write(f"kept: {self.folder}\n")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def background(self, body):
        """Runs `body(stop)` in a thread, `stop` being an event; what it raises is raised at the end."""
        stop, trouble = threading.Event(), []
        def guarded():
            try:
                body(stop)
            except BaseException as e:  # handed to the test's own thread
                trouble.append(e)
        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(60)
        if thread.is_alive():
            raise AssertionError("a helper thread does not end")
        if trouble:
            raise trouble[0]

    def mover(self, name, tiers=("slow", "fast"), offsets=None, pause=0.0):
        """For `background`: moves shards between tiers all the time; `moved` counts."""
        self.moved = 0
        def body(stop):
            rng = random.Random(1)
            while not stop.is_set():
                homes = self.node.homes(name)
                if not homes:
                    stop.wait(0.05)
                    continue
                offset = rng.choice(sorted(homes))
                target = tiers[0] if homes[offset] != tiers[0] else tiers[1]
                self.node.varve("shard", "move", name, "--offset", offset, "--to", target)
                self.node.wait_migrations()
                self.moved += 1
                stop.wait(pause)
        return body


def fio(folder, volume, *options, timeout=120, check=True, enough=None):
    """Runs fio's NBD engine on a volume; its JSON. fio writes a line of its own first, hence --output.

    `enough` is an event: once it is set, fio ends what is under way and reports, as on Ctrl-C.
    """
    out = pathlib.Path(folder) / f"fio-{random.getrandbits(32):08x}.json"
    process = subprocess.Popen(
        ["fio", "--name=job", "--ioengine=nbd", f"--uri={volume if isinstance(volume, str) else volume.uri}",
         "--output-format=json", f"--output={out}", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=folder, preexec_fn=die_with_parent)  # the folder is where fio leaves its verify state
    end = time.monotonic() + timeout
    interrupted = False
    while True:
        try:
            stdout, stderr = process.communicate(timeout=0.1 if enough and not interrupted else end - time.monotonic())
            break
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end:
                process.kill()
                process.communicate()
                raise
            if enough and enough.is_set():
                process.send_signal(signal.SIGINT)
                interrupted = True
    if process.returncode not in ((0, 128) if interrupted else (0,)) and check:
        raise AssertionError(f"fio: exit code {process.returncode}\n{stdout}\n{stderr}\n"
                             f"{out.read_text() if out.exists() else ''}")
    text = out.read_text()
    report = json.loads(text[text.index("{"):])
    if check:
        for job in report["jobs"]:
            if job["error"]:
                raise AssertionError(f"fio reports error {job['error']}\n{stderr}")
    return report


def main():
    # Its arguments are unittest's: names of cases, -v, -f. Where nothing could be tried, CTest is told that it was skipped.
    result = unittest.main(module="__main__", verbosity=2, warnings="ignore", exit=False).result
    if result.wasSuccessful() and result.testsRun and len(result.skipped) == result.testsRun:
        sys.exit(77)
    sys.exit(not result.wasSuccessful())
