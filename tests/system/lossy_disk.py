"""A disk that loses power: what was written to it since the last flush of its cache is gone then, as of a real one.

    ext4 -- loop device -- nbdfuse -- nbdkit (cache=writeback) -- file

nbdkit keeps what is written in memory until it is told to flush, and is killed for the loss of power. The file system above
is the kernel's own, and recovers from its journal: so what a tier's fsync has covered is there afterwards, and nothing else
need be.
"""

import ctypes
import os
import pathlib
import signal
import subprocess
import unittest

from harness import die_with_parent, run, wait_for

CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
BOOT_ID = "/proc/sys/kernel/random/boot_id"
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(what, result):
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def own_mounts():
    """From now on this process and its children have mounts of their own, which end with them. Raises unittest.SkipTest
    without the right to."""
    if _libc.unshare(CLONE_NEWNS):
        raise unittest.SkipTest(f"no mounts of its own: {os.strerror(ctypes.get_errno())}")
    _checked("mount", _libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))


def booted_as(path):
    """For a child before exec: it finds that file's text for the id of the machine's boot."""
    def before():
        own_mounts()
        _checked("mount", _libc.mount(os.fsencode(path), BOOT_ID.encode(), None, MS_BIND, None))
    return before


class LossyDisk:
    """A file system at `path`. Call own_mounts() first. Raises unittest.SkipTest where it cannot be had."""

    def __init__(self, folder, size):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True)
        self.image, self.socket = self.folder / "image", self.folder / "nbd.sock"
        self.device, self.path = self.folder / "device", self.folder / "disk"
        self.processes = []
        self.device.touch()
        self.path.mkdir()
        with open(self.image, "wb") as f:
            f.truncate(size)
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.image)
        if not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"):
            raise unittest.SkipTest("no FUSE, or no loop devices here")
        self.power_up()

    def power_up(self):
        self.socket.unlink(missing_ok=True)
        # The file itself is this machine's, whose power stays.
        self.nbdkit = self.begin("nbdkit", "-f", "-U", self.socket, "--filter=cache", "file", self.image, "cache=writeback",
                                 "cache-on-read=true")
        wait_for("nbdkit", self.socket.exists)
        self.nbdfuse = self.begin("nbdfuse", self.device, f"nbd+unix:///?socket={self.socket}")
        wait_for("nbdfuse", lambda: os.path.getsize(self.device) > 0)
        # It commits its journal when it is asked to, not by the way.
        run("mount", "-o", "loop,commit=600", self.device, self.path)

    def begin(self, *args):
        process = subprocess.Popen([str(a) for a in args], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   preexec_fn=die_with_parent)
        self.processes.append(process)
        return process

    def cut_power(self):
        """Nobody may have files of it open afterwards: whatever they write fails."""
        self.nbdkit.send_signal(signal.SIGKILL)
        self.nbdkit.wait()

    def remove(self):
        """What is left of it after cut_power; before power_up."""
        run("umount", self.path)
        self.nbdfuse.send_signal(signal.SIGKILL)
        self.nbdfuse.wait()
        run("umount", "-l", self.device)

    def lose_power(self):
        self.cut_power()
        self.remove()
        self.power_up()

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        run("umount", "-l", self.path, check=False)
        run("umount", "-l", self.device, check=False)
