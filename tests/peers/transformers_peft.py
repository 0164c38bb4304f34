"""Reference speeds of transformers and PEFT on this CPU. Prints one JSON object a line.

usage: transformers_peft.py MODEL_DIR GGUF_FILE [--dtype f32|bf16] [--threads 2] [--only prefill|decode_8|lora_1x1024|lora_4x512]
Peak memory is the process's: each row alone (--only) has its own. Times are the best of the rounds.
"""
import argparse
import json
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

parser = argparse.ArgumentParser()
parser.add_argument("model_dir")
parser.add_argument("gguf")
parser.add_argument("--dtype", default="bf16", choices=["f32", "bf16"])
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--only", choices=["prefill", "decode_8", "lora_1x1024", "lora_4x512"])
args = parser.parse_args()
torch.set_num_threads(args.threads)
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
start = time.perf_counter()
model = AutoModelForCausalLM.from_pretrained(args.model_dir, gguf_file=args.gguf, dtype=dtype).eval()
load = time.perf_counter() - start
ids = torch.randint(10, 40000, (1, 2048), generator=torch.Generator().manual_seed(0))


def say(what, count, seconds):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = dict(peer="transformers+peft", dtype=args.dtype, what=what, seconds=round(seconds, 4))
    print(json.dumps(row | dict(tok_s=round(count / seconds, 1), max_rss_mb=peak)), flush=True)


def best(work, rounds=3):
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


say("load", 0, load)
if args.only in (None, "prefill"):
    with torch.inference_mode():
        for count in (512, 1024):
            say(f"prefill_{count}", count, best(lambda: model(ids[:, :count], logits_to_keep=1), 5))
if args.only in (None, "decode_8"):
    # Eight rows behind 512 tokens each, 128 tokens a row; the prompts are read before the clock starts.
    with torch.inference_mode():
        def decode():
            cache = model(ids[:, :512].repeat(8, 1), use_cache=True, logits_to_keep=1).past_key_values
            begin = time.perf_counter()
            for i in range(128):
                cache = model(torch.full((8, 1), 100 + i), past_key_values=cache, use_cache=True).past_key_values
            return time.perf_counter() - begin
        say("decode_8", 8 * 128, min(decode() for _ in range(2)))
if args.only not in ("prefill", "decode_8"):
    modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=modules)).train()
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], lr=1e-4)

    def step(x):
        loss = adapted(x, labels=x).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for rows, length in ((1, 1024), (4, 512)):
        if args.only in (None, f"lora_{rows}x{length}"):
            x = ids[:, :length].repeat(rows, 1)
            say(f"lora_{rows}x{length}", rows * length, best(lambda: step(x)))
