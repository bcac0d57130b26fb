"""The private names of torch and transformers that lorakit uses, one file per library.

Everything else in the package uses documented names. An update of torch or transformers is read
against these two files, and `tests/private` asks the installed versions for each name.
"""
