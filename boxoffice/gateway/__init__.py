"""Gateways: who takes the money. `base.py` is the vocabulary, `factory.py` opens the one that is configured."""
