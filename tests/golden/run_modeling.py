"""Runs an export with learned boundaries by its own modeling file and prints the logits of a text.

    python3 tests/golden/run_modeling.py FOLDER 3,1,4,1,5

It needs torch (tried with 1.13). Where Transformers is installed it loads the folder as anybody would, with
`trust_remote_code=True`; elsewhere the file's classes stand on torch alone, with stand-ins for the three names they import.
Prints one line of JSON: `by` (`transformers` or `torch`), `unused` and `missing` tensors, `logits` [tokens, vocab].
"""

import importlib
import json
import pathlib
import sys
import types

import torch


def read_safetensors(path):
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        start, end = entry["data_offsets"]
        flat = torch.frombuffer(bytearray(data[8 + length + start : 8 + length + end]), dtype=torch.float32)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def stand_in():
    """What the modeling file takes from Transformers, as little as it needs."""

    class PretrainedConfig:
        def __init__(self, **kwargs):
            self.__dict__.update(kwargs)

    class PreTrainedModel(torch.nn.Module):
        def __init__(self, config):
            super().__init__()
            self.config = config

        def post_init(self):
            pass

    class CausalLMOutput(types.SimpleNamespace):
        pass

    package = types.ModuleType("transformers")
    package.PretrainedConfig, package.PreTrainedModel = PretrainedConfig, PreTrainedModel
    outputs = types.ModuleType("transformers.modeling_outputs")
    outputs.CausalLMOutput = CausalLMOutput
    generation = types.ModuleType("transformers.generation")
    generation.GenerationMixin = object
    sys.modules.update(
        {"transformers": package, "transformers.modeling_outputs": outputs, "transformers.generation": generation}
    )


def load_with_torch(folder):
    stand_in()
    package = types.ModuleType("exported")
    package.__path__ = [str(folder)]
    sys.modules["exported"] = package
    modeling = importlib.import_module("exported.modeling_skein")
    config = json.loads((folder / "config.json").read_text())
    model = modeling.SkeinForCausalLM(modeling.SkeinConfig(**config))
    result = model.load_state_dict(read_safetensors(folder / "model.safetensors"), strict=False)
    return model, result.unexpected_keys, result.missing_keys


def load_with_transformers(folder, auto_model):
    model, info = auto_model.from_pretrained(folder, trust_remote_code=True, output_loading_info=True)
    return model, info["unexpected_keys"], info["missing_keys"]


def main():
    folder = pathlib.Path(sys.argv[1])
    tokens = torch.tensor([[int(token) for token in sys.argv[2].split(",")]])
    try:
        from transformers import AutoModelForCausalLM

        by, loaded = "transformers", load_with_transformers(folder, AutoModelForCausalLM)
    except ImportError:
        by, loaded = "torch", load_with_torch(folder)
    model, unused, missing = loaded
    with torch.no_grad():
        logits = model.eval()(tokens).logits[0]
    print(json.dumps(dict(by=by, unused=sorted(unused), missing=sorted(missing), logits=logits.tolist())))


main()
