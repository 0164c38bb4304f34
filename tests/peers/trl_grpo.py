"""Seconds of one GRPO step in TRL on this CPU: 1 prompt of 512 tokens, G = 8 completions of 64 tokens, LoRA rank 16.

usage: trl_grpo.py MODEL_DIR GGUF_FILE [--threads 2]
"""
import argparse, json, os, resource, tempfile, time
os.environ["WANDB_DISABLED"] = "true"
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer
ap = argparse.ArgumentParser(); ap.add_argument("model_dir"); ap.add_argument("gguf"); ap.add_argument("--threads", type=int, default=2); a = ap.parse_args()
torch.set_num_threads(a.threads)
model = AutoModelForCausalLM.from_pretrained(a.model_dir, gguf_file=a.gguf, dtype=torch.bfloat16)
model.config.__dict__.pop("quantization_config", None); model.is_quantized = False
for k in ("hf_quantizer", "quantization_method"):
    if hasattr(model, k): setattr(model, k, None)
tok = AutoTokenizer.from_pretrained(a.model_dir, gguf_file=a.gguf)
prompt = tok.decode([(i * 7919) % 40000 + 10 for i in range(512)])
cfg = GRPOConfig(output_dir=tempfile.mkdtemp(), num_generations=8, per_device_train_batch_size=8, max_completion_length=64, use_cpu=True, bf16=False,
                 max_steps=2, logging_steps=1, report_to=[], save_strategy="no", beta=0.04, gradient_checkpointing=False,
                 generation_kwargs={"min_new_tokens": 64})
t = []
def reward(completions, **k):
    t.append(time.perf_counter()); return [float(i % 2) for i in range(len(completions))]
tr = GRPOTrainer(model=model, reward_funcs=reward, args=cfg, processing_class=tok, train_dataset=Dataset.from_dict({"prompt": [prompt] * 16}),
                 peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
s = time.perf_counter(); tr.train(); e = time.perf_counter()
print(json.dumps(dict(peer="trl", dtype="bf16", what="grpo_step_512+8x64", seconds=round((e - s) / 2, 1), max_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)))
