"""fio with verification on a volume whose server comes and goes.

fio's NBD engine gives up at the first lost connection: so it goes through QEMU's NBD client, as a VM would.
"""

import subprocess
import threading

from harness import die_with_parent, fio, wait_for

# Of one run: what it writes it reads back and compares at its end.
WRITES, RATE = 300, 30


class Verifier:
    """Runs fio again and again in a range of the volume, until `finish`."""

    def __init__(self, folder, name, socket, offset, size):
        self.folder = folder / f"fio-{name}"
        self.folder.mkdir()
        relay = self.folder / "relay.sock"
        self.relay = subprocess.Popen(
            ["qemu-nbd", "--persistent", "--cache=none", "-k", str(relay), "-x", name, "--image-opts",
             f"driver=raw,file.driver=nbd,file.server.type=unix,file.server.path={socket},file.export={name},"
             "file.reconnect-delay=600"], preexec_fn=die_with_parent)
        wait_for("qemu-nbd", relay.exists)
        self.uri = f"nbd+unix:///{name}?socket={relay}"
        self.range = [f"--offset={offset}", f"--size={size}"]
        self.stop = threading.Event()
        self.trouble, self.runs, self.writes, self.reads = None, 0, 0, 0
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        try:
            while not self.stop.is_set():
                report = fio(self.folder, self.uri, "--rw=randwrite", "--bs=4k", f"--io_size={WRITES * 4}k", f"--rate_iops={RATE}",
                             "--iodepth=4", "--verify=crc32c", "--verify_fatal=1", *self.range, timeout=600)
                self.runs += 1
                self.writes += report["jobs"][0]["write"]["total_ios"]
                self.reads += report["jobs"][0]["read"]["total_ios"]
        except BaseException as e:  # told by finish()
            self.trouble = e

    def finish(self, timeout):
        """The run that is under way ends first; raises what was wrong."""
        self.stop.set()
        self.thread.join(timeout)
        if self.trouble:
            raise self.trouble
        if self.thread.is_alive():
            raise AssertionError(f"{self.uri}: fio hangs")

    def close(self):
        self.relay.kill()
        self.relay.wait()
