#!/usr/bin/python3
"""./run check: formatting, include floors, README commands, whole headers, lint.

    ./run check [--all] [--seconds N]    clang-tidy looks at what differs from the last commit's parent, or at everything;
                                         after N seconds (300) it stops and says how far it came
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
# DESIGN section 3: a file includes its own floor or below. Programs and their parts (runtime/varved.cpp,
# runtime/varved_*) are the top floor.
FLOORS = {"learning": 0, "rdma": 0, "messages": 1, "runtime": 2, "actors": 3, "tests": 5}
PROGRAM_FLOOR = 4
# Same floor, but these know nothing of each other.
STRANGERS = ({"learning", "rdma"},)


def tracked(*patterns):
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard", "--", *patterns], cwd=ROOT, capture_output=True,
                         text=True, check=True).stdout
    return [p for p in out.splitlines() if (ROOT / p).exists()]


def sources():
    return tracked("*.cpp", "*.hpp")


def floor_of(path):
    parts = pathlib.PurePath(path).parts
    if len(parts) == 2 and parts[0] == "runtime" and re.match(r"varved?(_\w+)?\.", parts[1]):
        return PROGRAM_FLOOR
    return FLOORS.get(parts[0])


def check_floors(files=None, read=lambda p: (ROOT / p).read_text()):
    wrong = []
    for path in files if files is not None else sources():
        mine, top = floor_of(path), pathlib.PurePath(path).parts[0]
        for number, line in enumerate(read(path).splitlines(), 1):
            found = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not found:
                continue
            target = found.group(1)
            other = pathlib.PurePath(target).parts[0]
            place = f"{path}:{number}: "
            if target.startswith(("./", "../")):
                wrong.append(place + f"{target}: includes name the path from the top")
            if other not in FLOORS or len(pathlib.PurePath(target).parts) < 2:
                if top in ("learning", "rdma") and other in ("caf", "capnp", "kj"):
                    wrong.append(place + f"{top}/ knows nothing of {other}")
                continue
            if mine is not None and floor_of(target) > mine:
                wrong.append(place + f"{target} is upstairs (floor {floor_of(target)}, this is {mine})")
            if any(top != other and {top, other} <= s for s in STRANGERS):
                wrong.append(place + f"{top}/ and {other}/ know nothing of each other")
    return wrong


def check_format():
    files = sources()
    done = subprocess.run(["clang-format-14", "--dry-run", "-Werror", *files], cwd=ROOT, capture_output=True, text=True)
    return [l for l in done.stderr.splitlines() if "error:" in l] if done.returncode else []


def check_headers():
    return [f"{p}: no #pragma once" for p in tracked("*.hpp") if "#pragma once" not in (ROOT / p).read_text()]


def check_readme():
    """Every command of a README block names a verb of ./run that exists, or a verb of the programs' own help, and every
    file that it names is there."""
    text = (ROOT / "README.md").read_text()
    wrong = []
    usage = subprocess.run(["./run", "--help"], cwd=ROOT, capture_output=True, text=True).stdout
    known = set(re.findall(r"\./run (\w+)", usage))
    for verb in set(re.findall(r"\./run (\w+)", text)):
        if verb not in known:
            wrong.append(f"README.md: ./run {verb} does not exist")
    for benchmark in set(re.findall(r"\./run bench ([a-z]+)", text)):
        if not (ROOT / "tests" / "bench" / f"{benchmark}_bench.py").exists():
            wrong.append(f"README.md: ./run bench {benchmark} does not exist")
    binary = ROOT / "build" / "release" / "bin" / "varve"
    blocks = "\n".join(re.findall(r"(?:^    .*\n)+|```.*?```", text, re.M | re.S))
    for noun, verb in sorted(set(re.findall(r"\bvarve (?:--[\w-]+ )*([a-z]+)(?: ([a-z]+(?:-[a-z]+)*))?", blocks))):
        if not binary.exists():
            wrong.append(f"{binary} is not built")
            break
        def helps(*words):
            return subprocess.run([binary, *words, "--help"], capture_output=True, timeout=20).returncode == 0
        if not helps(noun):
            wrong.append(f"README.md: varve {noun} does not exist")
        elif verb and not helps(noun, verb) and not re.search(rf"varve {noun} {verb}\b(?=.*volume)", blocks):
            wrong.append(f"README.md: varve {noun} {verb} does not exist")
    for path in set(re.findall(r"\b(?:configs|tests|runtime|actors|messages|cmake)/[\w./@-]*\w", text)):
        if not (ROOT / path).exists():
            wrong.append(f"README.md: {path} does not exist")
    return wrong


def check_machine_paths():
    done = subprocess.run(["git", "grep", "-nIE", r"(^|[^A-Za-z0-9_.])/(work|farm|root)/", "--", "."], cwd=ROOT,
                          capture_output=True, text=True)
    return [l for l in done.stdout.splitlines() if not l.startswith("tests/check/check.py:")]


def check_tidy(all_files, seconds):
    database = ROOT / "build" / "release" / "compile_commands.json"
    if not database.exists():
        return ["build/release/compile_commands.json is not there: ./run build"]
    entries = json.loads(database.read_text())
    compiled = {os.path.relpath(e["file"], ROOT) for e in entries}
    # A precompiled header of GCC lies beside its source, and clang would stop at it before the file itself: it gets a copy
    # of the source.
    readable = ROOT / "build" / "check"
    readable.mkdir(exist_ok=True)
    def copied(match):
        source = pathlib.Path(match[1])
        copy = readable / (source.parent.parent.name + "-" + source.parent.name.removesuffix(".dir") + ".hxx")
        copy.write_text(source.read_text())
        return f" -include {copy}"
    for e in entries:
        e["command"] = re.sub(r" -include (\S+cmake_pch\.hxx)", copied, e["command"]).replace(" -Winvalid-pch", "")
        e["command"] = re.sub(r"(?<!\S)ccache ", "", e["command"])
    (readable / "compile_commands.json").write_text(json.dumps(entries))
    if all_files:
        wanted = compiled
    else:
        changed = subprocess.run(["git", "diff", "--name-only", "HEAD~1"], cwd=ROOT, capture_output=True, text=True).stdout
        wanted = set(changed.splitlines()) & compiled
    files = sorted(p for p in wanted if not p.startswith(("build/", "..")))
    began, wrong, looked_at = time.monotonic(), [], 0
    def tidy(path):
        left = seconds - (time.monotonic() - began)
        if left <= 0:
            return None
        # The compiler of the database is GCC: what clang does not know of its flags is no finding; and clang 14 has
        # coroutines, but does not say so in the way that this standard library asks for.
        done = subprocess.run(["clang-tidy-14", "-p", readable, "--quiet", "--extra-arg=-Wno-unknown-warning-option",
                               "--extra-arg=-D__cpp_impl_coroutine=201902L", str(ROOT / path)], capture_output=True, text=True)
        found = [l for l in done.stdout.splitlines() if re.search(r"(^|: )(warning|error): ", l)]
        return found or ([f"{path}: clang-tidy could not read it: {done.stderr[-200:]}"] if done.returncode else [])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(tidy, files):
            if found is not None:
                looked_at += 1
                wrong += found
    print(f"  clang-tidy looked at {looked_at} of {len(files)} files", file=sys.stderr)
    return sorted(set(wrong))


def self_test():
    """A checker that finds nothing may be one that sees nothing."""
    text = {"rdma/a.cpp": '#include "messages/b.hpp"\n', "messages/b.hpp": '#include <caf/all.hpp>\n#include "runtime/c.hpp"\n',
            "runtime/x/c.cpp": '#include "actors/d.hpp"\n', "runtime/varved.cpp": '#include "actors/d.hpp"\n',
            "runtime/varved_a.hpp": '#include "actors/d.hpp"\n', "runtime/g.hpp": '#include "runtime/varved_a.hpp"\n',
            "rdma/e.hpp": "#include <caf/all.hpp>\n", "learning/f.cpp": '#include "rdma/a.hpp"\n'}
    found = {w.split(":")[0] for w in check_floors(list(text), text.__getitem__)}
    expected = {"rdma/a.cpp", "messages/b.hpp", "runtime/x/c.cpp", "runtime/g.hpp", "rdma/e.hpp", "learning/f.cpp"}
    return [] if found == expected else [f"the floor checker sees {sorted(found)} instead of {sorted(expected)}"]


def main():
    options = argparse.ArgumentParser(prog="./run check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--all", action="store_true")
    options.add_argument("--seconds", type=float, default=300)
    chosen = options.parse_args()
    checks = {"formatting": check_format, "include floors": check_floors, "the floor checker itself": self_test,
              "headers": check_headers, "README": check_readme, "paths of one machine": check_machine_paths,
              "lint": lambda: check_tidy(chosen.all, chosen.seconds)}
    failed = False
    for name, check in checks.items():
        wrong = check()
        print(f"{'ok  ' if not wrong else 'BAD '} {name}", flush=True)
        for line in wrong[:40]:
            print(f"       {line}")
        if len(wrong) > 40:
            print(f"       and {len(wrong) - 40} more")
        failed = failed or bool(wrong)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
