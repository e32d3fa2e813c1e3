#!/usr/bin/python3
"""./run demo: one node at work, in under a minute, left running at the end."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from harness import BIN, MIB, ROOT, die_with_parent, run, wait_for  # noqa: E402

HOME = ROOT / "build" / "demo"
CONFIG = ROOT / "configs" / "laptop.toml"
TRACE = ROOT / "tests" / "data" / "ext4-sqlite.trace"
# A Unix socket's path has room for 107 letters, and a clone may lie deep: sockets have a folder of their own.
RUN_DIR = pathlib.Path(tempfile.gettempdir()) / f"varve-demo-{os.getuid()}"
SOCKET = RUN_DIR / "varved.sock"
# vm1: what the trace asks lies below, the file system above.
EXT4_AT = 512 * MIB
EXT4_MIB = 64
SPEED = 1
COLOUR = sys.stdout.isatty()


def step(text):
    print(("\033[1m" if COLOUR else "") + f"== {text}" + ("\033[0m" if COLOUR else ""), flush=True)


def varve(*args, timeout=120):
    return run(BIN / "varve", "--socket", SOCKET, *args, timeout=timeout).stdout


def rows(*args):
    answer = json.loads(varve(*args, "--json"))
    return answer if isinstance(answer, list) else next(v for v in answer.values() if isinstance(v, list))


def end_the_last_one():
    """Ends the node that an earlier demo left running: that one, and nothing else."""
    try:
        pid = int((HOME / "pid").read_text())
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return
    if str(RUN_DIR).encode() in command and command[0].endswith(b"varved"):
        step("ending the node of the last demo")
        os.kill(pid, signal.SIGTERM)
        wait_for("it to end", lambda: not pathlib.Path(f"/proc/{pid}").exists() or
                 b"varved" not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes(), 90)


def start():
    shutil.rmtree(HOME, ignore_errors=True)
    shutil.rmtree(RUN_DIR, ignore_errors=True)
    HOME.mkdir(parents=True)
    log = open(HOME / "varved.log", "wb")
    process = subprocess.Popen([str(BIN / "varved"), "--config", str(CONFIG), "--data-dir", str(HOME / "data"), "--run-dir",
                                str(RUN_DIR)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (HOME / "pid").write_text(str(process.pid))
    def ready():
        if process.poll() is not None:
            sys.exit(f"varved ended with {process.returncode}:\n{(HOME / 'varved.log').read_text()}")
        return SOCKET.exists() and subprocess.run([BIN / "varve", "--socket", SOCKET, "status"], capture_output=True).returncode == 0
    wait_for("varved to be ready", ready, 30)
    return process


def make_ext4(volume, folder):
    """A real file system, made and filled by mke2fs, in the second half of the volume; what it must hold later."""
    tree = folder / "tree"
    for part in ("runtime", "actors", "messages", "tests/system", "configs"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("__pycache__"))
    if os.path.exists("/dev/fuse") and shutil.which("nbdfuse"):
        mount = folder / "fuse"
        mount.mkdir()
        fuse = subprocess.Popen(["nbdfuse", f"{mount}/disk", volume], preexec_fn=die_with_parent, stderr=subprocess.DEVNULL)
        try:
            wait_for("nbdfuse", lambda: (mount / "disk").exists() or fuse.poll() is not None)
            if fuse.poll() is None:
                run("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={EXT4_AT}", "-d", tree, mount / "disk", f"{EXT4_MIB}M")
                return tree, "mke2fs wrote it through nbdfuse"
        finally:
            subprocess.run(["fusermount3", "-u", str(mount)], check=False, capture_output=True)
            fuse.wait(20)
    # No FUSE, as in many containers: made in a sparse file, then copied in.
    image = folder / "ext4.raw"
    with open(image, "wb") as f:
        f.truncate(EXT4_AT + EXT4_MIB * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-E", f"offset={EXT4_AT}", "-d", tree, image, f"{EXT4_MIB}M")
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, volume)
    return tree, "mke2fs made it in a file (no FUSE here), qemu-img wrote it"


def digests(tree):
    found = {}
    for path in sorted(tree.rglob("*")):
        if path.is_file() and "lost+found" not in path.parts:
            found[str(path.relative_to(tree))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def check_ext4(volume, folder, tree):
    """Reads the volume back as a whole: e2fsck is content, and every file is what was put in."""
    image, out = folder / "back.raw", folder / "out"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", volume, image)
    run("e2fsck", "-fn", f"{image}?offset={EXT4_AT}")
    out.mkdir()
    run("debugfs", "-R", f"rdump / {out}", f"{image}?offset={EXT4_AT}")
    wanted, found = digests(tree), digests(out)
    if wanted != found:
        sys.exit("files differ: " + ", ".join(sorted(p for p in wanted | found if wanted.get(p) != found.get(p))[:10]))
    return len(found)


class Moves:
    """Moves shards of volumes between tiers until told to stop, one after the other, round and round."""

    def __init__(self, volumes):
        self.volumes, self.stop, self.asked, self.trouble = volumes, threading.Event(), 0, None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            turn = 0
            while not self.stop.is_set():
                for name, tiers in self.volumes:
                    shards = rows("shard", "ls", name)
                    if not shards or self.stop.is_set():
                        continue
                    shard = shards[turn % len(shards)]
                    target = tiers[(tiers.index(shard["tier"]) + 1) % len(tiers)]
                    varve("shard", "move", name, "--offset", str(shard["offset"]), "--to", target)
                    self.asked += 1
                turn += 1
                while any(m["state"] not in ("committed", "aborted") for m in rows("migration", "ls")) and not self.stop.is_set():
                    time.sleep(0.05)
        except BaseException as e:
            self.trouble = e

    def end(self):
        self.stop.set()
        self.thread.join(60)
        if self.trouble:
            raise self.trouble


def table(head, lines):
    lines = [head] + [[str(c) for c in line] for line in lines]
    widths = [max(len(l[i]) for l in lines) for i in range(len(head))]
    for line in lines:
        print("   " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths))).rstrip())


def scratch(uri, command):
    run("qemu-io", "-f", "raw", *[x for i in range(8) for x in ("-c", f"{command} -P {i + 1} {i * 4}M 4M")], uri)


def milliseconds(seconds):
    return f"{seconds * 1e3:.2f} ms"


def show(folder):
    step("a thin 1 GiB volume vm1, exported over NBD")
    varve("volume", "create", "vm1", "--size", "1GiB")
    vm1 = json.loads(varve("volume", "attach", "vm1", "--json"))["uri"]
    print(f"   {vm1}")
    varve("volume", "create", "scratch", "--size", "32MiB", "--volatile")
    volatile = json.loads(varve("volume", "attach", "scratch", "--json"))["uri"]
    scratch(volatile, "write")

    step("ext4 in its second half")
    tree, how = make_ext4(vm1, folder)
    print(f"   {how}: {sum(1 for p in tree.rglob('*') if p.is_file())} files")

    step(f"replaying {TRACE.relative_to(ROOT)} against its first half, as fast as recorded, while shards move")
    moves = Moves([("vm1", ["fast", "slow"]), ("scratch", ["memory", "fast", "slow"])])
    # Its progress bar goes where it belongs: to standard error, when that is a terminal.
    done = subprocess.run([BIN / "varve", "--socket", SOCKET, "replay", TRACE, "vm1", "--verify", "--speed", str(SPEED), "--json"],
                          stdout=subprocess.PIPE, timeout=120, text=True, preexec_fn=die_with_parent)
    moves.end()
    wait_for("the last moves", lambda: all(m["state"] in ("committed", "aborted") for m in rows("migration", "ls")), 60)
    if done.returncode != 0:
        sys.exit(f"the replay failed: {done.stdout}")
    report = json.loads(done.stdout)

    step("verifying every byte")
    files = check_ext4(vm1, folder, tree)
    scratch(volatile, "read")
    bad = sum(json.loads(varve("volume", "verify", v, "--json", timeout=300))["bad_blocks"] for v in ("vm1", "scratch"))
    moved = rows("migration", "ls")
    committed = [m for m in moved if m["state"] == "committed"]
    if bad or report["errors"] or report["sectors_bad"] or len(committed) != len(moved) or not committed:
        sys.exit(f"not as it should be: {bad} bad blocks, {report}, {moved}")
    print(f"   replay: {report['sectors_verified']} sectors are what was last written; ext4: e2fsck clean, {files} files with "
          f"equal SHA-256\n   scratch: 32 MiB of patterns read back; every written block of both volumes matches its checksum")

    step("what happened")
    table(["replay", "requests", "IOPS", "p50", "p90", "p99", "p99.9"], [
        [name, h["count"], f"{h['count'] / report['seconds']:.0f}", *(milliseconds(h[p]) for p in ("p50", "p90", "p99", "p99_9"))]
        for name, h in sorted(report["latency"].items(), key=lambda x: x[0] == "all")])
    print()
    shards = {v: rows("shard", "ls", v) for v in ("vm1", "scratch")}
    table(["tier", "shards of vm1", "of scratch", "used", "read latency", "moved in", "moved out"], [
        [t["name"], *(sum(s["tier"] == t["name"] for s in shards[v]) for v in ("vm1", "scratch")), f"{t['used'] / MIB:.1f} MiB",
         milliseconds(t["read_latency"]), sum(m["to"] == t["name"] for m in committed), sum(m["from"] == t["name"] for m in committed)]
        for t in rows("tier", "ls")])
    gates = sorted(m["gate_closed"] for m in committed)
    print(f"\n   {len(committed)} moves under load, {sum(m['bytes_done'] for m in committed) / MIB:.0f} MiB, "
          f"{sum(m['blocks_verified'] for m in committed)} blocks verified on the way, {sum(m['verify_failures'] for m in moved)} "
          f"bad; I/O of a shard waited {milliseconds(gates[len(gates) // 2])} for its switch (median), {milliseconds(gates[-1])} at most")


def main():
    began = time.monotonic()
    end_the_last_one()
    step("starting one node: configs/laptop.toml, three tiers")
    process = start()
    with tempfile.TemporaryDirectory(prefix="varve-demo-work.") as folder:
        show(pathlib.Path(folder))
    print(f"\nEverything verified, {time.monotonic() - began:.0f} s. The node goes on (process {process.pid}, data in {HOME}). Try:\n")
    for line in (f"export VARVE_SOCKET={SOCKET} PATH={BIN}:$PATH", "varve status", "varve volume ls", "varve shard ls vm1", "varve shard move vm1 --all --to slow && varve migration watch",
                 "varve lease ls", f"qemu-img info \"$(varve volume attach vm1 | grep -o 'nbd+unix:[^ ]*' | head -1)\"",
                 "curl -s http://127.0.0.1:9480/metrics | grep ^varve_", "varve stop      # ends it"):
        print(f"   {line}")


if __name__ == "__main__":
    main()
