"""Keras: corpora -> train -> evaluate -> export. Never imported by scoring or the pipelines."""
