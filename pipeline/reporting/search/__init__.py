"""What a study found: tables, figures and claims from its trials and the ablations that they trained."""
