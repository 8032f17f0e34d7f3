"""Models: where they come from, how they are loaded safely, and which of their matrices read and write.

Importing this package imports nothing heavy; take names from its modules:
``source`` (paths, without torch), ``loading``, ``pathways``, ``fingerprint``.
"""
