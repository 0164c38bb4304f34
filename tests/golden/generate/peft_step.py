"""Makes step.safetensors beside each golden adapter: loss and gradients of PEFT and torch on two sequences.

usage: peft_step.py   (needs torch 2.15, transformers 5.23, peft 0.21.2, safetensors)

The loss is the mean over the credited tokens of both sequences. Sequences have unequal lengths, each read alone, so that no
padding is involved. Dropout is off.
"""
import pathlib

import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

PEFT = pathlib.Path(__file__).resolve().parent.parent / "peft"
BASES = {"lora_r4_all": "llama", "dora_r4": "llama", "patterns": "llama", "rslora_r8_attn": "qwen3"}
torch.manual_seed(11)
for name, base in BASES.items():
    model = AutoModelForCausalLM.from_pretrained(PEFT.parent / base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(model, PEFT / name, is_trainable=True).eval()
    rows = [torch.randint(3, 96, (1, length)) for length in (19, 30)]
    credited = [torch.arange(19) > 8, torch.arange(30) > 0]
    logprobs = []
    for ids, credit in zip(rows, credited):
        of = torch.log_softmax(adapted(ids).logits[0, :-1], dim=-1)
        logprobs.append(of.gather(1, ids[0, 1:, None])[:, 0][credit[1:]])
    loss = -torch.cat(logprobs).mean()
    loss.backward()
    out = {"loss": loss.detach()[None], "ids.0": rows[0][0].int(), "ids.1": rows[1][0].int()}
    for path, parameter in adapted.named_parameters():
        if parameter.grad is not None:
            out[path.replace(".default", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")] = parameter.grad
    save_file(out, PEFT / name / "step.safetensors")
    print(name, float(loss), len(out) - 3, "gradients")
