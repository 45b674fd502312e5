"""What is learned: problems as text, their splits, and their token rows."""
