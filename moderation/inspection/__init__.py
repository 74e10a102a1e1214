"""What a tokenizer or a graph from elsewhere may hold, checked before it runs."""
