"""What is learned: one class per task, with its options and the generator of its examples."""
