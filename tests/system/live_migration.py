#!/usr/bin/python3
"""A virtual machine moves between two hosts while it writes and verifies its disk, as README says that it is done."""

import collections
import re
import sys
import unittest

sys.dont_write_bytecode = True
import stamping
import virtual_machine
from cluster import ClusterTest
from cluster_nodes import free_ports
from harness import MIB, ROOT, main, wait_for
from virtual_machine import Guest, Machine

NODES = {"node1": ["manager", "host"], "node2": ["host"], "node3": ["storage"]}
# Sixteen shards of 4 MiB, sixteen blocks in each.
VOLUME_BYTES, SHARD_BYTES, STRIDE, BLOCKS = 64 * MIB, 4 * MIB, 256 * 1024, 256
SHARDS = VOLUME_BYTES // SHARD_BYTES
SECTION = "Moving a VM between hosts"
# A lease that has to be waited for until its holder is fenced ([lease] grace), or until it ends, takes longer.
PAUSE_SECONDS = 4.0


def say(text):
    print(text, file=sys.stderr, flush=True)


def steps_of_readme():
    """[(node, "$" or ">", command)] of the section's block: lines of a shell at the node, and of its QEMU's QMP."""
    text = (ROOT / "README.md").read_text()
    section = text.split(f"## {SECTION}\n")[1].split("\n## ")[0]
    found = re.findall(r"^    (node\d)([$>]) (.*?)(?: +#.*)?$", section, re.M)
    if not found:
        raise AssertionError(f"README.md: nothing to do under {SECTION}")
    return found


