"""Makes tests/golden/peft/patterns: an adapter with patterns of ranks and alphas over the golden llama, and its logits.

usage: peft_patterns.py   (needs torch 2.15, transformers 5.23, peft 0.21.2, safetensors)
"""
import pathlib

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

GOLDEN = pathlib.Path(__file__).resolve().parent.parent
torch.manual_seed(7)
model = AutoModelForCausalLM.from_pretrained(GOLDEN / "llama", dtype=torch.float32).eval()
config = LoraConfig(
    r=4,
    lora_alpha=8,
    target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
    rank_pattern={"layers.1.self_attn.q_proj": 2, "mlp.*": 6},
    alpha_pattern={"down_proj": 3},
    task_type="CAUSAL_LM",
)
adapted = get_peft_model(model, config)
for name, parameter in adapted.named_parameters():
    if "lora_B" in name:
        parameter.data.normal_(std=0.3)
adapted.eval()
ids = torch.randint(0, 96, (2, 17))
with torch.inference_mode():
    logits = adapted(ids).logits
folder = GOLDEN / "peft/patterns"
# No path of the machine that made it.
adapted.peft_config["default"].base_model_name_or_path = "llama"
adapted.save_pretrained(folder)
(folder / "README.md").unlink(missing_ok=True)
save_file({"input_ids": ids.to(torch.int32), "logits": logits.contiguous()}, folder / "expected.safetensors")
