"""The tuned step without padding: documents one behind the other, in rows of one fixed length, for GPUs.

transformers' modules see one document as long as a micro-batch. Positions start again in each document, and attention
stays within it (flash attention for sequences of different lengths). All micro-batches have the same shape, so that
torch.compile compiles each layer once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface

from compact_biomed.bench.tuned import Batch, TunedSettings, TunedStep
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.mlm import module_head

_PACKED = "packed_documents"
_ROW_STEP = 128  # rows are a multiple of it, so that few shapes occur


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, scaling, dropout, **options
):
    """Attend within documents: query, key, value [1, heads, tokens, head width].

    torch's operator for sequences of different lengths has no public name with dropout; `varlen_attn`, which has none,
    calls it too.
    """
    starts, longest = options["cu_seq_lens_q"], options["max_length_q"]
    width = query.shape[-1]
    rows = [x[0].transpose(0, 1) for x in (query, key, value)]
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        if width % 8:  # TinyBERT's heads have width 26
            rows = [F.pad(x, (0, -width % 8)) for x in rows]
        arguments = (starts, starts, longest, longest, dropout, False, False)
        context = torch.ops.aten._flash_attention_forward(*rows, *arguments, scale=scaling)[0][..., :width]
    else:  # what flash attention does not compute: other devices, and fp32 for the checks
        context = _document_by_document(rows, starts, dropout, scaling)
    return context[None], None


@torch.compiler.disable
def _document_by_document(rows: Sequence[Tensor], starts: Tensor, dropout: float, scaling: float) -> Tensor:
    """Attend within documents by a loop over them: queries, keys and values [tokens, heads, head width]."""
    lengths = starts.diff().tolist()
    contexts = []
    for document in zip(*(x.split(lengths) for x in rows), strict=True):
        query, key, value = (x.transpose(0, 1) for x in document)
        context = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, scale=scaling)
        contexts.append(context.transpose(0, 1))
    return torch.cat(contexts)


AttentionInterface.register(_PACKED, _attention)
AttentionMaskInterface.register(_PACKED, lambda *arguments, **options: None)  # attention knows the documents


class PackedStep(TunedStep):
    """The tuned step on unpadded tokens; see `TunedStep`. Its terms compare no attention maps.

    Args:
        student, teacher: masked-LMs of transformers that take position_ids.
        tokens: per micro-batch, approximately.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module | None = None, *arguments, tokens: int = 16384, **options
    ):
        super().__init__(student, teacher, *arguments, **options)
        if any(self.compared.values()):
            raise ValueError("packed documents have no attention maps to compare")
        self.tokens = tokens
        for model in filter(None, (student, teacher)):
            model.config._attn_implementation = _PACKED
        # MobileBERT reads the neighbors of each token: a padding token keeps documents apart. It stands for no neighbor
        # where its embedding is zero, as that of a new model is.
        self.gap = int(any(getattr(m.config, "trigram_input", False) for m in (student, teacher) if m is not None))
        self.pad_id = student.config.pad_token_id or 0

    @property
    def settings(self) -> TunedSettings:
        """What the record states."""
        attention = "flash attention on unpadded documents"
        return replace(super().settings, attention=attention, batches=f"packed into rows of about {self.tokens} tokens")

    def parts(self, batch: Batch) -> list[dict[str, Any]]:
        """Pack a padded batch into rows of one length; documents are dealt out by length, so that rows are as full.

        Returns:
            Per row: input_ids, position_ids, attention_mask (0 on padding) and labels, [1, row]; starts, int32
            [segments + 1], and the length of the longest segment.
        """
        sizes = batch["attention_mask"].sum(1).cpu().numpy()
        longest = int(sizes.max())
        n = math.ceil(int(sizes.sum()) / self.tokens)
        order = np.argsort(-sizes, kind="stable")
        dealt = [order[first::n] for first in range(n)]
        used = [int(sizes[rows].sum()) + self.gap * len(rows) for rows in dealt]
        # At least one step of padding: it is cut so that all rows have the same number of segments.
        row = (max(used) // _ROW_STEP + 2) * _ROW_STEP
        pieces = [math.ceil((row - full) / longest) for full in used]
        segments = max(len(rows) * (1 + self.gap) + k for rows, k in zip(dealt, pieces, strict=True))
        return [self._row(batch, sizes, rows, row, segments) | {"longest": longest} for rows in dealt]

    def _row(self, batch: Batch, sizes: np.ndarray, rows: np.ndarray, row: int, segments: int) -> dict[str, Tensor]:
        """Return one row: documents, each with its gap, and padding in equal pieces up to the number of segments."""
        lengths = np.repeat(sizes[rows], 1 + self.gap)
        if self.gap:
            lengths[1::2] = 1
        rest, pieces = row - lengths.sum(), segments - len(lengths)
        lengths = np.concatenate([lengths, rest // pieces + (np.arange(pieces) < rest % pieces)])
        starts = np.concatenate([[0], lengths.cumsum()])
        positions = np.arange(row) - np.repeat(starts[:-1], lengths)
        documents = np.full(segments, -1)
        documents[: len(rows) * (1 + self.gap) : 1 + self.gap] = rows
        source = np.repeat(documents, lengths)  # -1: padding
        real = source >= 0
        source = np.where(real, source * batch["input_ids"].shape[1] + positions, 0)
        device = batch["input_ids"].device
        source, real, positions, starts = (
            torch.from_numpy(array).to(device) for array in (source, real, positions, starts.astype(np.int32))
        )
        fills = {"input_ids": self.pad_id, "labels": IGNORED, "attention_mask": 0}
        part = {name: batch[name].flatten()[source].where(real, fill)[None] for name, fill in fills.items()}
        return part | {"position_ids": positions[None], "starts": starts}

    def _outputs(self, model: nn.Module, part: Mapping[str, Any], scored: Tensor) -> dict[str, Any]:
        output = model.base_model(
            input_ids=part["input_ids"],
            position_ids=part["position_ids"],
            output_hidden_states=self.reads_states,
            cu_seq_lens_q=part["starts"],
            max_length_q=part["longest"],
        )
        outputs: dict[str, Any] = {"hidden": output.hidden_states}
        if self.reads_logits:
            outputs["logits"] = module_head(model)(output.last_hidden_state[scored])
        return outputs
