"""Small inputs for the corpus tests: MEDLINE XML and texts made up here, and a tokenizer for them."""

import random

DOCTYPE = (
    '<!DOCTYPE PubmedArticleSet PUBLIC "-//NLM//DTD PubMedArticle, 1st January 2019//EN" '
    '"https://dtd.nlm.nih.gov/ncbi/pubmed/out/pubmed_190101.dtd">'
)
_SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "or", "is")]


def made_up(seed: int, words: int = 60) -> str:
    """A text of words that no language has, the same for the same seed."""
    chance = random.Random(seed)
    return " ".join("".join(chance.choices(_SYLLABLES, k=chance.randint(1, 3))) for _ in range(words)) + "."


def citation(
    pmid: int, title: str = "A title.", abstract: str | None = None, version: int = 1, year: int = 2001
) -> str:
    """One PubmedArticle; `abstract` is the inner XML of <Abstract>, or plain text."""
    if abstract is not None and "<AbstractText" not in abstract:
        abstract = f"<AbstractText>{abstract}</AbstractText>"
    return (
        f'<PubmedArticle><MedlineCitation Status="MEDLINE"><PMID Version="{version}">{pmid}</PMID>'
        f"<Article><Journal><JournalIssue><PubDate><Year>{year}</Year></PubDate></JournalIssue></Journal>"
        f"<ArticleTitle>{title}</ArticleTitle>"
        + (f"<Abstract>{abstract}</Abstract>" if abstract is not None else "")
        + "</Article></MedlineCitation><PubmedData><ArticleIdList/></PubmedData></PubmedArticle>"
    )


def deletion(*pmids: tuple[int, int]) -> str:
    inner = "".join(f'<PMID Version="{version}">{pmid}</PMID>' for pmid, version in pmids)
    return f"<DeleteCitation>{inner}</DeleteCitation>"


def medline(*records: str, doctype: str = DOCTYPE) -> bytes:
    body = "\n".join(records)
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n{doctype}\n<PubmedArticleSet>\n{body}\n</PubmedArticleSet>\n'.encode()
    )


def build_tokenizer():
    """A BERT-like word-piece tokenizer of 1,200 entries that knows the syllables of `made_up`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(code) for code in range(33, 127)]
    entries = specials + letters + _SYLLABLES
    entries += ["##" + piece for piece in [*letters, *_SYLLABLES]]
    unique = list(dict.fromkeys(entries))
    unique += [f"filler{number}" for number in range(1200 - len(unique))]
    tokenizer = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(unique)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
    )
