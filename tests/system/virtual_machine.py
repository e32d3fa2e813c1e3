"""A small virtual machine for a test: Debian's own kernel in QEMU, with varve_vm_guest as all that runs in it.

The kernel lies unpacked in build/tools (`./run test` puts it there); the guest is spoken to by its serial console, QEMU by
QMP. It is emulated, so that it is the same everywhere.
"""

import json
import re
import shutil
import socket
import stat
import subprocess
import threading
import time
from collections import namedtuple

from harness import BIN, ROOT, die_with_parent, wait_for

KERNEL = ROOT / "build" / "tools" / "kernel"
# What the disk needs; what these need comes along.
DRIVERS = ["virtio_pci", "virtio_blk"]
KERNEL_OPTIONS = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic mitigations=off nokaslr audit=0 apparmor=0"

# One "at" line of the guest: when it was read here (time.monotonic), and what it says (see vm/guest.cpp).
Progress = namedtuple("Progress", "heard ms operations longest_us failed mismatches")


def missing():
    """What a virtual machine needs and is not here; "" when all is there."""
    if not shutil.which("qemu-system-x86_64"):
        return "no qemu-system-x86_64: install the Debian package qemu-system-x86"
    if not KERNEL.exists():
        return f"no {KERNEL}: unpack there the package that the Debian package linux-image-cloud-amd64 depends on"
    return ""


def modules_in_order(version, wanted):
    """The files of these kernel modules and of what they depend on, each after what it needs."""
    files = {f.name.split(".")[0].replace("-", "_"): f for f in (KERNEL / "lib" / "modules" / version).rglob("*.ko")}
    order = []
    def add(name):
        file = files.get(name)
        if file is None:
            raise AssertionError(f"the kernel {version} has no module {name}")
        for needed in re.search(rb"\0depends=([^\0]*)\0", file.read_bytes()).group(1).decode().split(","):
            if needed:
                add(needed.replace("-", "_"))
        if file not in order:
            order.append(file)
    for name in wanted:
        add(name)
    return order


def initramfs(to, entries):
    """A cpio archive of (path, mode, bytes or (major, minor))."""
    def entry(number, name, mode, content):
        device, data = (content, b"") if isinstance(content, tuple) else ((0, 0), content)
        name = name.encode() + b"\0"
        head = "070701" + "".join(f"{x:08x}" for x in (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0))
        out = head.encode() + name
        out += bytes(-len(out) % 4) + data
        return out + bytes(-len(data) % 4)
    all_of_it = [entry(i, *e) for i, e in enumerate(entries, 1)]
    to.write_bytes(b"".join(all_of_it) + entry(0, "TRAILER!!!", 0, b""))


class Guest:
    """What machines are started from. `options` are those of vm/guest.cpp: blocks=256, stride=65536, .."""

    def __init__(self, folder, **options):
        self.kernel, self.initrd = sorted(KERNEL.glob("boot/vmlinuz-*"))[-1], folder / "initrd"
        modules = modules_in_order(self.kernel.name.removeprefix("vmlinuz-"), DRIVERS)
        initramfs(self.initrd, [
            ("dev", stat.S_IFDIR | 0o755, b""), ("proc", stat.S_IFDIR | 0o755, b""),
            ("modules", stat.S_IFDIR | 0o755, b""), ("dev/console", stat.S_IFCHR | 0o600, (5, 1)),
            ("init", stat.S_IFREG | 0o755, (BIN / "varve_vm_guest").read_bytes()),
            ("modules/order", stat.S_IFREG | 0o644, "".join(f"{m.name}\n" for m in modules).encode()),
            *((f"modules/{m.name}", stat.S_IFREG | 0o644, m.read_bytes()) for m in modules)])
        self.command_line = " ".join([KERNEL_OPTIONS, *(f"varve.{k.replace('_', '-')}={v}" for k, v in options.items())])


class QmpError(AssertionError):
    pass


