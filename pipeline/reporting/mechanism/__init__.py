"""How the order is known: a section of the report per question about the mechanism, written from the measurements."""
