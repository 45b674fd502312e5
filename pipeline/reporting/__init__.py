"""What the results say: claims, tables and figures, and the page of them. Pure functions, which neither read nor write
results.

`grid/` makes the report of a grid, `search/` that of a study. Both make claims (`claims.py`), whose words are
templates (`sentences.py`) and whose numbers are written in one place (`wording.py`), on a page (`page.py`).
"""
