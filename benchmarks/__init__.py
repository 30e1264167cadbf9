"""Speed and memory against peers, one script a question."""
