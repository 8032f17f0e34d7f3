"""The run folder: one process writes it, everything else reads it. Standard library only.

``writer.RunWriter`` is the only writer of a run; ``reader`` turns a folder into
a ``RunView`` and its records and never raises for what lies in it; ``requests``
writes the one file that others may write. Files are named in ``folder.RunFolder``.
"""
