"""Forms made from recipes: new runs, edits with their ledger, exports."""
