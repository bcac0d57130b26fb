"""llama.cpp's format of an adapter: one GGUF file, with the names and orders of its own models."""
