#!/usr/bin/python3
"""How tests/data/ext4-sqlite.trace was made: a file system made, mounted, filled, a SQLite run on it, and tidied up, all
over NBD, as `varve trace record` saw it. Needs root, FUSE and loop devices.

    record.py FILE
"""

import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))

from harness import BIN, ROOT, Node, die_with_parent, run, wait_for, workspace  # noqa: E402


def database(folder):
    """A shop: orders come in, are looked up, change; then an index and a report."""
    rng = random.Random(12)
    db = sqlite3.connect(folder / "shop.db", isolation_level=None)
    db.execute("pragma journal_mode=wal")
    db.execute("pragma cache_size=200")
    db.execute("create table orders(id integer primary key, customer integer, amount real, note text)")
    for batch in range(500):
        db.execute("begin")
        for _ in range(40):
            db.execute("insert into orders(customer, amount, note) values(?, ?, ?)",
                       (rng.randrange(500), rng.random() * 100, rng.randbytes(60).hex()))
        db.execute("commit")
    for look_up in range(3000):
        if look_up % 300 == 0:
            forget()
        # A few customers do most of the asking.
        key = int(rng.paretovariate(1.1) * 10) % 20000 + 1
        db.execute("select * from orders where id = ?", (key,)).fetchone()
        if rng.random() < 0.3:
            db.execute("update orders set amount = amount + 1 where id = ?", (key,))
    db.execute("create index by_customer on orders(customer)")
    forget()
    for customer in range(0, 500, 10):
        db.execute("select sum(amount) from orders where customer = ?", (customer,)).fetchone()
    db.execute("vacuum")
    db.close()


def forget():
    """So that reads reach the volume."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("1")


def main():
    target = pathlib.Path(sys.argv[1]).absolute()
    target.unlink(missing_ok=True)
    folder = workspace()
    node = Node(folder / "node").start()
    mount = folder / "mnt"
    mount.mkdir()
    fuse = folder / "fuse"
    fuse.mkdir()
    try:
        volume = node.volume("vm1", "256MiB")
        recorder = subprocess.Popen([str(BIN / "varve"), *node.cli_options(), "trace", "record", "vm1", str(target)],
                                    preexec_fn=die_with_parent, stdout=subprocess.DEVNULL)
        wait_for("the recorder", target.exists)
        time.sleep(0.5)
        fuse_process = subprocess.Popen(["nbdfuse", f"{fuse}/disk", volume.uri], preexec_fn=die_with_parent)
        wait_for("nbdfuse", lambda: (fuse / "disk").exists())
        run("mke2fs", "-q", "-F", "-t", "ext4", fuse / "disk")
        run("mount", "-o", "loop,discard", fuse / "disk", mount)
        try:
            for part in ("runtime", "actors", "messages", "tests"):
                shutil.copytree(ROOT / part, mount / part)
            forget()
            run("tar", "-cf", mount / "all.tar", "-C", mount, "runtime", "actors", "messages", "tests")
            database(mount)
            forget()
            run("grep", "-rc", "include", mount / "runtime", check=False)
            shutil.rmtree(mount / "tests")
            os.unlink(mount / "all.tar")
            os.sync()
        finally:
            run("umount", mount)
        run("e2fsck", "-fn", fuse / "disk")
        run("fusermount3", "-u", fuse)
        fuse_process.wait(20)
        time.sleep(1)
        recorder.send_signal(signal.SIGINT)
        recorder.wait(20)
        print(f"{target}: {target.stat().st_size} bytes")
    finally:
        node.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
