"""Managers killed and stopped beside a VM: how long until another leads, and what the VM notices.

Three nodes, the catalog in etcd (its data on this disk, fsync on), two managers; the VM and its shards at the third node,
4 KiB reads and writes at a fixed rate under leases that hold (45 s).
"""

import random
import shutil
import unittest

import failover_run
from bench import median
from network import Loopback


def arguments(parser):
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--stops", type=int, default=2, help="SIGSTOP until another leads, then SIGCONT")
    parser.add_argument("--rate", type=int, default=500, help="requests a second")
    parser.add_argument("--quiet", type=float, default=10, help="seconds without faults, for comparison")
    parser.add_argument("--namespaces", action="store_true", help="each node in a network namespace, instead of loopback")
    parser.add_argument("--seed", type=int)


def measure(report, options, folder):
    if not shutil.which("etcd"):
        report.note("not run: no etcd; install or unpack the Debian package etcd-server")
        report.bar("runs that could be made", 0, ">=", 1)
        return
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    try:
        trial = failover_run.Failover(folder, seed, report.say, None if options.namespaces else Loopback(), options.rate)
    except unittest.SkipTest as e:
        report.note(f"not run: {e}")
        report.bar("runs that could be made", 0, ">=", 1)
        return
    took, stale = [], 0
    try:
        trial.start()
        trial.begin_io()
        trial.quiet(options.quiet)
        for i in range(options.kills):
            took.append(trial.kill_and_restart())
            report.say(f"kill {i + 1}: another leads after {took[-1]['leads']:.2f} s, makes a volume after {took[-1]['serves']:.2f} s")
        for i in range(options.stops):
            times, done = trial.freeze_and_thaw()
            took.append(times)
            stale += done
            report.say(f"stop {i + 1}: another leads after {times['leads']:.2f} s; the deposed one's answer: {'done' if done else 'refused'}")
        waits, done, history = trial.finish()
    except BaseException:
        for node in trial.cluster.nodes:
            report.say(node.log_end())
        raise
    finally:
        trial.close()
    longest = {}
    for what, seconds in waits:
        longest.setdefault(what, []).append(seconds)
    report.table("while", "times", "longest wait, ms", "median of these")
    for what, all_of in longest.items():
        report.row(what, len(all_of), f"{max(all_of) * 1000:.1f}", f"{median(all_of) * 1000:.1f}")
    report.figures.update(seed=seed, took=took, waits=waits, requests=done["reads"] + done["writes"], failed=done["failed"],
                          operations=history["operations"])
    report.note(f"{done['reads'] + done['writes']} requests, {done['failed']} failed, {done['lost']} interrupted; every block a register")
    report.note("a volume is made again after " + ", ".join(f"{t['serves']:.2f}" for t in took) + " s")
    report.bar("longest until another leads, s", max(t["leads"] for t in took), "<=", failover_run.LEAD_BAR)
    beside = [s for what, all_of in longest.items() if what != "nothing" for s in all_of]
    report.bar("longest wait of the VM's, s", max(beside), "<=", failover_run.PAUSE_BAR)
    report.bar("requests that failed", done["failed"] + done["lost"], "<=", 0)
