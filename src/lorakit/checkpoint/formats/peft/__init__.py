"""PEFT's format: the layout of its directory, decoding, encoding and atomic writing."""