class live_migration(ClusterTest):
    time_limit = 400

    def setUp(self):
        super().setUp()
        if trouble := virtual_machine.missing():
            self.fail(trouble)
        self.machines = []
        self.addCleanup(lambda: [m.close() for m in self.machines])

    def tell(self):
        super().tell()
        for m in self.machines:
            sys.stderr.write(m.tell() + "\n")

    # -- a move, by the book -------------------------------------------------------------------------------------------

    def drive(self, attached):
        """The -drive option that `volume attach` prints for people."""
        return re.search(r"-drive (\S+)", attached.stderr).group(1)

    def machine(self, name, drive, *options):
        self.machines.append(Machine(self.folder, name, self.guest, drive, *options))
        return self.machines[-1]

    def move(self, vm, source, target, name, during=lambda: None):
        """Moves the machine `vm` from the node `source` to `target`, step by step as README says of node1 and node2; the new
        QEMU. `during` is called when the VM runs at the target, and before the steps that clean up at the source."""
        names = {"node1": source.name, "node2": target.name}
        port = str(free_ports(1)[0])
        at = {source.name: vm}
        attached = None
        for node, prompt, command in steps_of_readme():
            here = names[node]
            command = re.sub(r"\bnode[12]\b", lambda m: names[m.group()], command).replace("4444", port)
            say(f"  {here}{prompt} {command}")
            if prompt == ">":
                # The name of a host, as its network has it.
                words = re.sub(r"tcp:node\d:", "tcp:127.0.0.1:", command)
                if "query-migrate" in words:
                    self.wait_moved(at[here], words)
                    during()
                elif '"quit"' in words:
                    at[here].quit()
                else:
                    at[here].send(words)
            elif command.startswith("varve "):
                done = self.cluster_of_test[here].varve(*command.split()[1:])
                attached = done if " attach " in command else attached
            elif command.startswith("qemu-system-x86_64 "):
                words = command.split()
                self.assertEqual(words[-2:], ["-incoming", "defer"])
                at[here] = self.machine(name, self.drive(attached), *words[-2:])
            else:
                self.fail(f"README.md: who does \"{command}\"?")
        return at[target.name]

    def wait_moved(self, vm, query):
        def status():
            self.moved = vm.send(query)
            if self.moved["status"] in ("failed", "cancelled"):
                self.fail(f"the migration ended: {self.moved}\n{vm.tell()}")
            return self.moved["status"] == "completed"
        wait_for("the VM to have moved", status, 60, 0.01)

    def report_pause(self, before, after):
        """How long the guest's I/O paused, seen from outside; asserts that it did not wait for leases to end."""
        wait_for("the guest to be heard", lambda: after.progress, 30, 0.05)
        last = before.progress[-1].heard
        following = [p for p in after.progress if p.heard < after.progress[0].heard + 2]
        pause = following[0].heard - last
        downtime = self.moved["downtime"] / 1000
        slowest = max(p.longest_us for p in following) / 1e6
        say(f"  moved {self.moved['ram']['transferred'] / MIB:.1f} MiB of RAM in {self.moved['total-time']} ms; I/O paused for "
            f"{pause * 1000:.0f} ms, while QEMU had stopped the VM for {downtime * 1000:.0f} ms of them; the slowest request of "
            f"the 2 s from then on took {slowest * 1000:.1f} ms of the guest's time")
        self.assertGreaterEqual(following[0].operations, before.progress[-1].operations)
        self.assertLess(pause - downtime, PAUSE_SECONDS)
        self.assertLess(slowest, PAUSE_SECONDS)

    # -- what is seen --------------------------------------------------------------------------------------------------

    def check_clean(self):
        for m in self.machines:
            self.assertEqual(m.complaints(), [], m.name)
            if m.progress:
                self.assertEqual((m.progress[-1].failed, m.progress[-1].mismatches), (0, 0), m.name)

    def leases(self, node):
        """{host: {mode: shards}} of shards that exist."""
        found = collections.defaultdict(lambda: collections.defaultdict(set))
        for x in node.rows("lease", "ls", "vm1"):
            if x["tier"]:
                found[x["host"]][x["mode"]].add(x["shard"])
        return found

    def wait_leases(self, node, host):
        """Every shard is leased for writing at this host, and to nobody else."""
        all_of_them = {host: {"write": set(range(SHARDS))}}
        wait_for(f"the leases to be at {host}", lambda: self.leases(node) == all_of_them, 30, 0.1)

    def assert_given_by_word(self, node):
        """Whoever gave a lease back did so because it was asked, and nobody was shut out or waited for."""
        told = collections.Counter(e["what"] for i in range(SHARDS) for e in node.json("lease", "show", "vm1", i)["events"])
        self.assertEqual(told["expired"] + told["broken"], 0, told)
        say(f"  leases until now: {dict(told)}")

    def assert_on_volume(self, uri, stamps, name):
        """Read from outside, by another client, each block is what the guest wrote last."""
        logs = self.folder / name
        stamping.sweep(uri, logs, volume=1, writer=1000, blocks=BLOCKS, stride=STRIDE)
        [log] = stamping.logs_of(logs)
        self.assertEqual({b: s.sequence for b, s in stamping.found_by(log).items()}, stamps)

    def operations(self, node, op):
        return node.metric("varve_volume_io_operations_total", op=op)

    # -- the test ------------------------------------------------------------------------------------------------------

    def test_a_vm_moves_to_another_host_and_back_while_it_verifies_its_disk(self):
        c = self.cluster_of_test = self.cluster(nodes=NODES)
        c.up()
        one, two, _ = c.nodes.values()
        one.varve("volume", "create", "vm1", "--size", VOLUME_BYTES, "--shard-size", SHARD_BYTES, "--tier", "t3")
        self.guest = Guest(self.folder, volume=1, blocks=BLOCKS, stride=STRIDE)
        first = self.machine("first", self.drive(one.varve("volume", "attach", "vm1", "--host", "node1")))
        first.wait_line("ready", 90)
        first.ask("fill", "filled")
        self.assertEqual(len(one.rows("shard", "ls", "vm1")), SHARDS)
        first.ask("go", "going")
        first.wait_work(1000)
        self.wait_leases(one, "node1")

        say("begun and cancelled: it stays where it is")
        two_attached = one.varve("volume", "attach", "vm1", "--host", "node2", "--shared")
        nowhere = self.machine("nowhere", self.drive(two_attached), "-incoming", "defer")
        uri = f"unix:{self.folder}/m"
        nowhere.send(f'{{"execute": "migrate-incoming", "arguments": {{"uri": "{uri}"}}}}')
        first.send('{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 100000}}')
        first.send(f'{{"execute": "migrate", "arguments": {{"uri": "{uri}"}}}}')
        first.wait_work(1000)
        first.send('{"execute": "migrate_cancel"}')
        wait_for("the end of it", lambda: first.send('{"execute": "query-migrate"}')["status"] == "cancelled", 20)
        first.send('{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 1000000000}}')
        nowhere.close()
        one.varve("volume", "detach", "vm1", "--host", "node2")
        first.wait_work(1000)
        self.wait_leases(one, "node1")
        self.check_clean()

        say("under load, from node1 to node2")
        def arrived():
            # Before anything is cleaned up at the source: whoever runs now gets what it needs from who has it.
            self.machines[-1].wait_work(1000)
            self.wait_leases(one, "node2")
            self.at_source = self.operations(one, "write")
        second = self.move(first, one, two, "second", arrived)
        self.report_pause(first, second)
        self.assertEqual([a["host"] for a in one.json("volume", "show", "vm1")["attachments"]], ["node2"])
        second.wait_work(1000)
        self.assertGreater(self.operations(two, "write"), 500)
        self.check_clean()

        say("from outside, while the guest holds")
        stamps = second.hold()
        volume = one.attach("vm1", "--shared")
        self.assert_on_volume(volume.uri, stamps, "outside")
        one.varve("volume", "detach", "vm1", "--host", "node1")

        say("at rest, from node2 to node1: each block is read there before any is written")
        def verify():
            self.assertEqual(self.machines[-1].ask("sweep", "swept")[0], "0")
        third = self.move(second, two, one, "third", verify)
        self.check_clean()
        third.ask("go", "going")
        third.wait_work(2000)
        self.wait_leases(one, "node1")

        say("under load, from node1 to node2 and at once back again")
        fourth = self.move(third, one, two, "fourth")
        self.report_pause(third, fourth)
        fifth = self.move(fourth, two, one, "fifth")
        self.report_pause(fourth, fifth)
        fifth.wait_work(1000)
        self.wait_leases(one, "node1")
        self.assert_given_by_word(one)
        self.check_clean()

        say("from outside, when the guest has ended")
        stamps = fifth.hold()
        uri = one.json("volume", "show", "vm1")["uri"]
        self.assert_on_volume(uri, stamps, "end")
        self.assertGreater(sum(stamps.values()), 3000)
        self.check_clean()

        say("and a block that somebody changed behind the guest's back is seen")
        self.change_block(uri, 77)
        self.assertEqual(fifth.ask("sweep", "swept")[0], "1")
        self.assertRegex(fifth.complaints()[0], "mismatch: block 77: ")
        fifth.tell_guest("stop")
        self.assertEqual(fifth.process.wait(30), 0)

    def change_block(self, uri, block):
        import nbd
        handle = nbd.NBD()
        handle.connect_uri(uri)
        data = handle.pread(4096, block * STRIDE)
        handle.pwrite(data[:2048] + bytes(512) + data[2560:], block * STRIDE)
        handle.shutdown()


if __name__ == "__main__":
    main()
