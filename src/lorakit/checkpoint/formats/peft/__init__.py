"""PEFT's directory: its layout, from and to the contents of its files, and putting them there."""
