#!/usr/bin/env python3
"""An adapter that Janus trained, read by PEFT: one command, the largest difference of logits.

usage: tests/peers/adapter.py [--python VENV/bin/python] [--steps 20] [--tolerance 1e-3]

Trains `--steps` steps of the default base in float32, loads the folder with Python's PEFT over the same base, computes the
logits of one prompt there, and lets `parity --adapter` compare. The environment is that of run.py.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BASE = pathlib.Path.home() / ".cache/janus/models/SmolLM2-135M-Instruct.Q4_1.gguf"
REFERENCE = """
import sys, torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
gguf, adapter, out = sys.argv[1:]
folder, name = gguf.rsplit("/", 1)
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
model = PeftModel.from_pretrained(model, adapter).eval()
ids = torch.randint(10, 40000, (1, 64), generator=torch.Generator().manual_seed(3))
with torch.inference_mode():
    logits = model(ids).logits
    with model.disable_adapter():
        plain = model(ids).logits
print(f"the adapter moves logits by up to {(logits - plain).abs().max():.3f}")
save_file({"input_ids": ids.to(torch.int32), "logits": logits.contiguous()}, out)
"""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=str(pathlib.Path.home() / ".cache/janus/peers/bin/python"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tolerance", type=float, default=1e-3)
    args = parser.parse_args()
    programs = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    with tempfile.TemporaryDirectory() as folder:
        adapter, expected = f"{folder}/adapter", f"{folder}/expected.safetensors"
        common = ["--model", BASE, "--precision", "f32"]
        subprocess.run(
            [programs / "lora_trainer", "--output", adapter, "--max-steps", str(args.steps), *common], check=True, cwd=ROOT
        )
        subprocess.run([args.python, "-c", REFERENCE, BASE, adapter, expected], check=True)
        compare = [programs / "parity", BASE, expected, "--adapter", adapter, "--tolerance", str(args.tolerance)]
        sys.exit(subprocess.run(compare).returncode)


if __name__ == "__main__":
    main()
