"""The names of torch and transformers that neither library promises to keep: one file a library.

Everything else in the package uses documented names. An update of torch or transformers is read
against these two files, and `tests/private` asks the installed versions for each name.
"""
