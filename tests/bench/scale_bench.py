"""A simulated cluster of a thousand nodes, up to ten million shards in its catalog and a million live leases.

Production's actors on every node, in virtual time and one thread; the catalog is SQLite on the disk, on its own thread
as ever; each message between two nodes is serialised. Of the data path there are only headers of shards, in files: no
VM reads or writes. One node manages, each other one has a tier and hosts one VM.

    place          the VMs' volumes are made and all their shards: placed, made on their tiers, recorded in the catalog
    start nodes    each reads what its tier has, in a new process
    start manager  until all nodes are up, all shards known, each tier has said what is leased, and leftovers are swept
    lease          each VM's agent gets the leases of a tenth of its shards, to write
    keep alive     15 s of the cluster's time: one keep-alive of each holder, renewed by all tiers it has leases on
    fail a node    kill -9; found suspect and down, the leases on its tier end, all others ask again for theirs and are renewed
    take over      the lost node's VM is started at another: its leases end by force, and are granted under higher epochs

Times are of the wall's clock, for the work of all thousand nodes on one processor (and SQLite's on another), whatever
time passes in the cluster meanwhile. Memory is that of the process: all nodes together.
"""

import json
import os
import shutil
import subprocess

import harness

SIZES = [10_000, 100_000, 1_000_000, 10_000_000]
SPREAD = 2.6  # what a step may take of more than its share when there is a thousand times as much


def arguments(parser):
    parser.add_argument("--sizes", type=lambda x: [int(n) for n in x.split(",")], default=SIZES, help="shards, in rising order")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)


def drive(what, folder, shards, options):
    done = subprocess.run([harness.BIN / "scale_bench", what, "--folder", folder, "--shards", str(shards),
                           "--nodes", str(options.nodes), "--seed", str(options.seed)],
                          capture_output=True, text=True, timeout=7200)
    if done.returncode != 0:
        raise RuntimeError(f"scale_bench {what} {shards}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(report, options, folder):
    steps, memory, rest = {}, {}, {}
    # As seen on a slow machine: 5 minutes for a million shards and proportional to them, half a minute at least.
    report.say(f"about {max(1, round(sum(options.sizes) / 200_000))} minutes; --sizes chooses others")
    for shards in options.sizes:
        place = folder / f"scale-{shards}"
        os.makedirs(place)
        for what in ("place", "live"):
            report.say(f"{shards} shards: {what}")
            result = drive(what, place, shards, options)
            for step in result["steps"]:
                steps.setdefault(step["name"], {})[shards] = step
            for name, used in result["memory"].items():
                if name != "most":
                    memory.setdefault(name, {})[shards] = used
                else:
                    memory.setdefault("most", {})[shards] = max(used, memory.get("most", {}).get(shards, 0))
            rest.setdefault(shards, {})[what] = result
        shutil.rmtree(place, ignore_errors=True)
        os.sync()
    first, last = options.sizes[0], options.sizes[-1]
    report.figures["runs"] = rest
    report.table("", *(f"{n:,}" for n in options.sizes), "last / first")
    for name, by_size in steps.items():
        ratio = by_size[last]["seconds"] / by_size[first]["seconds"]
        report.row(f"{name}, s", *(f"{by_size[n]['seconds']:.2f}" for n in options.sizes), f"{ratio:.0f}")
    for name, by_size in memory.items():
        report.row(f"memory: {name}, MiB", *(f"{by_size[n] / 2**20:.0f}" for n in options.sizes), "")
    for name in ("storage", "manager"):
        report.row(f"bytes of an idle shard: {name}",
                   *(f"{rest[n]['live']['bytes_per_idle_shard'][name]:.0f}" for n in options.sizes), "")
    report.row("bytes of a live lease: all", *(f"{rest[n]['live']['bytes_per_live_lease']:.0f}" for n in options.sizes), "")
    largest = rest[last]["live"]
    report.note(f"{largest['nodes']:,} nodes, {last:,} shards, {last // 10:,} leases: the lost node was suspect after "
                f"{largest['suspect_ms']} ms and down after {largest['down_ms']} ms of the cluster's time; "
                f"{largest['expired']:,} leases expired, {largest['leases_left']:,} were left")
    if len(options.sizes) < 2:
        return
    for name, by_size in steps.items():
        report.bar(f"{name}: t({last:,}) / t({first:,})", by_size[last]["seconds"] / by_size[first]["seconds"], "<=",
                   SPREAD * last / first)
