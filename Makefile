# make demo   environment, install, a first BioMobileBERT from real PubMed text, and a model that finds entities
# make test   environment, install, and the test suite
# make paper  the manuscript, from the records in results/
PYTHON ?= python3
VENV   ?= .venv

TEX_PACKAGES = texlive-latex-base texlive-latex-recommended texlive-fonts-recommended lmodern latexmk
RECORDS = results/sketch/*.jsonl results/tasks/*.jsonl results/ablations/*.jsonl results/speed/*.jsonl results/compression/*.jsonl

.PHONY: demo test paper env lint clean

PARAGRAPH = A 58-year-old woman with type 2 diabetes and hypertension came to our clinic with chest pain and a low fever. \
She had taken metformin and aspirin for six years. Her blood glucose was high and her serum potassium low. We suspected \
a myocardial infarction, gave heparin and morphine, and stopped metformin because of lactic acidosis. Two days later she \
developed pneumonia, which was treated with penicillin.
ENTITIES = --task MEDLINE-terms --name MiniLM --learning-rate 4e-4 --epochs 3 --max-train-examples 1200

# Pretrain BioMobileBERT (300 steps of the 500 of its preset quick), fine-tune a small encoder on chemicals and diseases of
# the same sample, and let it read a paragraph. The same command continues after an interruption.
demo: env
	$(VENV)/bin/python recipes/biomobilebert_cl.py --max_steps 300 --output_dir runs/demo/biomobilebert
	$(VENV)/bin/compact-biomed evaluate --model registry:all-minilm-l6-v2 $(ENTITIES) --save runs/demo --records runs/demo.jsonl
	@echo && echo "What it finds in a paragraph that no data set has:" && echo
	@echo "$(PARAGRAPH)" | $(VENV)/bin/compact-biomed predict --model runs/demo/MiniLM-MEDLINE-terms-seed1 --format inline

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
