"""Clients that stamp the blocks of volumes, and the check of what they saw (tests/chaos: varve_stamps)."""

import json
import pathlib
import signal
import struct
import subprocess
from collections import namedtuple

from harness import BIN, die_with_parent, run

DONE = 3  # log_event::done


class Stamps:
    """One process of clients of one volume. `options` are those of `varve_stamps run`: connections=2, only=[1, 5], .."""

    def __init__(self, uri, logs, **options):
        self.logs = pathlib.Path(logs)
        self.logs.mkdir(exist_ok=True)
        def word(x):
            return "" if x is True else "=" + (",".join(str(i) for i in x) if isinstance(x, (list, tuple)) else str(x))
        words = [f"--{k.replace('_', '-')}{word(v)}" for k, v in options.items()]
        self.process = subprocess.Popen([str(BIN / "varve_stamps"), "run", "--uri", str(uri), "--logs", str(self.logs), *words],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)

    def running(self):
        return self.process.poll() is None

    def finish(self, timeout=120, stop=False):
        """Waits until it ends, told so with `stop`; its counters, and "code". Garbled blocks are seen by `check`, too."""
        if stop:
            self.process.send_signal(signal.SIGTERM)
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        if self.process.returncode not in (0, 1):
            raise AssertionError(f"varve_stamps: exit code {self.process.returncode}\n{out}\n{err}")
        return {**json.loads(out.splitlines()[-1]), "code": self.process.returncode}

    def kill(self):
        self.process.kill()
        self.process.communicate()


def sweep(uri, logs, timeout=60, **options):
    """Reads every block once: what was acknowledged and is lost shows in the history."""
    found = Stamps(uri, logs, sweep=True, seconds=timeout, drain=1, **options).finish(timeout + 30)
    if found["code"] != 0 and not found["garbled"]:
        raise AssertionError(f"not every block could be read within {timeout} s: {found}")
    return found


def logs_of(folder):
    files = sorted(pathlib.Path(folder).glob("*.log"))
    if not files:
        raise AssertionError(f"{folder}: no client has left a log")
    return files


def check(folder):
    """What `varve_stamps check` says of all logs in a folder."""
    return json.loads(run(BIN / "varve_stamps", "check", *logs_of(folder), timeout=600, check=False).stdout)


def assert_register(folder):
    """Raises when any block was no register; gives the counts."""
    result = check(folder)
    if result["violations"]:
        shown = "\n".join(f"volume {v['volume']} block {v['block']}: {v['what']}" for v in result["violations"][:10])
        raise AssertionError(f"{len(result['violations'])} blocks are no registers\n{shown}")
    return result


def waits(folder, windows):
    """How long requests waited: for each (from_ns, to_ns, volume, blocks) {"longest_ms", "answered", ..}."""
    folder = pathlib.Path(folder)
    file = folder / "windows"
    file.write_text("".join(" ".join(str(x) for x in (*w[:3], *w[3])) + "\n" for w in windows))
    return json.loads(run(BIN / "varve_stamps", "waits", "--windows", file, *logs_of(folder), timeout=600).stdout)


# Who has written a block, over which of his connections, and which of his writes it was.
Stamp = namedtuple("Stamp", "writer epoch sequence")


def found_by(log):
    """{block: the stamp that was last read there} of one client's log; all 0: blank."""
    data = pathlib.Path(log).read_bytes()
    found = {}
    for at in range(16, len(data) - 47, 48):  # as history_log.hpp lays it out
        _, _, block, writer, epoch, sequence, event, _ = struct.unpack_from("<QqQIIQII", data, at)
        if event == DONE:
            found[block] = Stamp(writer, epoch, sequence)
    return found
