"""A virtual machine with a software RDMA device, which rdma-vm boots to run one program in."""

import os
import shutil
import subprocess

from harness import ROOT, die_with_parent

SCRIPT = ROOT / "tests" / "system" / "rdma-vm"
# `./run` has rdma-vm fetch its kernel here.
CACHE = ROOT / "build" / "tools"


class RdmaMachine:
    def __init__(self, timeout, transport="rxe"):
        self.timeout, self.transport = timeout, transport

    @staticmethod
    def missing():
        """What it needs and is not here; "" when all is there."""
        for program, package in [("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static"), ("cpio", "cpio"),
                                 ("zstd", "zstd"), ("xz", "xz-utils"), ("rdma", "iproute2"), ("modprobe", "kmod")]:
            if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
                return f"no {program}: install the Debian package {package}"
        if not os.path.isdir("/etc/libibverbs.d"):
            return "no drivers of RDMA devices: install the Debian package ibverbs-providers"
        if not any((CACHE / "rdma-vm").glob("*/version")):
            return f"no kernel: XDG_CACHE_HOME={CACHE} {SCRIPT} --prepare"
        return ""

    def run(self, program, *args, copy=(), device=False):
        """Runs it there; `device`: with the device's address, name and GID as options. What it said is in the result."""
        command = [SCRIPT, "--stderr", "--timeout", self.timeout, "--transport", self.transport]
        for x in copy:
            command += ["--copy", x]
        if device:
            # Only the machine knows them.
            command += ["--copy", program, "/bin/sh", "-c",
                        f'exec {program} --address "$RDMA_VM_ADDR" --device "$RDMA_VM_DEV" --gid "$RDMA_VM_GID" "$@"', "sh"]
        else:
            command.append(program)
        return subprocess.run([str(x) for x in (*command, *args)], capture_output=True, text=True, timeout=self.timeout + 120,
                              preexec_fn=die_with_parent, env={**os.environ, "XDG_CACHE_HOME": str(CACHE)})
