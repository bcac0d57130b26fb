"""The file formats, one file or package each, and their registry."""
