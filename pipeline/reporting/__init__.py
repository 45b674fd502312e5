"""Tables, figures and words from the results: pure functions of tables, which neither read nor write results."""
