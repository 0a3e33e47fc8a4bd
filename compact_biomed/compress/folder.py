"""What lies beside model.onnx: tokenizer, labels, checksums, and how to run it without this package."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed.files import sha256_file, write_json

if TYPE_CHECKING:
    from compact_biomed.compress.checkpoint import Checkpoint

MODEL, MANIFEST, RUN = "model.onnx", "manifest.json", "run.py"
FORMAT = "compact-biomed-onnx-1"
# Its kernel takes eight times as long as the addition and the norm that it replaces (onnxruntime 1.32, docs/log.md).
SLOWER = ["SkipLayerNormFusion"]
_ASKED = {
    "mlm": ("what the masked words of a text are", '"Aspirin lowers [MASK]."'),
    "token": ("the entities of a text", '"She was treated for ovarian cancer."'),
    "sequence": ("the class of a text, or of a pair of texts", '"She was treated for ovarian cancer."'),
    "span": ("the answer to a question in a text", '"What was it?" "It was a fever."'),
}


def complete(folder: Path, checkpoint: "Checkpoint", made: dict[str, Any]) -> dict[str, Any]:
    """Write all that an exported model needs besides its weights.

    Args:
        folder: holds `MODEL`.
        made: how it was made, for the manifest.

    Returns:
        The manifest.
    """
    from compact_biomed.compress.checkpoint import input_names
    from compact_biomed.evaluation.keep import RECORD
    from compact_biomed.evaluation.model import longest_input
    from compact_biomed.origin import origin

    config = checkpoint.model.config
    checkpoint.tokenizer.save_pretrained(folder)
    config.save_pretrained(folder)
    shutil.copyfile(Path(__file__).with_name("standalone") / f"{checkpoint.family}.py", folder / RUN)
    if (record := Path(checkpoint.name) / RECORD).is_file():
        shutil.copyfile(record, folder / RECORD)  # `compact-biomed score` asks it for the task
    manifest = {
        "format": FORMAT,
        "family": checkpoint.family,
        "labels": labels_of(config, checkpoint.family),
        "problem_type": config.problem_type,
        "inputs": input_names(checkpoint.model),
        "max_length": longest_input(config) or 512,
        "mask": checkpoint.tokenizer.mask_token,
        "parameters": sum(p.numel() for p in checkpoint.model.parameters()),
        **made,
        "from": origin(),
    }
    (folder / "README.md").write_text(_readme(checkpoint, manifest), encoding="utf-8")
    files = sorted(file for file in folder.iterdir() if file.is_file())
    manifest["sha256"] = {file.name: sha256_file(file) for file in files}
    write_json(folder / MANIFEST, manifest)
    return manifest


def labels_of(config, family: str) -> list[str]:
    """Names of the outputs in their order; none for a masked-LM, whose outputs are the vocabulary."""
    if family == "mlm":
        return []
    return ["start", "end"] if family == "span" else [config.id2label[i] for i in range(config.num_labels)]


def _readme(checkpoint: "Checkpoint", manifest: dict[str, Any]) -> str:
    asked, example = _ASKED[checkpoint.family]
    labels = f"Labels: {', '.join(manifest['labels'])}.\n" if manifest["labels"] else ""
    inputs = ", ".join(f"`{name}`" for name in manifest["inputs"])
    difference = manifest["difference"]
    return f"""# A {checkpoint.model.config.model_type} in ONNX, {manifest["precision"]}

Says {asked}. {labels}
```
pip install onnxruntime tokenizers numpy
python {RUN} {example}
```

`{RUN}` is all that is needed to use it; it reads `{MODEL}`, `tokenizer.json` and `{MANIFEST}`.
Inputs: {inputs}, int64 [batch, length], at most {manifest["max_length"]} long.
Output: `logits`, float32. Largest difference of a logit to the PyTorch model when it was made:
{difference["largest"]:.2g} (relative {difference["relative"]:.2g}). `{MANIFEST}` holds the sha256 of each file.

Long texts, character offsets, BRAT and CoNLL: `compact-biomed predict --model THIS_FOLDER FILE`.
{_ALONE if manifest["precision"] == "int8" else ""}"""


_ALONE = """
Run one text at a time, as `run.py` does: activations are quantized by the range of the whole batch, so in int8
an answer depends on its company.
"""
