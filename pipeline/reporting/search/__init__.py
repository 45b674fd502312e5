"""What a study found: tables, figures and claims from its trials and the cells that they trained."""
