"""kill -9 at many random moments: every acknowledged write must be there."""

import sys

import harness


def arguments(parser):
    parser.add_argument("--moments", type=int, default=500)
    parser.add_argument("--seed", type=int)


def measure(report, options, folder):
    script = harness.ROOT / "tests" / "system" / "crash.py"
    seed = ["--seed", options.seed] if options.seed is not None else []
    report.say(f"{options.moments} moments, about half a minute for each 50")
    done = harness.run("/usr/bin/python3", "-B", script, "--moments", options.moments, *seed, "crash", timeout=7200, check=False)
    print(done.stderr, file=sys.stderr)
    for line in done.stdout.splitlines():
        report.note(line)
    report.figures["passed"] = done.returncode == 0
    report.bar(f"runs that lost something, of {options.moments} moments", 0 if done.returncode == 0 else 1, "<=", 0)
