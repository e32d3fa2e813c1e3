"""Three nodes, six volumes, and ten minutes of kill -9, SIGSTOP, restarts, cuts and delays, from a seed; all is verified."""

import random
import unittest

import chaos_run


def arguments(parser):
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int)


def measure(report, options, folder):
    seed = options.seed if options.seed is not None else random.randrange(1 << 30)
    report.say(f"seed {seed}")
    report.note(f"seed {seed}: ./run bench chaos --seed {seed} --seconds {options.seconds:g}")
    try:
        trial = chaos_run.Chaos(folder, options.seconds, seed, report.say)
    except unittest.SkipTest as e:
        report.say(str(e))
        report.note(f"not run: {e}")
        report.bar("runs that could be made", 0, ">=", 1)
        return
    wrong = None
    took = chaos_run.RECOVERY_SECONDS
    try:
        trial.start()
        trial.run()
        took = trial.recover()
        trial.verify()
    except AssertionError as e:
        wrong = str(e)
        report.say(wrong)
        for node in trial.cluster.nodes:
            report.say(node.log_end())
    finally:
        trial.close()
    result = chaos_run.stamping.check(trial.logs)
    stalls = trial.stalls()
    report.figures.update(seed=seed, faults=len(trial.faults), recovery_seconds=round(took, 1), wrong=wrong,
                          fio_runs=sum(v.runs for v in trial.verifiers), fio_reads=sum(v.reads for v in trial.verifiers),
                          longest_stall_seconds=round(stalls[0][0], 3) if stalls else 0,
                          **{k: result[k] for k in ("operations", "blocks", "reads", "writes", "failed", "lost", "unanswered")})
    report.table("fault", "host", "home", "longest wait, s")
    for seconds, what, host, home in stalls[:8]:
        report.row(what, f"node{host}", f"node{home}", f"{seconds:.2f}")
    report.note(f"{len(trial.faults)} faults; {result['operations']} operations on {result['blocks']} blocks; interrupted: "
                f"{result['lost']}; answered with an error: {result['failed']}; fio found {report.figures['fio_reads']} blocks as written")
    report.note(f"all was served again {took:.1f} s after the faults ended")
    report.bar("blocks that are no register", len(result["violations"]), "<=", 0)
    report.bar("longest wait beside a fault, s", stalls[0][0] if stalls else 0, "<", chaos_run.STALL_BAR)
    report.bar("recovery, s", took, "<", chaos_run.RECOVERY_SECONDS)
    report.bar("other things that went wrong", 1 if wrong else 0, "<=", 0)
