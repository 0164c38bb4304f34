#!/usr/bin/env python3
"""What bfloat16 and other instruction sets do to verdicts: one command, one table.

usage: tests/peers/precision.py --findings datasets/check/check-v1.jsonl [--ways 1 4] [--output FILE.md]

Runs `triage --variant PE-SC --analysis none` once for each way to compute and compares probabilities with exact float32's. The logit is
that of P(1) against P(0); a verdict is lost where the label differs although |p - 0.5| exceeds the largest difference of p.
Ways that this machine cannot go are left out; the first that it can is float32.
"""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WAYS = [
    ("f32, AVX-512", "f32", "avx512bf16"),
    ("bf16, AVX-512 BF16", "bf16", "avx512bf16"),
    ("f32, AVX2", "f32", "avx2"),
    ("bf16, AVX2", "bf16", "avx2"),
    ("int8, AVX-512 VNNI", "int8", "avx512bf16"),
    ("bf16, AMX", "bf16", "amx"),
    ("int8, AVX2", "int8", "avx2"),
]
# What Linux calls the instruction sets.
FLAGS = {"avx512bf16": "avx512_bf16", "avx2": "avx2", "amx": "amx_bf16"}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--findings", type=pathlib.Path, required=True)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--ways", nargs="*", type=int, help="which of the ways beside the first")
    args = parser.parse_args()
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    found = {}
    flags = pathlib.Path("/proc/cpuinfo").read_text().split()
    can = [at for at, (_, _, isa) in enumerate(WAYS) if FLAGS[isa] in flags]
    ways = [WAYS[at] for at in can if at == can[0] or args.ways is None or at in args.ways]
    for name, precision, isa in ways:
        start = time.perf_counter()
        command = [target / "release/triage", "--variant", "PE-SC", "--analysis", "none", "--precision", precision, "--output-format", "jsonl", args.findings]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"JANUS_ISA": isa})
        if done.returncode > 1:
            raise SystemExit(done.stderr)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        print(f"{name}: {len(rows)} findings", file=sys.stderr, flush=True)
        found[name] = (rows, time.perf_counter() - start)
    exact = found[ways[0][0]][0]
    logit = lambda verdict: math.log(verdict["p_vulnerable"] / (1 - verdict["p_vulnerable"]))
    lines = ["| way | seconds | largest difference of the logit | of p | labels that differ | beyond that difference |", "|---|---|---|---|---|---|"]
    for name, (verdicts, seconds) in found.items():
        pairs = list(zip(exact, verdicts, strict=True))
        of_logit = max(abs(logit(a) - logit(b)) for a, b in pairs)
        of_p = max(abs(a["p_vulnerable"] - b["p_vulnerable"]) for a, b in pairs)
        differ = [a for a, b in pairs if a["verdict"] != b["verdict"]]
        lost = sum(abs(a["p_vulnerable"] - 0.5) > of_p for a in differ)
        lines.append(f"| {name} | {seconds:.0f} | {of_logit:.1e} | {of_p:.1e} | {len(differ)} of {len(pairs)} | {lost} |")
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n")


main()
