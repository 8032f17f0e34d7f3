"""Run as a script by the certificate: loads an adapter with stock transformers and peft only.

Reads its order as JSON from standard input and writes the logits as
safetensors. It must not import anything of this package: that the adapter loads
without it is what is being proved.
"""

import json
import sys

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig


def main() -> None:
    """Load, run, merge, run again, write."""
    order = json.load(sys.stdin)
    torch.set_num_threads(order["threads"])
    device = order["device"] if order["device"] == "cpu" or torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = order["tf32"]
    quantization = BitsAndBytesConfig(**order["quantization"]) if order["quantization"] else None
    base = AutoModelForCausalLM.from_pretrained(
        order["base"],
        dtype=getattr(torch, order["dtype"]),
        quantization_config=quantization,
        device_map=None if device == "cpu" else {"": device},
        attn_implementation=order["attn_implementation"],
        use_safetensors=True,
    )
    for module in base.modules():  # bitsandbytes: 4-bit products on a CPU as they were, not by a faster kernel
        if hasattr(module, "support_avx512bf16_for_cpu"):
            setattr(module, "support_avx512bf16_for_cpu", False)  # noqa: B010 - an attribute of bitsandbytes' own
    model = PeftModel.from_pretrained(base, order["adapter"]).eval()
    input_ids = torch.tensor(order["input_ids"], device=device)
    with torch.no_grad():
        logits = {"adapter": model(input_ids=input_ids, use_cache=False).logits}
        if mergeable(model):
            logits["merged"] = model.merge_and_unload()(input_ids=input_ids, use_cache=False).logits
    save_file({name: value.float().cpu().contiguous() for name, value in logits.items()}, order["output"])


def mergeable(model: PeftModel) -> bool:
    """Whether every constant of the adapter (lora_bias) has a bias of the base to go into."""
    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer) and any(layer.lora_bias.values())]
    return all(layer.get_base_layer().bias is not None for layer in layers)


if __name__ == "__main__":
    main()
