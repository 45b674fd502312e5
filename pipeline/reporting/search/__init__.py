"""What a study found: tables, figures and words from its trials."""
