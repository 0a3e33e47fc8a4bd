"""Tables of architectures and of trainings."""

from compact_biomed.console import duration
from compact_biomed.models.architectures import ARCHITECTURES, PUBLISHED_PARAMETERS
from compact_biomed.report.claims import CONTINUAL, DISTILLED, TEACHER
from compact_biomed.report.manuscript.inputs import REPRODUCE, Inputs, field
from compact_biomed.report.manuscript.kinds_of_models import groups_of
from compact_biomed.report.manuscript.latex import Row, code, table, text
from compact_biomed.report.manuscript.numbers import places
from compact_biomed.report.records import encoder_parameters

_TEACHER = "biobert"  # among architectures
_NAMES = {name.lower(): name for name in (*CONTINUAL, *DISTILLED)} | {_TEACHER: "BioBERT"}


def architectures(found: Inputs) -> str:
    """Depth, width and parameters, as published and in miniature."""
    sizes = encoder_parameters(found.scores)
    rows = []
    for key, published in PUBLISHED_PARAMETERS.items():
        name = _NAMES[key]
        mini = TEACHER if key == _TEACHER else name
        measured = f"{sizes[mini]:,}" if sizes.get(mini) else "--"
        renamed = name if mini == name else f"{name} / {mini}"
        rows.append([text(renamed), *_shape(key, "paper"), f"{published:,}", *_shape(key, "mini"), measured])
    caption = (
        "The architectures: layers $\\times$ width; attention heads, inner width of the feed-forward part; parameters "
        "of the encoder, the published ones with the pooler. Source: "
        f"{code('compact_biomed/models/architectures.py')}; parameters in miniature as recorded with the scores."
    )
    head = ("model", "\\multicolumn{2}{l}{published}", "parameters", "\\multicolumn{2}{l}{miniature}", "parameters")
    return table("architectures", caption, "llrrlrr", head, rows)


def trainings(found: Inputs) -> str:
    """What was pretrained, from how many tokens, and how good a language model it became."""
    rows: list[Row] = []
    for title, names in groups_of(list(found.trainings)).items():
        rows.append(title)
        for name in names:
            line = found.trainings[name]
            before, after = field(line, "heldout.before"), field(line, "heldout.after")
            kl = f"{after['kl_to_teacher']:.3f}" if "kl_to_teacher" in after else "--"
            rate = f"{field(line, 'science.learning_rate'):g}" if field(line, "tokens") else "--"
            loss = (f"{before['loss']:.3f}", f"{after['loss']:.3f}", f"{100 * after['accuracy']:.1f}", kl)
            how = (f"{field(line, 'parameters'):,}", f"{field(line, 'tokens'):,}", rate)
            rows.append([text(name), *how, *loss, duration(field(line, "seconds"))])
    caption = (
        "The trainings. Held-out loss of masked-language modeling before and after (nats a masked token), accuracy on "
        "masked tokens in percent, and KL divergence from the teacher's predictions. Parameters with the vocabulary "
        f"head. Records: {code(places(found.trainings.values()))}, made by {code(REPRODUCE + ' --only pretraining')}."
    )
    head = ("model", "parameters", "tokens", "rate", "loss: start", "end", "acc.", "KL", "time")
    return table("trainings", caption, "lrrrrrrrr", head, rows)


def _shape(key: str, scale: str) -> list[str]:
    """Layers x width, and heads, inner width."""
    of = ARCHITECTURES[key][scale].options
    layers, width = of.get("num_hidden_layers", of.get("n_layers")), of.get("hidden_size", of.get("dim"))
    heads = of.get("num_attention_heads", of.get("n_heads"))
    inner = of.get("intermediate_size", of.get("hidden_dim"))
    return [f"{layers} $\\times$ {width}", f"{heads}, {inner:,}"]
