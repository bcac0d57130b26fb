"""One file or package a format, and the table of them."""
