#!/usr/bin/env python3
"""Compares speed and memory with other implementations: one command, one table.

usage: tests/peers/run.py [--rounds 3] [--threads 2] [--model FILE.gguf] [--python PYTHON] [--output FILE.md]

Builds a Python environment below ~/.cache/janus/peers (unless --python names one that has everything), builds our side,
and runs each row's two processes in turn, round by round: only ratios of one run count. Prints a table in Markdown.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = pathlib.Path.home() / ".cache/janus"

# Row, ours (work, precision), theirs (script, arguments, work), and what is wanted: speed, and share of memory.
ROWS = [
    ("prefill 1,024, bf16", ("prefill_1024", "bf16"), ("hf", ["--dtype", "bf16", "--only", "prefill"], "prefill_1024"), 1.6, None),
    ("prefill 1,024, bf16", ("prefill_1024", "bf16"), ("llama", ["--only", "prefill"], "prefill_1024"), 5.0, None),
    ("prefill 1,024, f32", ("prefill_1024", "f32"), ("hf", ["--dtype", "f32", "--only", "prefill"], "prefill_1024"), 2.0, None),
    ("LoRA step 1x1024, kept", ("lora_1x1024", "bf16"), ("hf", ["--only", "lora_1x1024"], "lora_1x1024"), 2.5, 1 / 3),
    ("LoRA step 4x512, kept", ("lora_4x512", "bf16"), ("hf", ["--only", "lora_4x512"], "lora_4x512"), 2.5, 1 / 4),
    ("LoRA step 1x1024, made again", ("lora_1x1024_recomputed", "bf16"), ("hf", ["--only", "lora_1x1024"], "lora_1x1024"), 1.7, 1 / 6),
    ("LoRA step 4x512, made again", ("lora_4x512_recomputed", "bf16"), ("hf", ["--only", "lora_4x512"], "lora_4x512"), 1.7, 1 / 6),
    ("prefill 1,024, int8", ("prefill_1024", "int8"), ("hf", ["--dtype", "bf16", "--only", "prefill"], "prefill_1024"), 2.0, None),
    ("decode, one stream behind 128", ("decode_1", "bf16"), ("llama", ["--only", "decode"], "decode_after_128"), 1.5, 1.2),
    ("decode, 8 streams behind 512, against one", ("decode_8", "bf16"), ("llama", ["--only", "decode"], "decode_after_512"), 5.0, None),
    ("decode, 8 streams behind 512", ("decode_8", "bf16"), ("hf", ["--dtype", "bf16", "--only", "decode_8"], "decode_8"), 4.0, None),
    ("GRPO step, 512 + 8 x 64", ("grpo_512+8x64", "bf16"), ("trl", [], "grpo_step_512+8x64"), 12.0, 1 / 8),
    ("load", ("load", "bf16"), ("llama", ["--only", "load"], "load"), 1.0, None),
]


def script_of(row):
    return row[2][0]


def environment(given):
    if given:
        return given
    python = CACHE / "peers/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", CACHE / "peers"], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / "requirements.txt"], check=True)
    return str(python)


def last_lines(command, threads):
    # On some processors these two slow a current BLAS down; the peers run without them.
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")}
    env |= {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=pathlib.Path, default=CACHE / "models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--python")
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--rows", nargs="*", type=int)
    args = parser.parse_args()
    python = environment(args.python)
    subprocess.run(["cargo", "build", "--release", "--workspace", "-q"], check=True, cwd=ROOT)
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    ours_program = target / "release/speed"
    rows = [row for index, row in enumerate(ROWS) if not args.rows or index in args.rows]
    found = {index: [] for index in range(len(rows))}
    for number in range(args.rounds):
        theirs_of_round = {}
        for index, (name, (work, precision), (script, arguments, what), _, _) in enumerate(rows):
            print(f"round {number + 1} of {args.rounds}: {name}", file=sys.stderr, flush=True)
            ours = last_lines([ours_program, args.model, work, "flex", precision, "5"], args.threads)[0]
            key = (script, *arguments)
            if key not in theirs_of_round:
                command = {
                    "hf": [python, HERE / "transformers_peft.py", args.model.parent, args.model.name],
                    "llama": [python, HERE / "llama_cpp_peer.py", args.model],
                    "trl": [python, HERE / "trl_grpo.py", args.model.parent, args.model.name],
                }[script]
                theirs_of_round[key] = last_lines([*command, "--threads", str(args.threads), *arguments], args.threads)
            theirs = next(row for row in theirs_of_round[key] if row["what"] == what)
            found[index].append((ours, theirs))
    lines = [
        f"Medians of {args.rounds} alternating rounds, {args.threads} threads; the ratio's range in brackets.",
        "",
        "| work | ours | peer | ratio | wanted | memory | wanted |",
        "|---|---|---|---|---|---|---|",
    ]
    for index, (name, _, _, wanted, share) in enumerate(rows):
        pairs = found[index]
        # These tell seconds alone.
        loads = name == "load" or script_of(rows[index]) == "trl"
        value = (lambda row: row["seconds"]) if loads else (lambda row: row["tok_s"])
        ratios = [value(b) / value(a) if loads else value(a) / value(b) for a, b in pairs]
        show = (lambda v: f"{v:.2f} s") if loads else (lambda v: f"{v:,.0f} tok/s")
        ours = statistics.median(value(a) for a, _ in pairs)
        theirs = statistics.median(value(b) for _, b in pairs)
        memory = [statistics.median(row["max_rss_mb"] for row in side) for side in zip(*pairs)]
        peer = f"{pairs[0][1]['peer']} {pairs[0][1]['dtype']}"
        lines.append(
            f"| {name} | {show(ours)} | {show(theirs)} ({peer}) | {statistics.median(ratios):.2f} "
            f"[{min(ratios):.2f}, {max(ratios):.2f}] | {wanted} | {memory[0]:,.0f} of {memory[1]:,.0f} MB = "
            f"{memory[0] / memory[1]:.2f} | {'' if share is None else f'{share:.2f}'} |"
        )
    table = "\n".join(lines)
    print(table)
    if args.output:
        args.output.write_text(table + "\n")


main()
