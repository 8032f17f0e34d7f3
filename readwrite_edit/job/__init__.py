"""What probes and edits have in common as runs: the session around them, and how results are kept."""
