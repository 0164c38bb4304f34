"""Reference speeds of llama.cpp (Python binding, built natively) on this CPU. Prints one JSON object a line.

usage: llama_cpp_peer.py MODEL.gguf [--threads 2] [--only load|prefill|decode]
"""
import argparse
import json
import resource
import time

from llama_cpp import Llama

parser = argparse.ArgumentParser()
parser.add_argument("gguf")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--only", choices=["load", "prefill", "decode"])
args = parser.parse_args()
start = time.perf_counter()
model = Llama(
    args.gguf, n_ctx=4096, n_threads=args.threads, n_threads_batch=args.threads, n_batch=2048, n_ubatch=512, verbose=False
)
tokens = [(i * 7919) % 40000 + 10 for i in range(2048)]


def say(what, count, seconds):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    row = dict(peer="llama.cpp", dtype="Q4_1", what=what, seconds=round(seconds, 4), tok_s=round(count / seconds, 1))
    print(json.dumps(row | dict(max_rss_mb=peak)), flush=True)


say("load", 0, time.perf_counter() - start)
for count in (512, 1024) if args.only in (None, "prefill") else ():
    rounds = []
    for _ in range(4):
        model.reset()
        start = time.perf_counter()
        model.eval(tokens[:count])
        rounds.append(time.perf_counter() - start)
    say(f"prefill_{count}", count, min(rounds))
for count in (128, 512) if args.only in (None, "decode") else ():
    model.reset()
    model.eval(tokens[:count])
    start = time.perf_counter()
    for i in range(128):
        model.eval([100 + i])
    say(f"decode_after_{count}", 128, time.perf_counter() - start)
