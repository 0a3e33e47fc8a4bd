# make demo   environment, install, and a first BioMobileBERT from real PubMed text
# make test   environment, install, and the test suite
# make paper  the manuscript, from the records in results/
PYTHON ?= python3
VENV   ?= .venv

TEX_PACKAGES = texlive-latex-base texlive-latex-recommended texlive-fonts-recommended lmodern latexmk
RECORDS = results/sketch/*.jsonl results/ablations/*.jsonl results/speed/*.jsonl results/compression/*.jsonl

.PHONY: demo test paper env lint clean

demo: env
	$(VENV)/bin/python recipes/biomobilebert_cl.py

test: env
	$(VENV)/bin/python -m pytest -n 2 --dist loadfile

paper: env
	@command -v pdflatex >/dev/null && command -v latexmk >/dev/null || \
	  { echo "pdflatex or latexmk is not here: apt-get install --no-install-recommends $(TEX_PACKAGES)"; exit 1; }
	$(VENV)/bin/compact-biomed tables manuscript --records $(wildcard $(RECORDS)) --output paper/generated
	cd paper && latexmk -pdf -silent -halt-on-error -interaction=nonstopmode compact-biomedical-transformers.tex

lint: env
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV)
