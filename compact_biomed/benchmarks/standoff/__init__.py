"""Texts with entities and relations, in the formats of annotation tools, corpora and predictions.

    file -> `formats.read_documents` -> documents -> `words.to_sentences` -> sentences of words with IOB2 tags
    sentences -> `words.from_words` -> documents -> `formats.write_documents` -> file

A format is a module with a reader and a writer, an entry in `formats.FORMATS`, and its name and marks in `detect`.
"""
