"""Processor time of a node with attached volumes that nobody uses."""

import time

import harness
from harness import MIB
from nbd_client import Client


def arguments(parser):
    parser.add_argument("--volumes", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30)


def measure(report, options, folder):
    node = harness.Node(folder / "node").start()
    try:
        clients = []
        for i in range(options.volumes):
            volume = node.volume(f"vm{i}", "10GiB")
            # Connected and used once, as VMs are: leases are held and renewed while this measures.
            clients.append(Client(volume.socket, f"vm{i}"))
            for shard in range(4):
                clients[-1].write(shard * 4 * MIB, b"x" * 65536)
        report.say("waiting until checkpoints are made")
        time.sleep(8)
        used, began = node.cpu_seconds(), time.monotonic()
        time.sleep(options.seconds)
        share = (node.cpu_seconds() - used) / (time.monotonic() - began) * 100
        report.figures.update(cpu_percent=share, memory_bytes=node.memory_bytes(), volumes=options.volumes)
        report.note(f"{options.volumes} attached volumes, {options.seconds:g} s: {share:.2f} % of a core, "
                    f"{node.memory_bytes() / MIB:.0f} MiB resident")
        report.bar("idle processor time, % of a core", share, "<", 1.0)
    finally:
        node.close()
