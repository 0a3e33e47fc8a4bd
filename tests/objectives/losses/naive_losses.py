"""The losses once more, cell by cell in Python: sums and numbers of what is summed."""

from math import exp, log, sqrt


def _softmax(row: list[float]) -> list[float]:
    weights = [exp(x - max(row)) for x in row]
    return [w / sum(weights) for w in weights]


def _kl(p: list[float], q: list[float]) -> float:
    return sum(a * (log(a) - log(b)) for a, b in zip(p, q, strict=True))


def soft(student, teacher, mask, *, temperature: float, kl: bool) -> tuple[float, int]:
    total, count = 0.0, 0
    for s, t, real in zip(student.tolist(), teacher.tolist(), mask.tolist(), strict=True):
        if real:
            p = _softmax([x / temperature for x in t])
            q = _softmax([x / temperature for x in s])
            total += _kl(p, q) if kl else -sum(a * log(b) for a, b in zip(p, q, strict=True))
            count += 1
    return total, count


def mlm(student, labels) -> tuple[float, int]:
    rows = [(_softmax(s), label) for s, label in zip(student.tolist(), labels.tolist(), strict=True) if label != -100]
    return sum(-log(p[label]) for p, label in rows), len(rows)


def cosine(student, teacher, mask) -> tuple[float, int]:
    total, count = 0.0, 0
    for b, i in mask.nonzero().tolist():
        s, t = student[b, i].tolist(), teacher[b, i].tolist()
        norms = sqrt(sum(x * x for x in s)) * sqrt(sum(x * x for x in t))
        total += 1 - sum(x * y for x, y in zip(s, t, strict=True)) / norms
        count += 1
    return total, count


def hidden_squares(student, teacher, mask, *, weight, bias, published: bool) -> tuple[float, int]:
    total, count = 0.0, 0
    for b in range(mask.shape[0]):
        for i in range(mask.shape[1]):
            if mask[b, i] or published:
                projected = [sum(w * x for w, x in zip(row, student[b, i].tolist(), strict=True)) for row in weight]
                for s, shift, t in zip(projected, bias, teacher[b, i].tolist(), strict=True):
                    total += (s + shift - t) ** 2
                    count += 1
    return total, count


def attention_kl(student, teacher, mask, *, published: bool) -> tuple[float, int]:
    """`published` counts cells, else rows."""
    total, count = 0.0, 0
    for b, i in mask.nonzero().tolist():
        columns = [j for j in range(mask.shape[1]) if published or mask[b, j]]
        for s, t in zip(student[b, :, i].tolist(), teacher[b, :, i].tolist(), strict=True):
            total += _kl([t[j] + 1e-12 for j in columns], [s[j] + 1e-12 for j in columns])
            count += len(columns) if published else 1
    return total, count


def map_squares(student, teacher, mask, *, published: bool, threshold: float | None = None) -> tuple[float, int]:
    total, count = 0.0, 0
    for b in range(mask.shape[0]):
        for i in range(mask.shape[1]):
            for j in range(mask.shape[1]):
                if published or (mask[b, i] and mask[b, j]):
                    for s, t in zip(student[b, :, i, j].tolist(), teacher[b, :, i, j].tolist(), strict=True):
                        if threshold is not None:
                            s, t = (0.0 if x <= threshold else x for x in (s, t))
                        total += (s - t) ** 2
                        count += 1
    return total, count


def relation_kl(student, teacher, mask) -> tuple[float, int]:
    def distribution(left, right, i: int, columns: list[int]) -> list[float]:
        query, width = left[i].tolist(), left.shape[1]
        products = [sum(x * y for x, y in zip(query, right[j].tolist(), strict=True)) for j in columns]
        return _softmax([x / sqrt(width) for x in products])

    total, count = 0.0, 0
    for b, i in mask.nonzero().tolist():
        columns = mask[b].nonzero().flatten().tolist()
        for head in range(student[0].shape[1]):
            p, q = (distribution(left[b, head], right[b, head], i, columns) for left, right in (teacher, student))
            total += _kl(p, q)
            count += 1
    return total, count


def self_relations(student, teacher, mask, *, heads: int) -> tuple[float, int]:
    """MiniLMv2: concatenate the vectors of all attention heads, cut them into relation heads, relate each to itself."""

    def regrouped(vectors):  # [batch, attention heads, length, width]
        tokens = [
            [[x for head in token for x in head] for token in zip(*document, strict=True)] for document in vectors
        ]
        width = len(tokens[0][0]) // heads
        return student.new_tensor(
            [[[t[r * width : (r + 1) * width] for t in document] for r in range(heads)] for document in tokens]
        )

    s, t = (regrouped(x.tolist()) for x in (student, teacher))
    return relation_kl((s, s), (t, t), mask)
