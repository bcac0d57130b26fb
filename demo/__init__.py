"""The demo: real reviews, a real encoder, LoRA next to what it is compared with."""
