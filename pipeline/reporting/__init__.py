"""Reports: pure functions from results to claims, tables, figures and pages.

`experiment/` makes the report of an experiment, `search/` that of a search. Both make claims (`claims.py`), put them in
words by templates (`sentences.py`), format numbers with `wording.py`, and render a page (`page.py`).
"""