class Machine:
    """One QEMU process. `drive` is what goes behind -drive; more QEMU options as `extra`, e.g. "-incoming", "defer"."""

    def __init__(self, folder, name, guest, drive, *extra):
        self.name = name
        self.incoming = "-incoming" in extra
        self.lines, self.progress = [], []
        self.heard = threading.Condition()
        self.qmp_socket = folder / f"{name}.qmp"
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-name", name, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
             "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "128",
             "-kernel", str(guest.kernel), "-initrd", str(guest.initrd), "-append", guest.command_line,
             "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
             "-qmp", f"unix:{self.qmp_socket},server=on,wait=off", "-drive", drive, *extra],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=open(folder / f"{name}.err", "wb"),
            preexec_fn=die_with_parent)
        self.errors = folder / f"{name}.err"
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()
        self.qmp = self.connect()
        self.answers = self.qmp.makefile("rb")
        self.answer()  # the greeting
        self.send('{"execute": "qmp_capabilities"}')

    def connect(self):
        def attempt():
            self.check_runs()
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(str(self.qmp_socket))
            except OSError:
                s.close()
                return None
            s.settimeout(60)
            return s
        return wait_for(f"QMP of {self.name}", attempt, 30)

    def check_runs(self):
        if self.process.poll() is not None:
            raise AssertionError(f"QEMU {self.name} ended with {self.process.returncode}\n{self.tell()}")

    def tell(self, lines=30):
        """The last that was heard of it, for a failed test's report."""
        kept = [line for line in self.lines if " at " not in line]
        return "\n".join([f"--- {self.name}", *kept[-lines:], self.errors.read_text(errors="replace"), "---"])

    # -- QMP -----------------------------------------------------------------------------------------------------------

    def answer(self):
        """The next message that is no event."""
        while line := self.answers.readline():
            message = json.loads(line)
            if "event" not in message:
                return message
        raise QmpError(f"QMP of {self.name} has ended\n{self.tell()}")

    def send(self, words):
        """A command as QMP has it; what it returns."""
        self.qmp.sendall(words.encode() + b"\n")
        answer = self.answer()
        if "return" not in answer:
            raise QmpError(f"{self.name}: {words}: {answer}")
        return answer["return"]

    def quit(self, timeout=20):
        self.qmp.sendall(b'{"execute": "quit"}\n')
        if self.process.wait(timeout) != 0:
            raise AssertionError(f"QEMU {self.name} ended with {self.process.returncode}\n{self.tell()}")

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)

    # -- the guest -----------------------------------------------------------------------------------------------------

    def listen(self):
        for line in self.process.stdout:
            now = time.monotonic()
            text = line.decode(errors="replace").strip()
            # A line that was begun at one machine ends at the next one.
            if not line.endswith(b"\n"):
                break
            if self.incoming and not self.lines and not text.startswith("guest: "):
                text = ""
            with self.heard:
                self.lines.append(text)
                words = text.split()
                if words[:2] == ["guest:", "at"] and len(words) == 7:
                    self.progress.append(Progress(now, *(int(w) for w in words[2:])))
                self.heard.notify_all()

    def tell_guest(self, command):
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, command, answer, timeout=60):
        """Gives the guest a command, and waits for the line that begins so; what follows it there, and all lines since."""
        with self.heard:
            before = len(self.lines)
        self.tell_guest(command)
        return self.wait_line(answer, timeout, before)

    def wait_line(self, answer, timeout=60, since=0):
        begin = f"guest: {answer}"
        end = time.monotonic() + timeout
        with self.heard:
            while True:
                for at, line in enumerate(self.lines[since:], since):
                    if line.startswith(begin):
                        return line[len(begin):].strip(), self.lines[since:at + 1]
                self.check_runs()
                if not self.heard.wait(min(1.0, end - time.monotonic())) and time.monotonic() > end:
                    raise AssertionError(f"{self.name} has not said \"{answer}\" within {timeout} s\n{self.tell()}")

    def hold(self):
        """The guest stops working: {block: sequence of its last write}."""
        _, lines = self.ask("hold", "held")
        stamps = {}
        for line in lines:
            if line.startswith("guest: stamps "):
                first, *sequences = (int(w) for w in line.split()[2:])
                stamps.update({first + i: s for i, s in enumerate(sequences)})
        return stamps

    def wait_work(self, operations, timeout=60):
        """So many more operations are done."""
        began = self.progress[-1].operations if self.progress else 0
        def done():
            self.check_runs()
            return self.progress and self.progress[-1].operations >= began + operations
        try:
            wait_for(f"{operations} operations in {self.name}", done, timeout)
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.tell()}") from None

    def complaints(self):
        """What the guest or its kernel found wrong."""
        return [line for line in self.lines if line and " at " not in line and (
            not line.startswith("guest: ") or line.startswith(("guest: mismatch", "guest: failed", "guest: cannot")))]
